"""Batched and plain datagram sockets do the same: what one promises, the other keeps."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from select import POLLERR, POLLIN, poll
from time import monotonic

import pytest

from mfalb.net.batched_datagrams import BatchedDatagramSocket
from mfalb.net.datagram_poller import DatagramPoller
from mfalb.net.datagrams import BATCH, SLOT_BYTES, Datagram, DatagramSocket, PlainDatagramSocket, refused_datagrams
from mfalb.net.sockaddr import address_of, sockaddr_of
from mfalb.net.udp_sockets import bound_socket, connected_socket

DEADLINE_S = 10.0
COUNT = 200  # more than three batches of 64
HOSTS = ["127.0.0.1", "::1"]
KINDS = [BatchedDatagramSocket, PlainDatagramSocket]

Wrap = Callable[..., DatagramSocket]

pytestmark = [pytest.mark.parametrize("wrap", KINDS), pytest.mark.parametrize("host", HOSTS)]


@pytest.fixture
def sockets() -> Iterator[ExitStack]:
    """Closes what is entered into it."""
    with ExitStack() as stack:
        yield stack


def bound(sockets: ExitStack, host: str, wrap: Wrap) -> DatagramSocket:
    return wrap(sockets.enter_context(closing(bound_socket(host, 0))), is_connected=False)


def connected_to(sockets: ExitStack, peer: DatagramSocket, wrap: Wrap) -> DatagramSocket:
    host, port = peer.socket.getsockname()[:2]
    return wrap(sockets.enter_context(closing(connected_socket(host, port))), is_connected=True)


def nobody(host: str) -> tuple[str, int]:
    """An address on this host where nobody listens."""
    with closing(bound_socket(host, 0)) as sock:
        found, port = sock.getsockname()[:2]
    return str(found), int(port)


def wait_for(sock: socket.socket, events: int) -> None:
    poller = poll()
    poller.register(sock, events)
    assert poller.poll(DEADLINE_S * 1000), "nothing came in time"


def received(sock: DatagramSocket, count: int) -> list[Datagram]:
    """So many datagrams, waited for."""
    found: list[Datagram] = []
    deadline = monotonic() + DEADLINE_S
    while len(found) < count and monotonic() < deadline:
        wait_for(sock.socket, POLLIN)
        batch = sock.receive()
        assert len(batch) <= BATCH
        found += batch
    return found


def payloads() -> list[bytes]:
    """One of each length there is reason to try: empty, small, the largest of RADIUS, a full slot."""
    return [b"%d:" % number + bytes(number % 50) for number in range(COUNT - 3)] + [b"", b"r" * 4096, b"s" * SLOT_BYTES]


def test_200_datagrams_reach_a_bound_socket_and_their_answers_come_back(
    host: str, wrap: Wrap, sockets: ExitStack
) -> None:
    server = bound(sockets, host, wrap)
    client = connected_to(sockets, server, wrap)
    sent = payloads()
    assert client.send([(data, b"") for data in sent]) == COUNT
    arrived = received(server, COUNT)
    assert sorted(data for data, _ in arrived) == sorted(sent)  # order is kept within one length only
    assert {address_of(peer) for _, peer in arrived} == {client.socket.getsockname()}
    assert server.send([(data[::-1], peer) for data, peer in arrived]) == COUNT
    answers = received(client, COUNT)
    assert sorted(answers) == sorted((data[::-1], b"") for data in sent)
    assert server.receive() == client.receive() == []


def test_a_batch_goes_to_several_peers_and_each_gets_its_own(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    server = bound(sockets, host, wrap)
    peers = [bound(sockets, host, wrap) for _ in range(3)]
    names = [sockaddr_of(peer.socket.getsockname()) for peer in peers]
    assert server.send([(b"%d" % number, names[number % 3]) for number in range(90)]) == 90
    for index, peer in enumerate(peers):
        assert [int(data) for data, _ in received(peer, 30)] == list(range(index, 90, 3))


def test_a_datagram_that_cannot_go_does_not_hold_back_those_behind_it(
    host: str, wrap: Wrap, sockets: ExitStack
) -> None:
    server, peer = bound(sockets, host, wrap), bound(sockets, host, wrap)
    name = sockaddr_of(peer.socket.getsockname())
    family_only = name[:2] + bytes(2) + name[4:]  # port 0, as a forged source may have
    batch = [(b"%d" % number, family_only if number % 3 == 0 else name) for number in range(9)]
    assert server.send(batch) == 6
    assert sorted(server.unsent()) == [b"0", b"3", b"6"]
    assert [data for data, _ in received(peer, 6)] == [b"1", b"2", b"4", b"5", b"7", b"8"]
    assert server.send(batch[1:2]) == 1
    assert server.unsent() == []


def test_a_received_datagram_that_is_too_long_shows_that_it_was(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    server = bound(sockets, host, wrap)
    client = connected_to(sockets, server, wrap)
    client.socket.send(b"x" * (SLOT_BYTES + 1000))
    client.socket.send(b"y")
    assert [data for data, _ in received(server, 2)] == [b"x" * SLOT_BYTES, b"y"]
    assert SLOT_BYTES > 4096


def test_a_datagram_larger_than_a_slot_is_not_sent(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    server = bound(sockets, host, wrap)
    client = connected_to(sockets, server, wrap)
    for batch in ([b"x" * (SLOT_BYTES + 1)], [b"a"] * (BATCH - 1) + [b"x" * (SLOT_BYTES + 1)]):
        with pytest.raises(ValueError, match=str(SLOT_BYTES)):
            client.send([(data, b"") for data in batch])


def test_datagrams_that_nobody_takes_are_reported_with_what_they_were(
    host: str, wrap: Wrap, sockets: ExitStack
) -> None:
    sock = sockets.enter_context(closing(connected_socket(*nobody(host))))
    client = wrap(sock, is_connected=True)
    sent = [b"%d" % number for number in range(3)] + [b"of one length: %06d" % number for number in range(100)]
    assert client.send([(data, b"") for data in sent]) == len(sent)
    refused: list[bytes] = []
    deadline = monotonic() + DEADLINE_S
    while len(refused) < len(sent) and monotonic() < deadline:
        wait_for(sock, POLLERR)
        refused += client.refused()
    assert refused == sent
    assert client.refused() == []


def test_runs_of_one_length_arrive_one_by_one_and_in_order(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    server = bound(sockets, host, wrap)
    client = connected_to(sockets, server, wrap)
    for size in (20, 130, 1200, 1201):  # what may go as one message, and the first that may not
        sent = [(b"%04d" % number).ljust(size, b".") for number in range(COUNT)]
        assert client.send([(data, b"") for data in sent]) == COUNT
        assert [data for data, _ in received(server, COUNT)] == sent


def test_a_refusal_is_an_error_of_the_next_read_and_then_gone(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    sock = sockets.enter_context(closing(connected_socket(*nobody(host))))
    client = wrap(sock, is_connected=True)
    client.send([(b"x", b"")])
    wait_for(sock, POLLERR)
    with pytest.raises(ConnectionRefusedError):
        client.receive()
    refused_datagrams(sock)
    assert client.receive() == []


def test_a_pending_refusal_does_not_keep_the_next_datagram_from_going(
    host: str, wrap: Wrap, sockets: ExitStack
) -> None:
    address = nobody(host)
    sock = sockets.enter_context(closing(connected_socket(*address)))
    client = wrap(sock, is_connected=True)
    client.send([(b"too early", b"")])
    wait_for(sock, POLLERR)
    server = wrap(sockets.enter_context(closing(bound_socket(*address))), is_connected=False)
    assert client.send([(b"%d" % number, b"") for number in range(COUNT)]) == COUNT
    assert [data for data, _ in received(server, COUNT)] == [b"%d" % number for number in range(COUNT)]


def test_a_connected_socket_hears_its_peer_only(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    server, stranger = bound(sockets, host, wrap), bound(sockets, host, wrap)
    client = connected_to(sockets, server, wrap)
    name = sockaddr_of(client.socket.getsockname())
    stranger.send([(b"forged", name)])
    server.send([(b"true", name)])
    assert received(client, 1) == [(b"true", b"")]
    assert client.receive() == []


async def test_a_poller_reads_every_ready_socket_and_then_ends_the_round(
    host: str, wrap: Wrap, sockets: ExitStack
) -> None:
    events: list[str] = []
    done = asyncio.Event()
    poller = DatagramPoller(asyncio.get_running_loop(), lambda: events.append("end"))
    sockets.callback(poller.close)
    one, two = bound(sockets, host, wrap), bound(sockets, host, wrap)
    names = [sockaddr_of(sock.socket.getsockname()) for sock in (one, two)]
    seen: set[bytes] = set()

    def read(sock: DatagramSocket) -> None:
        datagrams = sock.receive()
        events.append("read")
        seen.update(data for data, _ in datagrams)
        if len(seen) == 2 * BATCH:
            done.set()

    poller.watch(one.socket, lambda: read(one))
    poller.watch(two.socket, lambda: read(two))
    sender = bound(sockets, host, wrap)
    sender.send([(b"%d" % number, names[number % 2]) for number in range(2 * BATCH)])
    await asyncio.wait_for(done.wait(), DEADLINE_S)
    await asyncio.sleep(0)
    assert events[-1] == "end"
    assert events[0] == "read"
    assert events.count("end") <= events.count("read")


async def test_a_poller_tells_of_refusals_and_goes_on_with_other_sockets(
    host: str, wrap: Wrap, sockets: ExitStack
) -> None:
    poller = DatagramPoller(asyncio.get_running_loop(), lambda: None)
    sockets.callback(poller.close)
    broken = sockets.enter_context(closing(connected_socket(*nobody(host))))
    client, server = wrap(broken, is_connected=True), bound(sockets, host, wrap)
    has_failed, has_heard = asyncio.Event(), asyncio.Event()

    def read_broken() -> None:
        try:
            client.receive()
        except ConnectionRefusedError:
            assert refused_datagrams(broken) == [b"lost"]
            has_failed.set()

    def read_server() -> None:
        if server.receive():
            has_heard.set()

    poller.watch(broken, read_broken)
    poller.watch(server.socket, read_server)
    for _ in range(2):
        has_failed.clear()
        has_heard.clear()
        client.send([(b"lost", b"")])
        server.send([(b"heard", sockaddr_of(server.socket.getsockname()))])
        await asyncio.wait_for(asyncio.gather(has_failed.wait(), has_heard.wait()), DEADLINE_S)


async def test_d7_in_a_round_answers_are_read_before_requests(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    has_ended = asyncio.Event()
    poller = DatagramPoller(asyncio.get_running_loop(), has_ended.set)
    sockets.callback(poller.close)
    calls: list[str] = []
    listeners, upstreams = ([bound(sockets, host, wrap) for _ in range(5)] for _ in range(2))

    def reader(sock: DatagramSocket, name: str) -> Callable[[], None]:
        return lambda: calls.extend(name for _ in sock.receive())

    for listener, upstream in zip(listeners, upstreams, strict=True):
        poller.watch(listener.socket, reader(listener, "request"))
        poller.watch(upstream.socket, reader(upstream, "answer"), first=True)
    for sock in listeners + upstreams:  # the requests come first
        sock.send([(b"x", sockaddr_of(sock.socket.getsockname()))])
    await asyncio.wait_for(has_ended.wait(), DEADLINE_S)
    assert calls == ["answer"] * 5 + ["request"] * 5


async def test_a_forgotten_socket_is_read_no_more(host: str, wrap: Wrap, sockets: ExitStack) -> None:
    poller = DatagramPoller(asyncio.get_running_loop(), lambda: None)
    sockets.callback(poller.close)
    kept, forgotten = bound(sockets, host, wrap), bound(sockets, host, wrap)
    has_read = asyncio.Event()
    calls: list[str] = []

    def read_kept() -> None:
        kept.receive()
        has_read.set()

    poller.watch(forgotten.socket, lambda: calls.append("forgotten"))
    poller.watch(kept.socket, read_kept)
    poller.forget(forgotten.socket)
    for sock in (forgotten, kept):
        kept.send([(b"x", sockaddr_of(sock.socket.getsockname()))])
    await asyncio.wait_for(has_read.wait(), DEADLINE_S)
    assert calls == []
