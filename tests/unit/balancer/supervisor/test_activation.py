"""Sockets of a service manager find their listeners by name or address, or the balancer says what does not fit.

The sockets here are bound to nothing, or are none: they are looked at only.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from mfalb.balancer.config.models import Config
from mfalb.balancer.config.values import Address, Origin, Secret
from mfalb.balancer.supervisor import activation
from mfalb.balancer.supervisor.activation import Given, match, take_given
from mfalb.balancer.supervisor.sockets import CannotBind

WEB = {"name": "web", "protocol": "http", "bind": ["192.0.2.1:80"], "routes": [{"pool": "web"}]}
TWICE = {**WEB, "name": "twice", "bind": ["192.0.2.1:81", "[2001:db8::1]:81"]}
RADIUS = {
    "name": "radius",
    "protocol": "radius",
    "bind": ["192.0.2.1:1812"],
    "clients": [{"name": "vpn", "network": "10.1.0.0/16", "secret": Secret(b"shared-with-clients")}],
    "pool": "mfa",
}
PID = 4711


@dataclass
class FakeSocket:
    """A bound socket as far as this code looks at one. `copies` are those made of it."""

    place: tuple[Any, ...]
    type: int = socket.SOCK_STREAM
    copies: list[FakeSocket] = field(default_factory=list)

    @property
    def family(self) -> int:
        return socket.AF_INET6 if ":" in self.place[0] else socket.AF_INET

    def getsockname(self) -> tuple[Any, ...]:
        return self.place

    def setsockopt(self, *_option: object) -> None: ...

    def getsockopt(self, *_option: object) -> int:
        return 1 << 30

    def dup(self) -> FakeSocket:
        self.copies.append(FakeSocket(self.place, self.type))
        return self.copies[-1]


def given(name: str, host: str, port: int, *, is_udp: bool = False) -> Given:
    kind = socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM
    return Given(name, cast("socket.socket", FakeSocket((host, port), kind)))


def config(*listeners: dict[str, Any], workers: int = 2) -> Config:
    backend = {"name": "a", "address": "10.0.0.1:1812", "secret": Secret(b"towards-servers")}
    words = {
        "workers": workers,
        "listeners": list(listeners),
        "pools": {name: {"backends": [backend]} for name in ("web", "mfa")},
    }
    return Config.model_validate(words, context=Origin(Path("/")), by_alias=True, by_name=True)


# ------------------------------------------------------------------------------------------ whose it is


def test_a_socket_is_a_listener_s_by_its_address_whatever_it_is_called() -> None:
    one = given("mfalb.socket", "192.0.2.1", 80)
    places = match(config(WEB, workers=1), [one])
    assert places == {(False, Address("192.0.2.1", 80)): [one.sock]}


def test_a_socket_at_another_address_is_the_listener_s_whose_name_it_has() -> None:
    one = given("web", "198.51.100.7", 8080)
    assert match(config(WEB, workers=1), [one]) == {(False, Address("192.0.2.1", 80)): [one.sock]}


def test_a_listener_s_several_addresses_are_told_apart_by_address_only() -> None:
    four, six = given("twice", "192.0.2.1", 81), given("twice", "2001:db8::1", 81)
    places = match(config(TWICE, workers=1), [six, four])
    assert places[False, Address("192.0.2.1", 81)] == [four.sock]
    assert places[False, Address("2001:db8::1", 81)] == [six.sock]


def test_over_tcp_workers_without_a_socket_of_their_own_accept_on_the_others() -> None:
    some = [given("web", "192.0.2.1", 80) for _ in range(2)]
    (sockets,) = match(config(WEB, workers=5), some).values()
    first, second = (cast("Any", one.sock).copies for one in some)
    assert sockets == [some[0].sock, some[1].sock, first[0], second[0], first[1]]


def test_over_udp_only_as_many_workers_serve_as_there_are_sockets() -> None:
    one = given("radius", "192.0.2.1", 1812, is_udp=True)
    (sockets,) = match(config(RADIUS, workers=4), [one]).values()
    assert sockets == [one.sock], "a datagram that another worker reads would be lost to its exchange"


@pytest.mark.parametrize(
    ("listeners", "some", "fault"),
    [
        ([WEB], [], "listener web has no socket for 192.0.2.1:80"),
        ([WEB], [given("x", "192.0.2.1", 81)], "the socket x (TCP 192.0.2.1:81) is no listener's"),
        ([WEB], [given("web", "192.0.2.1", 80, is_udp=True)], "the socket web (UDP 192.0.2.1:80) is no listener's"),
        ([RADIUS], [given("radius", "192.0.2.1", 1812)], "the socket radius (TCP 192.0.2.1:1812) is no listener's"),
        ([TWICE], [given("twice", "192.0.2.9", 81)], "the socket twice (TCP 192.0.2.9:81) is no listener's"),
        ([TWICE], [given("twice", "192.0.2.1", 81)], "listener twice has no socket for [2001:db8::1]:81"),
        ([WEB, TWICE], [given("web", "192.0.2.1", 81)], "listener twice has no socket for 192.0.2.1:81"),
        ([WEB], [given("web", "192.0.2.1", 80)] * 3, "listener web has 3 sockets for 192.0.2.1:80, but fewer workers"),
    ],
)
def test_what_does_not_fit_is_told(listeners: list[dict[str, Any]], some: list[Given], fault: str) -> None:
    with pytest.raises(CannotBind) as caught:
        match(config(*listeners), some)
    assert fault in str(caught.value)


def test_all_that_does_not_fit_is_told_at_once() -> None:
    with pytest.raises(CannotBind) as caught:
        match(config(WEB, RADIUS), [given("x", "192.0.2.1", 1)])
    for fault in ("the socket x", "listener web has no socket", "listener radius has no socket"):
        assert fault in str(caught.value)


# ------------------------------------------------------------------------------------------ what is given


@pytest.fixture
def pass_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Has the first descriptor that a service manager gives be this one."""
    passed = list[int]()

    def pass_on(descriptor: int) -> None:
        passed.append(descriptor)
        monkeypatch.setattr(activation, "_FIRST_DESCRIPTOR", descriptor)

    yield pass_on
    for descriptor in passed:
        with suppress(OSError):  # whoever refuses one closes it
            os.close(descriptor)


