"""Limits of HTTP listeners and pools: what is too much is refused with a clear answer, and everybody else is served."""

from __future__ import annotations

import base64
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from programs.balancer import Balancer, write_secret
from programs.certificates import CertificateFiles
from programs.http_backend import OK, RawBackend, RawPeer, answering
from programs.http_pool import Front, Responses, http_pool, new_front, read_all
from programs.ports import LOOPBACK
from programs.process import ProgramFailed, wait_until

BODY_BYTES: Final = 100_000


@dataclass(frozen=True)
class Limited:
    """A balancer with small limits before two raw backends (`/`), each with one connection and a line of two.

    `/free` has the first backend without that limit, `/pinned` both, with cookies.
    """

    balancer: Balancer
    front: Front
    crowded: Front
    crowded_tls: Front
    backends: tuple[RawBackend, RawBackend]

    def drops(self, reason: str) -> float:
        return self._counted("mfalb_listener_drops_total", reason=reason)

    def answers(self, answer: str) -> float:
        return self._counted("mfalb_listener_answers_total", answer=answer)

    def _counted(self, name: str, **labels: str) -> float:
        try:
            return self.balancer.metrics().total(name, **labels)
        except KeyError:
            return 0

    def waiting(self, pool: str) -> float:
        return self.balancer.metrics().total("mfalb_pool_waiting", pool=pool)


def _queued(*addresses: str, **more: object) -> dict[str, Any]:
    pool = http_pool(*addresses, queue={"limit": 2, "timeout": "20s"}, **more)
    for backend in pool["backends"]:
        backend["connections"] = 1
    return pool


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[Limited]:
    run_dir = tmp_path_factory.mktemp("limits")
    front, crowded, crowded_tls = new_front(), new_front(), new_front(certificate)
    with ExitStack() as stack:
        first, second = (stack.enter_context(RawBackend(answering(OK))) for _ in range(2))
        both = (first.address, second.address)
        affinity = {"type": "cookie", "name": "LB"}
        pools = {
            "web": _queued(*both),
            "free": http_pool(first.address),
            "pinned": _queued(*both, affinity=affinity),
        }
        routes = [
            {"path": "/free", "pool": "free"},
            {"path": "/pinned", "pool": "pinned"},
            {"path": "/", "pool": "web"},
        ]
        few = {"connections": 3, "connections_per_source": 2, "source_networks": {"ipv4": 30, "ipv6": 64}}
        config = {
            "listeners": [
                front.listener("web", routes, limits={"body_bytes": f"{BODY_BYTES}B", "body_bytes_per_second": 1000}),
                crowded.listener("crowded", routes, limits=few),
                crowded_tls.listener("crowded_tls", routes, limits=few | {"connections_per_source": 1}),
            ],
            "pools": pools,
            "pins": {
                "cookie_keys_file": write_secret(run_dir, "cookie.key", base64.b64encode(os.urandom(32)).decode())
            },
        }
        balancer = stack.enter_context(Balancer(config, run_dir / "mfalb"))
        yield Limited(balancer, front, crowded, crowded_tls, (first, second))


@pytest.fixture(autouse=True)
def _as_before(limited: Limited) -> Iterator[None]:
    yield
    for backend in limited.backends:
        backend.forget()
        backend.script = answering(OK)
    assert limited.front.get("/free") == (200, b"ok")
    assert "Traceback" not in limited.balancer.log(), limited.balancer.tail()


