from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from unit.balancer.exchange.http_world import make_pool

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.upstreams.http import FRESH_S, IDLE_TIMEOUT_S, HttpUpstream
from mfalb.balancer.upstreams.http_connection import IDLE_LIMIT, UpstreamConnection
from mfalb.balancer.upstreams.http_connection import UpstreamUser as User
from mfalb.errors import BackendFailure
from mfalb.net.clock import Clock
from mfalb.net.rounds import WriteRound
from mfalb.wire.http_heads import ResponseHead

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class StillClock(Clock):
    """Stands where a test puts it."""

    def read(self) -> float:
        return self.now


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_aborted = self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def abort(self) -> None:
        self.is_aborted = True

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_aborted or self.is_closed


class Exchange(User):
    """Notes what it is told."""

    def __init__(self, connection: UpstreamConnection, method: bytes = b"GET") -> None:
        self.connection = connection
        self.statuses: list[int] = []
        self.body = b""
        self.is_complete = False
        self.trailers: list[bytes] = []
        self.failures: list[tuple[str, bool]] = []
        self.is_answered = False
        connection.begin(self, method, may_switch=False)

    def response_head(self, head: ResponseHead) -> None:
        self.statuses.append(head.status)

    def response_body(self, data: bytes) -> None:
        self.body += data

    def response_end(self, trailers: list[bytes]) -> None:
        self.trailers = trailers
        self.is_complete = True

    def upstream_failed(self, failure: BackendFailure) -> None:
        self.failures.append((failure.reason, failure.sent))
        self.is_answered = failure.is_answered

    def upstream_connected(self, connection: UpstreamConnection) -> None: ...
    def upstream_eof(self) -> None: ...
    def upstream_pause(self) -> None: ...
    def upstream_resume(self) -> None: ...
    def flush(self) -> None: ...


