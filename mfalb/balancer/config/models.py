"""The configuration as frozen values: what an operator may write, and nothing else.

Shapes only: these models check single values and what belongs together inside one table. Whether names refer to
something is `references`' question, whether a legal setting is wise is `lint`'s.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from mfalb.balancer.config.values import Address, Seconds, Secret, SizeBytes


class Table(BaseModel):
    """A YAML mapping: unknown keys fail, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True)


class Algorithm(Enum):
    """How a pool spreads exchanges that carry no pin."""

    ROUND_ROBIN = "round_robin"


# ------------------------------------------------------------------------------------------ listeners


class Certificate(Table):
    """A certificate chain and its private key, both PEM."""

    cert: Path
    key: Path


class ListenerTls(Table):
    """TLS towards clients. The first certificate is offered when no other matches the client's SNI."""

    certificates: tuple[Certificate, ...] = Field(min_length=1)


class Route(Table):
    """Sends requests for `host` under `path` to `pool`. Hosts and paths match without regard to case."""

    host: str | None = None
    path: str = "/"
    pool: str


class HttpLimits(Table):
    """What one client connection may take; each is refused or closed past its limit."""

    header_bytes: SizeBytes = 32 * 1024
    header_count: int = Field(default=100, ge=8, le=1000)
    header_timeout_s: Seconds = Field(default=10.0, alias="header_timeout")
    idle_timeout_s: Seconds = Field(default=75.0, alias="idle_timeout")
    connections: int = Field(default=20_000, ge=1)


class HttpListener(Table):
    """An address where HTTP/1.1 clients arrive, with or without TLS."""

    name: str
    protocol: Literal["http", "https"]
    bind: tuple[Address, ...] = Field(min_length=1)
    tls: ListenerTls | None = None
    routes: tuple[Route, ...] = Field(min_length=1)
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    limits: HttpLimits = HttpLimits()


class RadiusClient(Table):
    """A NAS (or a network of them) and the secret it shares with the balancer."""

    name: str
    network: IPv4Network | IPv6Network
    secret: Secret
    require_message_authenticator: bool = True


class RadiusListener(Table):
    """A UDP address where RADIUS clients arrive."""

    name: str
    protocol: Literal["radius"]
    bind: tuple[Address, ...] = Field(min_length=1)
    clients: tuple[RadiusClient, ...] = Field(min_length=1)
    pool: str
    in_flight_limit: int = Field(default=20_000, ge=1)
    answer_cache_s: Seconds = Field(default=15.0, alias="answer_cache")


Listener = Annotated[HttpListener | RadiusListener, Field(discriminator="protocol")]

# ---------------------------------------------------------------------------------------------- pools


class Backend(Table):
    """One address that takes work. `secret` is for RADIUS pools only; `weight` 0 is refused (use drain)."""

    name: str
    address: Address
    weight: int = Field(default=1, ge=1, le=256)
    secret: Secret | None = None
    require_message_authenticator: bool = False


class UpstreamTls(Table):
    """TLS towards backends. `server_name` is sent as SNI and checked; by default it is the backend's host."""

    ca: Path | None = None
    verify: bool = True
    server_name: str | None = None


class CheckTiming(Table):
    """How often a backend is probed, and how many results in a row flip its health."""

    interval_s: Seconds = Field(default=5.0, alias="interval")
    timeout_s: Seconds = Field(default=4.0, alias="timeout")
    rise: int = Field(default=2, ge=1, le=100)
    fall: int = Field(default=3, ge=1, le=100)


class HttpCheck(CheckTiming):
    """GET `path`; up when the status is one of `expect_status`."""

    type: Literal["http"]
    path: str = "/"
    host: str | None = None
    expect_status: tuple[int, ...] = (200,)


class TcpCheck(CheckTiming):
    """Up when a TCP connection opens."""

    type: Literal["tcp"]


class RadiusCheck(CheckTiming):
    """Status-Server (RFC 5997); up when any valid answer comes."""

    type: Literal["radius"]


HealthCheck = Annotated[HttpCheck | TcpCheck | RadiusCheck, Field(discriminator="type")]


class NoAffinity(Table):
    """Every exchange is balanced by itself."""

    type: Literal["none"] = "none"


class CookieAffinity(Table):
    """A browser session stays on the server that began it; the pin is inside an encrypted cookie."""

    type: Literal["cookie"]
    name: str = "mfalb"
    path: str = "/"
    idle_timeout_s: Seconds = Field(default=1800.0, alias="idle_timeout")
    max_life_s: Seconds = Field(default=43_200.0, alias="max_life")


class TransactionAffinity(Table):
    """Ties the two halves of a transaction by content.

    Half one: `user_element` is read from the request, `id_element` from the response. Half two: both are read from
    the request. Elements are matched by local name (their namespace is not publicly known).
    """

    type: Literal["transaction"]
    id_element: str = "authreqid"
    user_element: str = "username"
    body_limit: SizeBytes = 64 * 1024
    lifetime_s: Seconds = Field(default=300.0, alias="lifetime")


class RadiusStateAffinity(Table):
    """Ties an Access-Challenge to the request that answers it, by (client, User-Name, State)."""

    type: Literal["radius_state"]
    lifetime_s: Seconds = Field(default=300.0, alias="lifetime")


Affinity = Annotated[
    NoAffinity | CookieAffinity | TransactionAffinity | RadiusStateAffinity, Field(discriminator="type")
]


class Pool(Table):
    """Backends that can stand in for one another."""

    algorithm: Algorithm = Algorithm.ROUND_ROBIN
    backends: tuple[Backend, ...] = Field(min_length=1)
    upstream_tls: UpstreamTls | None = None
    health_check: HealthCheck | None = None
    affinity: Affinity = NoAffinity()
    connect_timeout_s: Seconds = Field(default=3.0, alias="connect_timeout")
    response_timeout_s: Seconds = Field(default=120.0, alias="response_timeout")


# ------------------------------------------------------------------------------------------ the whole


class Admin(Table):
    """Where status and metrics are served. Keep it off the perimeter: it has no authentication."""

    bind: Address = Address("127.0.0.1", 9300)


class LogFormat(Enum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


class Log(Table):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: LogFormat = LogFormat.TEXT
    access: bool = True


class Pins(Table):
    """The pin table and the cookie key ring. When the table is full the oldest pin gives way to the newest.

    `cookie_keys` are 32 bytes each; the first one encrypts, all of them decrypt, so a key is rotated by putting the
    new one on top and removing the old one when its cookies have expired.
    """

    limit: int = Field(default=1_000_000, ge=1)
    cookie_keys: tuple[Secret, ...] = ()


class Config(Table):
    """A whole configuration file."""

    listeners: tuple[Listener, ...] = Field(min_length=1)
    pools: dict[str, Pool]
    admin: Admin = Admin()
    log: Log = Log()
    pins: Pins = Pins()
