"""What settings say of connections: doors that others come to, and calls that are made."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address


class Transport(Enum):
    """What a connection (or what stands for one in a stateful firewall) is made of."""

    TCP = "tcp"
    UDP = "udp"


class Comers(Enum):
    """Who comes to a door, as far as the settings of its own service tell.

    PEOPLE: browsers and phones anywhere, through a balancer where one leads here. SERVICES: those whose settings say
    that they call. MEMBERS: the other members of its group. AS_BEHIND: those for whom the doors are that it leads to.
    ALLOWED: exactly the networks that are written down.
    """

    PEOPLE = "people"
    SERVICES = "services"
    MEMBERS = "members"
    AS_BEHIND = "as_behind"
    ALLOWED = "allowed"


@dataclass(frozen=True, slots=True)
class Spot:
    """A transport's port at a host; `host` is a name or an address, None for every address of the service's host."""

    host: str | None
    port: int
    transport: Transport = Transport.TCP


@dataclass(frozen=True, slots=True)
class Door:
    """Where a service listens. `networks` bound who may come (none: anybody); `line` is where it is written."""

    spot: Spot
    purpose: str
    line: int
    comers: Comers
    networks: tuple[str, ...] = ()
    leads_to: tuple[Spot, ...] = ()


class Caller(Enum):
    """Who makes a call: the service for itself, the service for those who came to it, or people who were sent there."""

    SERVICE = "service"
    FOR_OTHERS = "for_others"
    PEOPLE = "people"


@dataclass(frozen=True, slots=True)
class Call:
    """A connection that is opened because of a service's settings; `line` is where they say so."""

    to: Spot
    purpose: str
    line: int
    caller: Caller = Caller.SERVICE


@dataclass(frozen=True, slots=True)
class Traffic:
    """All that one service's settings say. `group` names those that open connections to one another."""

    doors: tuple[Door, ...] = ()
    calls: tuple[Call, ...] = ()
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A service in its place: the file of its settings, and the hosts or addresses that it was said to run on."""

    file: str
    traffic: Traffic
    runs_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flow:
    """A row of the matrix: `sources` (addresses, networks or names; none of them: anybody) may open connections to it.

    `purposes` are what for, `places` the lines (file:line) that it comes from.
    """

    sources: tuple[str, ...]
    destination: str
    transport: Transport
    port: int
    purposes: tuple[str, ...] = field(default=())
    places: tuple[str, ...] = field(default=())


def is_address(host: str) -> bool:
    """Whether a host is written as an IP address, and not as a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_every_address(host: str) -> bool:
    """Whether to listen there is to listen at every address of a host."""
    return is_address(host) and ip_address(host).is_unspecified


def is_loopback(host: str) -> bool:
    """Whether nobody else can come there."""
    return host.lower() == "localhost" or (is_address(host) and ip_address(host).is_loopback)
