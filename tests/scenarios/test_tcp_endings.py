"""TCP as it is: each direction ends by itself, breaks are breaks, memory stays flat, and every wait has an end."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.http_backend import RawBackend, RawPeer, rss_bytes
from programs.http_pool import http_pool, read_all
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import wait_until
from programs.tcp_pool import TcpFront, new_tcp_front
from unit.wire.client_hellos import hello_records, sni

MB = 1 << 20
BLOCK = bytes(range(256)) * 1024  # 256 KB


def read_to_end(peer: RawPeer) -> bytes:
    """What this connection gets until its other side has said all."""
    data = bytearray()
    while piece := peer.socket.recv(65_536):
        data += piece
    return bytes(data)


def echo(peer: RawPeer) -> None:
    while data := peer.socket.recv(65_536):
        peer.send(data)


@dataclass(frozen=True, slots=True)
class Line:
    """A listener without names before one raw backend; `front` reads no hello, `named` waits for one."""

    balancer: Balancer
    backend: RawBackend
    front: TcpFront
    named: TcpFront

    def total(self, name: str, **labels: str) -> float:
        with suppress(KeyError):  # there is no such metric before its first count
            return self.balancer.metrics().total(name, **labels)
        return 0.0

    def wait_until_nobody_is_connected(self) -> None:
        wait_until(lambda: self.total("mfalb_listener_connections") == 0, "connections to be forgotten")
        assert self.total("mfalb_backend_active") == 0


def settings(line_fronts: tuple[TcpFront, TcpFront], *addresses: str, **limits: object) -> dict[str, Any]:
    """A configuration with both listeners before one pool."""
    front, named = line_fronts
    return {
        "listeners": [
            front.listener([{"pool": "raw"}], limits=limits),
            named.listener([{"sni": "*.example", "pool": "raw"}], limits=limits) | {"name": "named"},
        ],
        "pools": {"raw": http_pool(*addresses, connect_timeout="1s")},
    }


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    fronts = new_tcp_front(), new_tcp_front()
    with RawBackend(echo) as backend:
        config = settings(fronts, backend.address)
        with Balancer(config, tmp_path_factory.mktemp("line")) as balancer:
            yield Line(balancer, backend, *fronts)


@pytest.fixture
def line(running: Line) -> Iterator[Line]:
    running.backend.script = echo
    yield running
    running.backend.forget()
    running.wait_until_nobody_is_connected()


# ----------------------------------------------------------------------------------------------- half-close


def test_a_client_that_has_said_all_still_gets_its_answer(line: Line) -> None:
    def answer_afterwards(peer: RawPeer) -> None:
        asked = read_to_end(peer)
        peer.send(b"you said " + asked)
        time.sleep(0.05)
        peer.send(b", all of it")

    line.backend.script = answer_afterwards
    with line.front.open() as client:
        client.sendall(b"one ")
        client.sendall(b"two")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"you said one two, all of it"


def test_a_server_that_has_said_all_still_hears_the_client(line: Line) -> None:
    heard: list[bytes] = []

    def speak_first(peer: RawPeer) -> None:
        peer.send(b"220 ready")
        peer.socket.shutdown(socket.SHUT_WR)
        heard.append(read_to_end(peer))

    line.backend.script = speak_first
    with line.front.open() as client:
        assert read_all(client) == b"220 ready"
        client.sendall(b"thank you")
        client.sendall(BLOCK)
    wait_until(lambda: heard == [b"thank you" + BLOCK], "the server to hear all")


def test_a_server_may_speak_before_its_client_does(line: Line) -> None:
    line.backend.script = lambda peer: peer.send(b"220 ready")
    with line.front.open() as client:
        assert client.recv(100) == b"220 ready"


# -------------------------------------------------------------------------------------------------- breaks


def test_a_reset_of_the_server_reaches_the_client_as_one(line: Line) -> None:
    def break_off(peer: RawPeer) -> None:
        peer.send(b"half of it")
        peer.socket.recv(100)
        peer.reset()

    line.backend.script = break_off
    with line.front.open() as client:
        assert client.recv(100) == b"half of it"
        client.sendall(b"go on")
        with pytest.raises(ConnectionResetError):
            client.recv(100)
    wait_until(lambda: line.total("mfalb_listener_answers_total", answer="backend_reset") == 1, "the reset's count")


def test_a_reset_of_the_client_reaches_the_server_as_one(line: Line) -> None:
    broken: list[str] = []

    def wait_for_it(peer: RawPeer) -> None:
        try:
            while peer.socket.recv(100):
                pass
            broken.append("ended")
        except ConnectionResetError:
            broken.append("reset")

    line.backend.script = wait_for_it
    client = line.front.open()
    client.sendall(b"x")
    wait_until(lambda: line.total("mfalb_backend_active") == 1, "the connection to the server")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    wait_until(lambda: broken == ["reset"], "the server to hear of the reset")
    wait_until(lambda: line.total("mfalb_listener_answers_total", answer="client_reset") == 1, "the reset's count")


def test_garbage_of_any_kind_ends_nothing_but_its_own_connection(line: Line) -> None:
    hello = hello_records(sni(b"www.example"))
    dice = random.Random(4)  # noqa: S311 - the same garbage in each run
    for turn in range(400):
        garbage = bytearray(hello)
        for _ in range(turn % 8):
            garbage[dice.randrange(len(garbage))] = dice.randrange(256)
        with line.named.open() as client, suppress(OSError):
            client.sendall(garbage[: dice.randrange(1, len(garbage) + 1)])
            if turn % 3 == 0:
                client.shutdown(socket.SHUT_WR)
                read_all(client)
    with line.named.open() as client:
        client.sendall(hello)
        assert client.recv(10_000) == hello
    assert "Traceback" not in line.balancer.log()


# ------------------------------------------------------------------------------------ volume and slow peers


@pytest.mark.parametrize("size", [1000 * MB])
def test_a_gigabyte_each_way_at_once_passes_whole_and_memory_stays_flat(line: Line, size: int) -> None:
    with line.front.open() as warm_up:
        warm_up.sendall(BLOCK)
        warm_up.shutdown(socket.SHUT_WR)
        read_all(warm_up)
    before = rss_bytes(line.balancer.worker)
    peaks: list[int] = []
    with line.front.open() as client:

        def send() -> None:
            for _ in range(size // len(BLOCK)):
                client.sendall(BLOCK)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        digest, received, looked_at = hashlib.sha256(), 0, 0
        while data := client.recv(MB):
            digest.update(data)
            received += len(data)
            if received - looked_at > 16 * MB:
                looked_at = received
                peaks.append(rss_bytes(line.balancer.worker))
        sender.join(10)
    expected = hashlib.sha256()
    for _ in range(size // len(BLOCK)):
        expected.update(BLOCK)
    assert received == size
    assert digest.digest() == expected.digest()
    assert max(peaks) - before < 16 * MB, f"{before} bytes grew to {max(peaks)}"


@pytest.mark.parametrize("is_client_slow", [True, False], ids=["client", "server"])
def test_who_does_not_read_stops_the_other_side_and_fills_no_memory(line: Line, is_client_slow: bool) -> None:
    go_on = threading.Event()
    sent: list[int] = []

    def flood(sock: socket.socket) -> None:
        sock.settimeout(0.7)  # this long nothing can be sent any more: the way is full
        total = 0
        with suppress(TimeoutError):
            while total < 200 * MB:
                total += sock.send(BLOCK)
        sent.append(total)

    def script(peer: RawPeer) -> None:
        if is_client_slow:
            flood(peer.socket)
        go_on.wait(20)
        if not is_client_slow:
            peer.socket.settimeout(10)
            received.append(len(read_to_end(peer)))

    received: list[int] = []
    line.backend.script = script
    before = rss_bytes(line.balancer.worker)
    with line.front.open(receive_buffer_bytes=65_536) as client:
        if not is_client_slow:
            flood(client)
        wait_until(lambda: bool(sent), "the way to be full")
        assert sent[0] < 40 * MB, "somebody swallowed it all"
        assert rss_bytes(line.balancer.worker) - before < 8 * MB
        go_on.set()
        client.settimeout(10)
        if not is_client_slow:
            client.shutdown(socket.SHUT_WR)
        received += [len(read_all(client))] if is_client_slow else []
        wait_until(lambda: received == sent, "all of it to arrive")


# ------------------------------------------------------------------------------------------- where it goes


def test_a_server_that_refuses_gives_way_to_another_unseen(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    gone = f"{LOOPBACK}:{free_tcp_port()}"
    with RawBackend(echo) as backend, Balancer(settings(fronts, gone, backend.address), tmp_path) as balancer:
        for number in range(6):
            with fronts[0].open() as client:
                client.sendall(b"%d" % number)
                assert client.recv(10) == b"%d" % number
        metrics = balancer.metrics()
        assert metrics.total("mfalb_backend_failures_total", backend="b1") >= 1
        assert metrics.total("mfalb_backend_requests_total", backend="b2") == 6


def test_when_every_server_refuses_the_client_is_let_go_and_told_nothing_wrong(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    gone = [f"{LOOPBACK}:{free_tcp_port()}" for _ in range(2)]
    with Balancer(settings(fronts, *gone), tmp_path) as balancer:
        with fronts[0].open() as client:
            assert client.recv(100) == b""
        wait_until(lambda: "reason=refused_everywhere" in balancer.log(), "the access log's line")


def test_a_server_found_down_gets_nothing_until_it_is_back(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    with RawBackend(echo) as one, RawBackend(echo) as two:
        config = settings(fronts, one.address, two.address)
        check = {"type": "tcp", "interval": "100ms", "timeout": "1s", "rise": 1, "fall": 1}
        config["pools"]["raw"]["health_check"] = check
        with Balancer(config, tmp_path) as balancer:
            one.__exit__(None, None, None)
            wait_until(lambda: balancer.metrics().total("mfalb_backend_up", backend="b1") == 0, "b1 to be down")
            failures = balancer.metrics().total("mfalb_backend_failures_total", backend="b1")
            for _ in range(4):
                with fronts[0].open() as client:
                    client.sendall(b"x")
                    assert client.recv(10) == b"x"
            metrics = balancer.metrics()
            assert metrics.total("mfalb_backend_requests_total", backend="b2") == 4
            assert metrics.total("mfalb_backend_failures_total", backend="b1") == failures


# ------------------------------------------------------------------------------------------------ deadlines


def test_waits_for_a_hello_and_for_bytes_have_an_end(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    with RawBackend(echo) as backend:
        config = settings(fronts, backend.address, hello_timeout="500ms", idle_timeout="1s")
        with Balancer(config, tmp_path) as balancer:
            with fronts[0].open() as idle, fronts[1].open() as silent, fronts[1].open() as slow:
                idle.sendall(b"x")
                assert idle.recv(10) == b"x"
                slow.sendall(b"\x16\x03\x01\x02\x00\x01")
                began = time.monotonic()
                assert silent.recv(10) == b""
                assert slow.recv(10) == b""
                with pytest.raises(ConnectionResetError):  # an end would look as if the server had said all
                    idle.recv(10)
                assert time.monotonic() - began < 5
            wait_until(lambda: "reason=idle_timeout" in balancer.log(), "the access log's line")
            metrics = balancer.metrics()
            assert metrics.total("mfalb_listener_drops_total", reason="hello_timeout") == 2
            assert metrics.total("mfalb_listener_answers_total", answer="idle_timeout") == 1


def test_a_connection_that_moves_outlives_the_idle_time(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    with (
        RawBackend(echo) as backend,
        Balancer(settings(fronts, backend.address, idle_timeout="1500ms"), tmp_path),
        fronts[0].open() as client,
    ):
        end = time.monotonic() + 4
        while time.monotonic() < end:
            client.sendall(b"x")
            assert client.recv(10) == b"x"
            time.sleep(0.2)


def test_more_connections_than_allowed_are_closed_and_the_others_go_on(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    with RawBackend(echo) as backend, Balancer(settings(fronts, backend.address, connections=3), tmp_path) as balancer:
        clients = [fronts[0].open() for _ in range(3)]
        for client in clients:
            client.sendall(b"in")
            assert client.recv(10) == b"in"
        with fronts[0].open() as late:
            assert read_all(late) == b""
        for client in clients:
            client.sendall(b"on")
            assert client.recv(10) == b"on"
            client.close()
        wait_until(lambda: balancer.metrics().total("mfalb_listener_connections", listener="tcp") == 0, "all to leave")
        assert balancer.metrics().total("mfalb_listener_drops_total", reason="connection_limit") == 1


def test_one_network_s_connections_past_its_share_are_closed_while_others_are_served(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    share = {"connections_per_source": 2, "source_networks": {"ipv4": 30, "ipv6": 64}}
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(echo))
        balancer = stack.enter_context(Balancer(settings(fronts, backend.address, **share), tmp_path))
        held = [stack.enter_context(fronts[0].open(source=source)) for source in ("127.0.0.4", "127.0.0.5")]
        assert [said_back(client) for client in held] == [b"in", b"in"]
        with suppress(ConnectionResetError), fronts[0].open(source="127.0.0.6") as late:
            assert read_all(late) == b""
        assert said_back(stack.enter_context(fronts[0].open(source="127.0.0.8"))) == b"in"
        held.pop().close()
        wait_until(lambda: balancer.metrics().total("mfalb_listener_connections", listener="tcp") == 2, "room")
        assert said_back(stack.enter_context(fronts[0].open(source="127.0.0.7"))) == b"in"
        assert said_back(held[0]) == b"in"
        assert balancer.metrics().total("mfalb_listener_drops_total", reason="source_connection_limit") == 1


def said_back(client: socket.socket) -> bytes:
    client.sendall(b"in")
    return client.recv(10)


def test_stopping_breaks_open_connections_says_so_and_ends_cleanly(tmp_path: Path) -> None:
    fronts = new_tcp_front(), new_tcp_front()
    with RawBackend(echo) as backend:
        balancer = Balancer(settings(fronts, backend.address), tmp_path)
        with balancer, fronts[0].open() as client, fronts[1].open() as undecided:
            client.sendall(b"x")
            assert client.recv(10) == b"x"
            undecided.sendall(b"\x16\x03")
            wait_until(lambda: balancer.metrics().total("mfalb_listener_connections") == 2, "both connections")
            balancer.assert_clean(balancer.stop())
            with pytest.raises(ConnectionResetError):
                client.recv(10)
        assert balancer.log().count("reason=stopped") == 2