class World:
    """A pool's connections to b1 that are made by hand, at a time that tests set."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.clock.now = 1000.0
        self.pool = make_pool()
        self.backend: Backend = self.pool.backends["b1"]
        self.upstream = HttpUpstream(self.pool, WriteRound(), self.clock, None)

    def connection(self, opening: bytes = b"") -> tuple[UpstreamConnection, Transport]:
        made = UpstreamConnection(self.backend, self.upstream._ports["b1"], self.upstream._shared)
        transport = Transport()
        made.connection_made(cast(asyncio.Transport, transport))
        made.opening = opening
        return made, transport

    def idle(self, opening: bytes = b"") -> tuple[UpstreamConnection, Transport]:
        """A connection on which one exchange was completed just now."""
        made, transport = self.connection(opening)
        self.use(made)
        return made, transport

    def use(self, connection: UpstreamConnection) -> None:
        exchange = Exchange(connection)
        connection.data_received(ANSWER)
        assert exchange.is_complete
        connection.release(is_reusable=True)

    def take(self, opening: bytes = b"", **rules: Any) -> UpstreamConnection | None:
        return self.upstream.idle_connection(self.backend, opening, **rules)


@pytest.fixture
def world() -> World:
    return World()


def test_the_connection_used_last_is_taken_first_and_only_once(world: World) -> None:
    (first, _), (second, _) = world.idle(), world.idle()
    assert [world.take(), world.take(), world.take()] == [second, first, None]


def test_what_cannot_be_sent_twice_gets_only_a_connection_that_was_used_just_now(world: World) -> None:
    old, _ = world.idle()
    world.clock.now += FRESH_S * 1.5
    assert world.take(must_be_fresh=True) is None
    fresh, _ = world.idle()
    assert world.take(must_be_fresh=True) is fresh
    assert world.take(must_be_fresh=True) is None
    assert world.take() is old


def test_a_connection_with_a_proxy_header_is_its_clients_only_and_may_have_to_be_fresh(world: World) -> None:
    mine, _ = world.idle(b"PROXY me")
    world.idle(b"PROXY other")
    assert world.take(b"PROXY nobody") is None
    world.clock.now += FRESH_S * 1.5
    assert world.take(b"PROXY me", must_be_fresh=True) is None
    assert world.take(b"PROXY me") is mine


def test_a_connection_that_the_backend_closed_while_it_was_idle_is_not_taken(world: World) -> None:
    kept, _ = world.idle()
    closed, transport = world.idle()
    closed.eof_received()
    assert world.take() is kept
    said, transport = world.idle()
    said.data_received(b"HTTP/1.1 408 Timeout\r\n\r\n")  # some servers say so before they close
    assert transport.is_aborted
    assert world.take() is None


def test_idle_connections_are_closed_in_time_and_beyond_their_limit(world: World) -> None:
    made = [world.idle() for _ in range(IDLE_LIMIT + 1)]
    assert [transport.is_aborted for _, transport in made] == [False] * IDLE_LIMIT + [True]
    world.upstream.tick(world.clock.now + IDLE_TIMEOUT_S - 1)
    assert not made[0][1].is_aborted
    world.upstream.tick(world.clock.now + IDLE_TIMEOUT_S)
    assert all(transport.is_aborted for _, transport in made)
    assert world.take() is None


@pytest.mark.parametrize(
    ("is_reused", "received", "error", "reason"),
    [
        (False, b"", None, "closed_early"),
        (False, b"", ConnectionResetError(), "reset"),
        (True, b"", None, "stale"),
        (True, b"", ConnectionResetError(), "stale"),
        (True, b"HTTP/1.1 200", None, "closed_early"),  # it had begun to answer: the request was read
        (True, b"HTTP/1.1 100 Continue\r\n\r\n", ConnectionResetError(), "reset"),
        (False, ANSWER[:-1], None, "closed_early"),
    ],
)
def test_a_connection_lost_under_a_request_is_told_with_what_that_says(
    world: World, is_reused: bool, received: bytes, error: Exception | None, reason: str
) -> None:
    connection, _ = world.connection()
    if is_reused:
        world.use(connection)
        assert world.take() is connection
    exchange = Exchange(connection)
    if received:
        connection.data_received(received)
    connection.connection_lost(error)
    assert (exchange.failures, exchange.is_complete) == ([(reason, True)], False)
    assert exchange.is_answered == bool(received)
    assert not connection.is_usable


def test_an_answer_that_ends_with_its_connection_is_complete_only_when_that_was_closed_in_order(world: World) -> None:
    for error, is_complete in ((None, True), (ConnectionResetError(), False)):
        connection, _ = world.connection()
        exchange = Exchange(connection)
        connection.data_received(b"HTTP/1.1 200 OK\r\n\r\nsome")
        connection.connection_lost(error)
        assert (exchange.is_complete, exchange.body) == (is_complete, b"some")


@pytest.mark.parametrize("surplus", [b"x", b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
def test_bytes_behind_an_answer_spoil_the_connection_and_reach_nobody(world: World, surplus: bytes) -> None:
    connection, transport = world.connection()
    exchange = Exchange(connection)
    connection.data_received(ANSWER + surplus)
    connection.release(is_reusable=True)
    assert (exchange.statuses, exchange.body, exchange.is_complete) == ([200], b"ok", True)
    assert (transport.is_aborted, world.take()) == (True, None)


def test_an_answer_that_is_no_http_fails_the_exchange_with_its_reason(world: World) -> None:
    connection, transport = world.connection()
    exchange = Exchange(connection)
    connection.data_received(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    assert [sent for _, sent in exchange.failures] == [True]
    assert (transport.is_aborted, connection.is_usable) == (True, False)


def test_a_connection_that_is_not_to_be_reused_is_closed(world: World) -> None:
    connection, transport = world.connection()
    Exchange(connection)
    connection.data_received(ANSWER)
    connection.release(is_reusable=False)
    assert (transport.is_aborted, world.take()) == (True, None)
