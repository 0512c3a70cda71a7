"""The configuration as frozen values: what an operator may write, and nothing else.

Shapes only: these models check single values and what belongs together inside one table. Whether names refer to
something is `references`' question, whether a legal setting is wise is `lint`'s.
"""

from __future__ import annotations

import os
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from mfalb.balancer.config.balancing_models import Algorithm, HashBy, Share
from mfalb.balancer.config.health_models import HealthCheck, PassiveCheck
from mfalb.balancer.config.http_models import Accepted, Forwarding, HttpLimits, Queue, RequestId, Retries
from mfalb.balancer.config.pin_models import SharedStore
from mfalb.balancer.config.proxy_models import ProxyProtocol
from mfalb.balancer.config.radius_models import Nas, RadiusListener, RadiusSessionAffinity, RefusalForm
from mfalb.balancer.config.radsec_models import RADSEC_SECRET, RadsecListener
from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.tcp_models import TcpListener
from mfalb.balancer.config.tls_models import HttpsTls, TlsWatch, UpstreamTls
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.config.values import (
    Address,
    CookieName,
    Count,
    Flag,
    Host,
    LocalFile,
    Name,
    NetworkValue,
    Seconds,
    Secret,
    SizeBytes,
    UrlPath,
)
from mfalb.wire.proxy_protocol import ProxyVersion

# ------------------------------------------------------------------------------------------ listeners


class Route(Table):
    """Sends requests for `host` under `path` to `pool`; both match without regard to letter case.

    Routes with a host come before those without, longer paths before shorter ones; a path matches whole segments.
    """

    host: Host | None = None
    path: UrlPath = "/"
    pool: Name


class HttpListener(Table):
    """An address where HTTP/1.1 clients arrive, with or without TLS."""

    name: Name
    protocol: Literal["http", "https"]
    bind: tuple[Address, ...] = Field(min_length=1)
    tls: HttpsTls | None = None
    routes: tuple[Route, ...] = Field(min_length=1)
    trusted_proxies: tuple[NetworkValue, ...] = ()
    proxy_protocol: ProxyProtocol | None = None
    limits: HttpLimits = HttpLimits()
    forwarding: Forwarding = Forwarding()
    request_id: RequestId | None = None
    accept: tuple[Accepted, ...] = ()


Listener = Annotated[HttpListener | TcpListener | RadiusListener | RadsecListener, Field(discriminator="protocol")]

# ---------------------------------------------------------------------------------------------- pools


class Backend(Table):
    """One address that takes work. `secret` is for RADIUS pools only.

    A `weight` of 0 is for pinned work only; a `backup` gets new work when no other backend can take any. No more than
    `connections` HTTP requests are under way to it from each worker at a time.

    `nas` is for pools of dynamic authorization, whose backends are the NASes themselves.
    """

    name: Name
    address: Address
    weight: Count = Field(default=1, ge=0, le=256)
    backup: Flag = False
    connections: Count | None = Field(default=None, ge=1)
    secret: Secret | None = None
    require_message_authenticator: Flag = False
    limit_proxy_state: Flag = False
    nas: Nas | None = None

    @property
    def nas_identifiers(self) -> tuple[str, ...]:
        """The NAS-Identifiers that mean this backend."""
        return self.nas.identifiers if self.nas is not None else ()

    @property
    def nas_addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """The NAS-IP-Addresses and NAS-IPv6-Addresses that mean this backend."""
        if self.nas is not None and self.nas.addresses is not None:
            return self.nas.addresses
        try:
            return (ip_address(self.address.host),)
        except ValueError:
            return ()


class NoAffinity(Table):
    """Every exchange is balanced by itself."""

    type: Literal["none"] = "none"


class CookieAffinity(Table):
    """A browser session stays on the server that began it; the pin is inside an encrypted cookie."""

    type: Literal["cookie"]
    name: CookieName = "mfalb"
    path: UrlPath = "/"
    idle_timeout_s: Seconds = 1800.0
    max_life_s: Seconds = 43_200.0

    @model_validator(mode="after")
    def _idle_within_life(self) -> Self:
        if self.idle_timeout_s > self.max_life_s:
            raise ValueError("idle_timeout is longer than max_life; no session can be idle for longer than it lives")
        return self


