"""Sockets that a service manager has bound: sd_listen_fds(3). With them a restart refuses nobody.

A socket is a listener's by its name (FileDescriptorName=) or else by its address. When there are any, every address of
every listener needs one, and every one has to be somebody's: half of the traffic would go unheard otherwise.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.radius_models import RadiusListener
from mfalb.balancer.config.values import Address
from mfalb.balancer.supervisor.sockets import CannotBind, Places, set_tcp_options
from mfalb.net.udp_sockets import set_options

_FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START


@dataclass(frozen=True, slots=True)
class Given:
    """A socket that was handed over, with its name."""

    name: str
    sock: socket.socket

    @property
    def is_udp(self) -> bool:
        return self.sock.type == socket.SOCK_DGRAM

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.sock.getsockname()[:2]
        return host, port

    def __str__(self) -> str:
        return f"{self.name} ({'UDP' if self.is_udp else 'TCP'} {Address(*self.place)})"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An address that a listener wants a socket on."""

    listener: str
    is_udp: bool
    address: Address
    is_only: bool  # the listener has no other

    def fits(self, one: Given) -> bool:
        """By the address, and the name if that is a listener's own."""
        return self.is_udp is one.is_udp and one.place == self._place(one.sock.family)

    def takes_by_name(self, one: Given) -> bool:
        return self.is_udp is one.is_udp and self.is_only and one.name == self.listener

    def _place(self, family: int) -> tuple[str, int] | None:
        kind = socket.SOCK_DGRAM if self.is_udp else socket.SOCK_STREAM
        try:
            found = socket.getaddrinfo(*self.address, family=family, type=kind, flags=socket.AI_PASSIVE)
        except OSError:
            return None
        return str(found[0][4][0]), self.address.port


def given_places(config: Config) -> Places | None:
    """The sockets given to this process, by the places of its listeners; None without any. Raises CannotBind."""
    given = take_given(os.environ, os.getpid())
    return match(config, given) if given else None


def take_given(environment: MutableMapping[str, str], pid: int) -> list[Given]:
    """What LISTEN_FDS tells of, and takes it out of the environment. Raises CannotBind for what cannot be used."""
    for_whom = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if for_whom != str(pid) or not (count.isascii() and count.isdigit()):
        return []
    names += [""] * (int(count) - len(names))
    return [_taken(_FIRST_DESCRIPTOR + index, names[index] or "unknown") for index in range(int(count))]


def _taken(descriptor: int, name: str) -> Given:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise CannotBind(f"the socket {name} of the service manager is none: {error.strerror}") from error
    fault = _fault_of(sock)
    if fault:
        sock.close()
        raise CannotBind(f"the socket {name} of the service manager {fault}")
    sock.setblocking(False)
    return Given(name, sock)


def _fault_of(sock: socket.socket) -> str:
    """Why nobody could serve on it; "" for one that is good."""
    is_tcp = sock.type == socket.SOCK_STREAM
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not (is_tcp or sock.type == socket.SOCK_DGRAM):
        return "is neither TCP nor UDP"
    if is_tcp and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "does not listen: write Accept=no"
    is_open_to_all = sock.family == socket.AF_INET6 and sock.getsockname()[0] == "::"
    if is_open_to_all and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        return "takes IPv4, too: write BindIPv6Only=ipv6-only"
    return ""


def match(config: Config, given: Sequence[Given]) -> Places:
    """One list of sockets for each place. Raises CannotBind with every mismatch."""
    wanted = [
        _Wanted(listener.name, isinstance(listener, RadiusListener), address, len(listener.bind) == 1)
        for listener in config.listeners
        for address in listener.bind
    ]
    listeners = {one.listener for one in wanted}
    found: dict[_Wanted, list[Given]] = {one: [] for one in wanted}
    faults = []
    for one in given:
        named = [place for place in wanted if place.listener == one.name] if one.name in listeners else wanted
        place = next((place for place in named if place.fits(one) or place.takes_by_name(one)), None)
        if place is None:
            faults.append(f"the socket {one} is no listener's")
        else:
            found[place].append(one)
    for place, some in found.items():
        if not some:
            faults.append(f"listener {place.listener} has no socket for {place.address}")
        elif len(some) > config.workers:
            faults.append(f"listener {place.listener} has {len(some)} sockets for {place.address}, but fewer workers")
    if faults:
        raise CannotBind("the service manager's sockets do not fit: " + "; ".join(faults))
    return {(place.is_udp, place.address): _for_workers(some, config.workers) for place, some in found.items()}


def _for_workers(some: Sequence[Given], workers: int) -> list[socket.socket]:
    """One for each worker; over TCP those that have none of their own accept on another's.

    A datagram that the wrong worker reads would be lost to its exchange, so over UDP only as many workers serve the
    address as there are sockets (ReusePort=yes in several units).
    """
    if some[0].is_udp:
        for one in some:
            set_options(one.sock, one.place[0])
        return [one.sock for one in some]
    for one in some:
        set_tcp_options(one.sock)
    mine = [one.sock for one in some]
    return mine + [mine[number % len(mine)].dup() for number in range(len(mine), workers)]
