"""Promise: a datagram that the kernel dropped because nobody read it in time is counted, and small buffers are told."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import pytest
from programs.balancer import Balancer
from programs.ports import LOOPBACK
from programs.process import Launch, find_program, wait_until
from programs.pyrad_client import PyradClient
from programs.radius_pool import RadiusPool, radius_pool
from programs.radius_server import RadiusServer

from mfalb.net import udp_sockets
from mfalb.net.batched_datagrams import BatchedDatagramSocket
from mfalb.net.datagrams import DatagramSocket, PlainDatagramSocket
from mfalb.net.udp_sockets import BUFFER_BYTES, bound_socket, connected_socket, receive_buffer_bytes
from mfalb.wire import radius
from mfalb.wire.radius import Packet

SENT: Final = 500  # a thousand bytes each: many times what the smallest receive buffer holds
FLOOD: Final = 40_000  # more datagrams than BUFFER_BYTES has room for, at 768 bytes of the kernel's memory each

Wrap = Callable[..., DatagramSocket]


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    """Closes what is entered into it."""
    with ExitStack() as stack:
        yield stack


def all_of(sock: DatagramSocket) -> int:
    """How many datagrams can be read."""
    count = 0
    while batch := sock.receive():
        count += len(batch)
    return count


# --------------------------------------------------------------------------------------------- one socket


@pytest.mark.parametrize("wrap", [BatchedDatagramSocket, PlainDatagramSocket])
@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
@pytest.mark.parametrize("is_connected", [False, True], ids=["bound", "connected"])
def test_what_a_full_socket_lost_is_what_was_sent_and_not_received(
    host: str, wrap: Wrap, opened: ExitStack, *, is_connected: bool
) -> None:
    server = opened.enter_context(closing(bound_socket(host, 0)))
    client = opened.enter_context(closing(connected_socket(host, server.getsockname()[1])))
    server.connect(client.getsockname())
    full, sender = (client, server) if is_connected else (server, client)
    full.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    flooded = wrap(full, is_connected=is_connected)
    assert flooded.dropped_by_kernel() == 0
    for _ in range(SENT):
        sender.send(bytes(1000))
    received = all_of(flooded)
    assert 0 < received < SENT
    assert flooded.dropped_by_kernel() == SENT - received
    sender.send(b"there is room again")
    assert all_of(flooded) == 1
    assert flooded.dropped_by_kernel() == SENT - received


@pytest.mark.parametrize("host", [LOOPBACK, "::1"])
def test_a_kernel_that_does_not_tell_by_socket_tells_by_its_table(
    host: str, opened: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = opened.enter_context(closing(bound_socket(host, 0)))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client = opened.enter_context(closing(connected_socket(host, server.getsockname()[1])))
    for _ in range(SENT):
        client.send(bytes(1000))
    told = udp_sockets.dropped_by_kernel(server)
    assert told > 0
    monkeypatch.setattr(udp_sockets, "_SO_MEMINFO", 9_999)  # an option that no kernel knows
    assert udp_sockets.dropped_by_kernel(server) == told
    assert udp_sockets.dropped_by_kernel(client) == 0


# --------------------------------------------------------------------------------------------- a balancer


@pytest.fixture
def server() -> Iterator[RadiusServer]:
    with RadiusServer("b1", "towards-the-server-1") as running:
        yield running


@pytest.fixture
def pool(server: RadiusServer, tmp_path: Path) -> RadiusPool:
    return radius_pool((server,), tmp_path)


@pytest.fixture
def balancer(pool: RadiusPool, tmp_path: Path) -> Iterator[Balancer]:
    with Balancer(pool.config, tmp_path / "mfalb", secrets=pool.secrets) as running:
        yield running


def test_requests_that_a_listener_had_no_time_for_are_counted(balancer: Balancer, pool: RadiusPool) -> None:
    assert balancer.metrics().total("mfalb_listener_kernel_drops_total", listener="radius") == 0
    stop(balancer)
    with closing(connected_socket(LOOPBACK, pool.port)) as sock:
        client = BatchedDatagramSocket(sock, is_connected=True)
        assert client.send([(b"no packet, and nobody reads it yet", b"")] * FLOOD) == FLOOD
    os.kill(balancer.worker, signal.SIGCONT)

    def is_all_accounted_for() -> bool:
        metrics = balancer.metrics()
        received = metrics.total("mfalb_listener_requests_total", listener="radius")
        dropped = metrics.total("mfalb_listener_kernel_drops_total", listener="radius")
        return received > 0 and dropped > 0 and received + dropped == FLOOD

    wait_until(is_all_accounted_for, "every datagram to be counted as received or as dropped")


def test_answers_that_a_pool_had_no_time_for_are_counted_by_backend(
    balancer: Balancer, pool: RadiusPool, server: RadiusServer
) -> None:
    assert balancer.metrics().total("mfalb_backend_kernel_drops_total", pool="mfa", backend="b1") == 0

    def flood(request: Packet) -> list[bytes]:
        stop(balancer)
        stray = bytes((radius.ACCESS_ACCEPT, (request.identifier + 1) % 256)) + bytes(32)
        return [server.signed(request, radius.ACCESS_ACCEPT)] + [stray] * FLOOD

    server.answers = flood
    with PyradClient(pool.port, pool.client_secret, timeout_s=0.2) as client:
        client.sign_in((radius.USER_NAME, b"alice"))  # it may not hear the answer: the balancer stands still

    def is_all_accounted_for() -> bool:
        metrics = balancer.metrics()
        received = metrics.total("mfalb_listener_drops_total", reason="late_answer")
        dropped = metrics.total("mfalb_backend_kernel_drops_total", pool="mfa", backend="b1")
        return received > 0 and dropped > 0 and received + dropped == FLOOD

    wait_until(lambda: bool(server.requests), "the request to reach the server")
    server.close()  # returns when all was sent
    os.kill(balancer.worker, signal.SIGCONT)
    wait_until(is_all_accounted_for, "every answer to be counted as received or as dropped")


def stop(balancer: Balancer) -> None:
    """Its worker stands still when this returns: SIGSTOP alone is only on its way."""
    os.kill(balancer.worker, signal.SIGSTOP)
    state = Path(f"/proc/{balancer.worker}/stat")
    wait_until(lambda: state.read_text("ascii").rpartition(")")[2].split()[0] == "T", "the worker to stand still")


# ----------------------------------------------------------------------------------------- small buffers


WARNING: Final = "small receive buffers"


def test_buffers_smaller_than_wanted_are_told_once_with_the_setting_to_raise(pool: RadiusPool, tmp_path: Path) -> None:
    limit_bytes = int(Path("/proc/sys/net/core/rmem_max").read_text("ascii"))
    pool.config["listeners"][0]["bind"].append(f"127.0.0.2:{pool.port}")
    with Balancer(pool.config, tmp_path / "mfalb", launch=Launch(wrapper=without_net_admin())) as balancer:
        warnings = [line for line in balancer.log().splitlines() if WARNING in line]
    facts = f"got_bytes={limit_bytes} wanted_bytes={BUFFER_BYTES} raise=net.core.rmem_max"
    assert [line.rpartition("may be lost ")[2] for line in warnings] == [facts] * (limit_bytes < BUFFER_BYTES)


def without_net_admin() -> tuple[str, ...]:
    """What runs a program that may not have larger buffers than the kernel's settings grant."""
    return (find_program("setpriv"), "--bounding-set=-net_admin") if os.geteuid() == 0 else ()


def test_a_balancer_that_may_has_the_buffers_it_wants_and_warns_of_nothing(balancer: Balancer) -> None:
    with closing(bound_socket(LOOPBACK, 0)) as sock:
        may_have_bytes = receive_buffer_bytes(sock)
    assert (WARNING in balancer.log()) == (may_have_bytes < BUFFER_BYTES)
    if os.geteuid() == 0:
        assert may_have_bytes == BUFFER_BYTES