class Gate:
    """A script that answers each request when it is let through; `arrived` are request lines in their order."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self._passes = threading.Semaphore(0)

    def __call__(self, peer: RawPeer) -> None:
        while head := peer.read_head():
            self.arrived.append(head.split(b" ")[1].decode())
            self._passes.acquire(timeout=20)
            peer.send(OK)

    def let_one_through(self) -> None:
        self._passes.release()


def _reads_all(peer: RawPeer) -> None:
    peer.read_head()
    peer.read_body(BODY_BYTES)


def ask(front: Front, path: str, *fields: str) -> socket.socket:
    client = front.open()
    client.sendall("\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *fields, "", ""]).encode())
    return client


def answer(client: socket.socket) -> bytes:
    """The first bytes of what comes."""
    return client.recv(12)


# --------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_past_the_limit_is_answered_413_and_the_server_never_sees_its_end(
    limited: Limited, framing: str
) -> None:
    before = limited.answers("body_bytes")
    with limited.front.open() as client:
        head = b"POST /free HTTP/1.1\r\nHost: x\r\n"
        if framing == "length":
            client.sendall(head + b"Content-Length: %d\r\n\r\n" % (BODY_BYTES + 1))
        else:
            chunk = b"%x\r\n%b\r\n" % (BODY_BYTES // 2, bytes(BODY_BYTES // 2))
            client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 2 + b"1\r\nx\r\n0\r\n\r\n")
        said = read_all(client)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in said
    assert limited.answers("body_bytes") == before + 1
    assert b"0\r\n\r\n" not in limited.backends[0].received


def test_a_body_of_exactly_the_limit_passes(limited: Limited) -> None:
    def script(peer: RawPeer) -> None:
        peer.read_head()
        assert len(peer.read_body(BODY_BYTES)) == BODY_BYTES
        peer.send(OK)

    limited.backends[0].script = script
    head = b"POST /free HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % BODY_BYTES
    assert limited.front.say(head + bytes(BODY_BYTES)).startswith(b"HTTP/1.1 200 ")


def test_a_body_that_drips_is_given_up_though_it_never_stands_still(limited: Limited) -> None:
    limited.backends[0].forget()
    limited.backends[0].script = _reads_all
    with limited.front.open() as client:
        client.settimeout(0.25)
        client.sendall(b"POST /free HTTP/1.1\r\nHost: x\r\nContent-Length: 90000\r\n\r\n")
        said, drops = b"", 0
        while not said and drops < 100:
            drops += 1
            client.sendall(b"x")
            try:
                said = client.recv(1000)
            except TimeoutError:
                continue
    assert said.startswith(b"HTTP/1.1 408 "), f"after {drops} drops"
    assert drops > 30, "it has ten seconds of grace"


# --------------------------------------------------------------------------------------- connections


def test_connections_past_the_limit_are_told_to_come_again_and_served_when_there_is_room(limited: Limited) -> None:
    before = limited.drops("connection_limit")
    sources = ("127.0.0.1", "127.0.0.5", "127.0.0.9")
    held = [from_source(limited.crowded, source) for source in sources]
    try:
        wait_until(lambda: connections(limited, "crowded") == 3, "three connections")
        with from_source(limited.crowded, "127.0.0.13") as refused:
            said = read_all(refused)
        assert re.match(rb"HTTP/1\.1 503 [^\0]*\r\nRetry-After: \d+\r\n[^\0]*Connection: close\r\n", said), said
        assert limited.drops("connection_limit") == before + 1
        held.pop().close()
        wait_until(lambda: connections(limited, "crowded") == 2, "room")
        with from_source(limited.crowded, "127.0.0.13") as served:
            served.sendall(b"GET /free HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(served).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in held:
            client.close()
    wait_until(lambda: connections(limited, "crowded") == 0, "nothing left over")


def test_one_network_has_its_own_limit_and_others_are_served(limited: Limited) -> None:
    before = limited.drops("source_connection_limit")
    held = [from_source(limited.crowded, source) for source in ("127.0.0.1", "127.0.0.2")]  # of one /30
    try:
        wait_until(lambda: connections(limited, "crowded") == 2, "two connections")
        with from_source(limited.crowded, "127.0.0.3") as refused:
            assert read_all(refused).startswith(b"HTTP/1.1 503 ")
        assert limited.drops("source_connection_limit") == before + 1
        with from_source(limited.crowded, "127.0.0.4") as served:
            served.sendall(b"GET /free HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert read_all(served).startswith(b"HTTP/1.1 200 ")
    finally:
        for client in held:
            client.close()
    wait_until(lambda: connections(limited, "crowded") == 0, "nothing left over")


def test_under_tls_too_whoever_is_turned_away_is_told(limited: Limited) -> None:
    with limited.crowded_tls.open() as held:
        held.sendall(b"GET /free HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer(held) == b"HTTP/1.1 200"
        with limited.crowded_tls.open(is_strict=True) as refused:
            assert read_all(refused).startswith(b"HTTP/1.1 503 ")


def test_handshakes_that_do_not_go_on_are_as_few_as_connections_may_be(limited: Limited) -> None:
    before = limited.drops("source_connection_limit")
    with from_source(limited.crowded_tls, "127.0.0.1"):  # never says anything
        with from_source(limited.crowded_tls, "127.0.0.2") as refused:  # of the same /30
            assert read_all(refused) == b""
        assert limited.drops("source_connection_limit") == before + 1
        with from_source(limited.crowded_tls, "127.0.0.5") as other:
            other.settimeout(0.3)
            with pytest.raises(TimeoutError):
                other.recv(1)


def test_a_flood_past_the_limit_costs_no_memory_that_stays(limited: Limited) -> None:
    held = [from_source(limited.crowded, "127.0.0.1") for _ in range(2)]
    wait_until(lambda: connections(limited, "crowded") == 2, "two connections")
    before, flood = limited.drops("source_connection_limit"), 700
    turned_away = [from_source(limited.crowded, "127.0.0.1") for _ in range(flood)]
    wait_until(lambda: limited.drops("source_connection_limit") == before + flood, "all to be counted")
    told = sum(bool(read_all(client)) for client in turned_away)
    assert told >= 500, "as many are told as there is room for"
    for client in (*held, *turned_away):
        client.close()
    wait_until(lambda: connections(limited, "crowded") == 0, "nothing left over")


def connections(limited: Limited, listener: str) -> float:
    return limited.balancer.metrics().total("mfalb_listener_connections", listener=listener)


def from_source(front: Front, source: str) -> socket.socket:
    return socket.create_connection((LOOPBACK, front.port), timeout=10, source_address=(source, 0))


# ---------------------------------------------------------------------------------------------- lines


def test_a_full_server_s_requests_wait_in_line_and_are_served_in_order(limited: Limited) -> None:
    gates = Gate(), Gate()
    for backend, gate in zip(limited.backends, gates, strict=True):
        backend.script = gate
    with ExitStack() as stack:
        served = [stack.enter_context(ask(limited.front, f"/served/{n}")) for n in range(2)]
        wait_until(lambda: len(gates[0].arrived) == len(gates[1].arrived) == 1, "one at each server")
        waiting = []
        for number in range(2):
            waiting.append(stack.enter_context(ask(limited.front, f"/waiting/{number}")))
            wait_until(lambda number=number: limited.waiting("web") == number + 1, "it to stand in line")  # type: ignore[misc]
        said = limited.front.say(b"GET /full HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert re.match(rb"HTTP/1\.1 503 [^\0]*\r\nRetry-After: \d+\r\n", said), said
        gates[0].let_one_through()
        wait_until(lambda: gates[0].arrived[1:] == ["/waiting/0"], "the first in line to have its turn")
        gates[0].let_one_through()
        wait_until(lambda: gates[0].arrived[2:] == ["/waiting/1"], "the second to have its turn")
        gates[0].let_one_through()
        gates[1].let_one_through()
        assert [answer(client) for client in (*served, *waiting)] == [b"HTTP/1.1 200"] * 4
    assert (len(gates[1].arrived), limited.waiting("web")) == (1, 0)


def test_a_client_that_goes_away_leaves_the_line(limited: Limited) -> None:
    gates = Gate(), Gate()
    for backend, gate in zip(limited.backends, gates, strict=True):
        backend.script = gate
    with ExitStack() as stack:
        served = [stack.enter_context(ask(limited.front, f"/served/{n}")) for n in range(2)]
        wait_until(lambda: len(gates[0].arrived) == len(gates[1].arrived) == 1, "one at each server")
        leaving = ask(limited.front, "/leaving")
        wait_until(lambda: limited.waiting("web") == 1, "it to stand in line")
        leaving.close()
        wait_until(lambda: limited.waiting("web") == 0, "it to leave")
        staying = stack.enter_context(ask(limited.front, "/staying"))
        wait_until(lambda: limited.waiting("web") == 1, "another to stand in line")
        for gate in gates:
            gate.let_one_through()
            gate.let_one_through()
        assert [answer(client) for client in (*served, staying)] == [b"HTTP/1.1 200"] * 3
    assert "/leaving" not in gates[0].arrived + gates[1].arrived


def test_pinned_requests_wait_for_their_own_server_though_the_other_one_is_free(limited: Limited) -> None:
    gates = Gate(), Gate()
    for backend, gate in zip(limited.backends, gates, strict=True):
        backend.script = gate
        gate.let_one_through()  # the first request of the session
    with limited.front.open() as client:
        client.sendall(b"GET /pinned/in HTTP/1.1\r\nHost: x\r\n\r\n")
        cookie = Responses(client).next().headers["set-cookie"].partition(";")[0]
    own, other = gates if gates[0].arrived else reversed(gates)
    with ExitStack() as stack:
        session = [stack.enter_context(ask(limited.front, f"/pinned/{n}", f"Cookie: {cookie}")) for n in range(2)]
        wait_until(lambda: limited.waiting("pinned") == 1, "one in line")
        stranger = stack.enter_context(ask(limited.front, "/pinned/stranger"))
        assert answer(stranger) == b"HTTP/1.1 200", "the other server had a pass left"
        own.let_one_through()
        own.let_one_through()
        assert [answer(client) for client in session] == [b"HTTP/1.1 200"] * 2
    assert (sorted(own.arrived), other.arrived) == (["/pinned/0", "/pinned/1", "/pinned/in"], ["/pinned/stranger"])


def test_what_a_listener_may_take_is_checked_before_it_runs(tmp_path: Path) -> None:
    front = new_front()
    config = {
        "listeners": [front.listener("web", [{"pool": "p"}], limits={"connections": 0, "body_bytes": "many"})],
        "pools": {"p": http_pool(f"{LOOPBACK}:1")},
    }
    with pytest.raises(ProgramFailed, match=r"(?s)body_bytes.*connections|connections.*body_bytes"):
        Balancer(config, tmp_path / "mfalb").start()