class TransactionAffinity(Table):
    """Ties the two halves of a transaction by content.

    Half one: `user_element` is read from the request, `id_element` from the response. Half two: both are read from
    the request, where the id may have another name (`request_id_element`). Elements are matched by local name (their
    namespace is not publicly known). Without a `user_element` the id alone is the key, so it must be one that no two
    servers ever give.

    The transaction has ended when the answer to half two says `true` in its `result_element`: by default the result of
    the method that answers, as .NET names it (`XResult` in `XResponse`). Anything else leaves it open: a code may have
    been mistyped.
    """

    type: Literal["transaction"]
    id_element: str = "authreqid"
    request_id_element: str | None = None
    result_element: str | None = None
    user_element: str | None = "username"
    body_limit: SizeBytes = 64 * 1024
    lifetime_s: Seconds = 300.0


class RadiusStateAffinity(Table):
    """Ties an Access-Challenge to the request that answers it, by (client, User-Name, State).

    `session_lifetime_s` is the longest that the State of an Access-Accept counts, with which a NAS re-authenticates a
    session (Termination-Action RADIUS-Request).
    """

    type: Literal["radius_state"]
    lifetime_s: Seconds = 300.0
    session_lifetime_s: Seconds = 86_400.0
    when_pinned_down: RefusalForm = RefusalForm.REJECT


Affinity = Annotated[
    NoAffinity
    | CookieAffinity
    | TransactionAffinity
    | TransactionIdAffinity
    | RadiusStateAffinity
    | RadiusSessionAffinity,
    Field(discriminator="type"),
]


class Pool(Table):
    """Backends that can stand in for one another.

    For `slow_start_s` the share of one that comes up grows. When fewer than `panic_threshold` of those that are no
    backups are up, health is ignored for new work. With `send_proxy` each connection to them begins with a PROXY
    protocol header, and serves one client only.
    """

    algorithm: Algorithm = Algorithm.ROUND_ROBIN
    hash: HashBy | None = None
    slow_start_s: Seconds | None = None
    panic_threshold: Share | None = None
    backends: tuple[Backend, ...] = Field(min_length=1)
    upstream_tls: UpstreamTls | None = None
    health_check: HealthCheck | None = None
    passive_check: PassiveCheck | None = None
    affinity: Affinity = NoAffinity()
    send_proxy: ProxyVersion | None = None
    queue: Queue = Queue()
    retries: Retries = Retries()
    connect_timeout_s: Seconds = 3.0
    response_timeout_s: Seconds = 120.0

    def radius_secret(self, backend: Backend) -> Secret | None:
        """What is shared with a backend over RADIUS; None when nothing is. Over TLS it may go unsaid."""
        return RADSEC_SECRET if backend.secret is None and self.upstream_tls is not None else backend.secret


# ------------------------------------------------------------------------------------------ the whole


class Admin(Table):
    """Where status and metrics are served (`bind`), and the socket that the command line's verbs speak to.

    Keep `bind` off the perimeter: it has no authentication. Who may write to `socket` (its owner and `socket_group`)
    may do everything there; left out, it is /run/mfalb/admin.sock where that folder exists, and none elsewhere.
    """

    bind: Address = Address("127.0.0.1", 9300)
    socket: LocalFile | None = None
    socket_group: Annotated[str, Field(min_length=1)] | None = None


class LogFormat(Enum):
    """How log lines are written."""

    TEXT = "text"
    JSON = "json"


class Log(Table):
    """What is written to standard error; the access log goes to `access_file` where there is one."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: LogFormat = LogFormat.TEXT
    access: Flag = True
    access_file: LocalFile | None = None


class Pins(Table):
    """The pin table and the cookie key ring. When the table is full the oldest pin gives way to the newest.

    `cookie_keys` are 32 bytes each; the first one encrypts, all of them decrypt, so a key is rotated by putting the
    new one on top and removing the old one when its cookies have expired. `store` is where several nodes share pins.
    """

    limit: Count = Field(default=1_000_000, ge=1)
    cookie_keys: tuple[Secret, ...] = ()
    store: SharedStore | None = None


WORKERS_LIMIT: Final = 64  # more than that wants another design than one node


def default_workers() -> int:
    """The cores that this process may use."""
    return min(len(os.sched_getaffinity(0)), WORKERS_LIMIT)


class Config(Table):
    """A whole configuration file.

    `drain_timeout_s` is how long connections of a process that was replaced (`mfalb upgrade`) may still last.
    """

    listeners: tuple[Listener, ...] = Field(min_length=1)
    pools: dict[Name, Pool] = Field(min_length=1)
    workers: Count = Field(default_factory=default_workers, ge=1, le=WORKERS_LIMIT)
    admin: Admin = Admin()
    tls: TlsWatch = TlsWatch()
    log: Log = Log()
    drain_timeout_s: Seconds = 600.0
    pins: Pins = Pins()