def environment(count: str = "1", pid: int = PID, **more: str) -> dict[str, str]:
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": count, "HOME": "/", **more}


@pytest.mark.parametrize(
    "words",
    [{}, environment(pid=PID + 1), environment(count=""), environment(count="-1"), environment(count="²")],
)
def test_without_sockets_for_this_process_there_are_none_and_no_child_hears_of_them(words: dict[str, str]) -> None:
    assert take_given(words, PID) == []
    assert not [name for name in words if name.startswith("LISTEN")]


def test_a_given_socket_has_its_name_waits_for_nobody_and_no_program_we_start_gets_it(
    pass_on: Callable[[int], None],
) -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pass_on(sock.fileno())
    os.set_inheritable(sock.fileno(), True)
    words = environment(LISTEN_FDNAMES="radius")
    (one,) = take_given(words, PID)
    assert words == {"HOME": "/"}
    assert (one.name, one.is_udp) == ("radius", True)
    assert one.sock.gettimeout() == 0.0
    assert not os.get_inheritable(one.sock.fileno())
    one.sock.detach()
    sock.detach()


def test_a_socket_whose_name_was_not_told_is_unknown(pass_on: Callable[[int], None]) -> None:
    descriptor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach()
    pass_on(descriptor)
    (one,) = take_given(environment(), PID)
    assert one.name == "unknown"
    one.sock.detach()


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: os.open("/dev/null", os.O_RDONLY), "is none: Socket operation on non-socket"),
        (lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(), "is neither TCP nor UDP"),
        (lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(), "does not listen: write Accept=no"),
        (
            lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).detach(),
            "takes IPv4, too: write BindIPv6Only=ipv6-only",
        ),
    ],
)
def test_what_cannot_be_used_is_told_by_name(
    make: Callable[[], int], fault: str, pass_on: Callable[[int], None]
) -> None:
    pass_on(make())
    with pytest.raises(CannotBind, match=f"the socket web of the service manager {fault}"):
        take_given(environment(LISTEN_FDNAMES="web"), PID)
