"""Every end that an exchange can have, on connections that are made by hand: none may leave a cycle of objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import pytest
from unit.balancer.affinity.node_pins import pin_hub
from unit.balancer.exchange.http_world import make_exchanges, make_pool
from unit.no_garbage import leaves_no_garbage

from mfalb.balancer.config.http_models import HttpLimits
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.listeners.http_connection import ClientConnection, ConnectionHost
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.balancer.pools.backend import Backend as PoolBackend
from mfalb.balancer.upstreams.http import HttpUpstream
from mfalb.balancer.upstreams.http_connection import UpstreamConnection, UpstreamUser
from mfalb.errors import BackendFailure
from mfalb.net.clock import Clock
from mfalb.net.rounds import WriteRound
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire.http_fields import REQUEST_SPECIAL, FieldReader
from mfalb.wire.proxy_protocol import Endpoints

GET: Final = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST: Final = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nsome"
CHUNKED: Final = b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n"
UPGRADE: Final = b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HALF: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
HALF_CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
SWITCHED: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
RESET: Final = ConnectionResetError
FAR: Final = 1e9  # seconds: later than any deadline


class Transport:
    """Remembers what was written, and says that it closes when it was told so."""

    def __init__(self) -> None:
        self.written = b""
        self._is_closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 1

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return self

    def setsockopt(self, *_: object) -> None: ...


class Upstream(HttpUpstream):
    """Connects when the test says so."""

    asked: UpstreamUser | None = None

    def connect(self, backend: PoolBackend, user: UpstreamUser, opening: bytes = b"") -> None:  # noqa: ARG002 - one of each
        self.asked = user

    def taken(self) -> UpstreamUser:
        user, self.asked = self.asked, None
        assert user is not None
        return user


class World(ConnectionHost):
    """A listener in front of a pool of one backend. What a story makes is the story's only."""

    def __init__(self) -> None:
        pool = make_pool(servers=1)
        self.backend = pool.backends["b1"]
        writes, clock = WriteRound(), Clock()
        self.upstream = Upstream(pool, writes, clock, None)
        self.is_tls = self.is_closing = False
        self.parts = HttpParts(
            exchanges=make_exchanges({"web": pool}),
            upstreams={"web": self.upstream},
            pins=pin_hub(),
            limits=HttpLimits(),
            counters=ListenerCounters("web", "http"),
            access_log=None,
            backend_refused=lambda _exchange, _failure: None,
            backend_broke=lambda _exchange, _failure: None,
            backend_answered=lambda _backend, _status: None,
            writes=writes,
            fields=FieldReader(REQUEST_SPECIAL, is_for_requests=True),
            identity_headers=None,
            clock=clock,
        )

    def admit(self, _connection: ClientConnection) -> Refusal | None:
        return None

    def may_turn_away(self, _connection: ClientConnection) -> bool:
        return True

    def forget(self, connection: ClientConnection) -> None: ...

    def facts(self, _transport: asyncio.Transport, _endpoints: Endpoints | None) -> ClientFacts:
        return ClientFacts("192.0.2.7", is_tls=False)

    def client(self, said: bytes) -> tuple[ClientConnection, Transport]:
        """A client that has said this."""
        client, transport = ClientConnection(self), Transport()
        client.connection_made(cast(asyncio.Transport, transport))
        client.data_received(said)
        return client, transport

    def connected(self) -> UpstreamConnection:
        """The connection that was asked for, made."""
        user = self.upstream.taken()
        port = self.upstream._ports["b1"]
        connection = UpstreamConnection(self.backend, port, self.upstream._shared)
        connection.connection_made(cast(asyncio.Transport, Transport()))
        user.upstream_connected(connection)
        return connection

    def served(self, said: bytes, answered: bytes) -> tuple[ClientConnection, UpstreamConnection]:
        """A client that has said this, and its backend that has answered that."""
        client, _ = self.client(said)
        backend = self.connected()
        backend.data_received(answered)
        return client, backend


Story = Callable[[World], None]


def broken(said: bytes, answered: bytes, error: type[Exception] | None = None) -> Story:
    """The backend says this, and its connection ends; then the client's."""

    def story(world: World) -> None:
        client, backend = world.served(said, answered)
        backend.connection_lost(None if error is None else error())
        client.connection_lost(None)

    return story


def left(said: bytes, answered: bytes) -> Story:
    """The client leaves when the backend has said this."""

    def story(world: World) -> None:
        client, backend = world.served(said, answered)
        client.connection_lost(RESET())
        backend.connection_lost(None)

    return story


def refused(said: bytes, more: bytes = b"") -> Story:
    """The client says what cannot be read: in its head, or when its backend has got some of the body."""

    def story(world: World) -> None:
        client, _ = world.client(said)
        backend = world.connected() if more else None
        if more:
            client.data_received(more)
        assert world.parts.counters.drops.total() == 1
        if backend is not None:
            backend.connection_lost(None)
        client.connection_lost(None)

    return story


def expired(said: bytes, answered: bytes | None, *, is_stuck: bool = False) -> Story:
    """The time is over. None: no backend is asked at all."""

    def story(world: World) -> None:
        client, _ = world.client(said)
        backend = None
        if answered is not None:
            backend = world.connected()
            if answered:
                backend.data_received(answered)
        if is_stuck:
            client.pause_writing()
            client.check_deadline(0.0)
        client.check_deadline(FAR)
        if backend is not None:
            backend.connection_lost(None)
        client.connection_lost(None)

    return story


def gone_while_connecting(world: World) -> None:
    client, _ = world.client(GET)
    client.connection_lost(None)
    world.connected().connection_lost(None)


def nobody_there(world: World) -> None:
    client, _ = world.client(GET)
    world.upstream.taken().upstream_failed(BackendFailure("b1", "refused", sent=False))
    assert world.backend.active == 0
    client.connection_lost(None)


def gone_while_waiting(world: World) -> None:
    world.backend.connection_limit = world.backend.active = 1
    client, _ = world.client(POST)
    assert world.upstream.asked is None, "it should wait"
    client.connection_lost(None)
    world.backend.active = 0


def tunnel_left_by_the_client_first(world: World) -> None:
    client, backend = world.served(UPGRADE, SWITCHED)
    client.data_received(b"ping")
    client.eof_received()
    backend.data_received(b"pong")
    backend.eof_received()
    backend.connection_lost(None)
    client.connection_lost(None)


def tunnel_left_by_the_backend_first(world: World) -> None:
    client, backend = world.served(UPGRADE, SWITCHED)
    backend.eof_received()
    client.data_received(b"ping")
    client.eof_received()
    client.connection_lost(None)
    backend.connection_lost(None)


def never_connected(world: World) -> None:
    ClientConnection(world)
    UpstreamConnection(world.backend, world.upstream._ports["b1"], world.upstream._shared)


ENDINGS: Final[dict[str, Story]] = {
    "answered": broken(GET, ANSWER),
    "answered, then garbage": broken(GET, ANSWER + b"more"),
    "the backend resets": broken(GET, b"", RESET),
    "the backend closes": broken(GET, b""),
    "the answer is cut": broken(GET, HALF),
    "the answer is cut by a reset": broken(GET, HALF, RESET),
    "the answer ends within a chunk": broken(GET, HALF_CHUNKED + b"9\r\nend"),
    "a chunk has no size": broken(GET, HALF_CHUNKED + b"0x5\r\n"),
    "a chunk in the same read as its head has no size": broken(GET, HALF_CHUNKED[:-9] + b"0x5\r\n"),
    "the answer is no HTTP": broken(GET, b"\x16\x03\x01 what?\r\n\r\n"),
    "the answer has two lengths": broken(GET, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "the answer's head has no end": broken(GET, b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000),
    "the answer comes before the request has ended": broken(POST, ANSWER),
    "the client leaves before an answer": left(GET, b""),
    "the client leaves within the answer": left(GET, HALF),
    "the client leaves within its request": left(CHUNKED, b""),
    "the client leaves while its backend is connected": gone_while_connecting,
    "the client leaves while it waits for a place": gone_while_waiting,
    "no backend takes the connection": nobody_there,
    "neither was ever connected": never_connected,
    "a request that is no HTTP": refused(b"\x16\x03\x01 what?\r\n\r\n"),
    "a request in two minds": refused(b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
    "a target that could be another": refused(b"GET /a/%2e%2e/b HTTP/1.1\r\nHost: x\r\n\r\n"),
    "a head past its limit": refused(b"GET /a HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000),
    "more fields than the limit": refused(b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 200),
    "an upload's chunk has no size": refused(CHUNKED, b"0x5\r\n"),
    "a head that does not come": expired(b"GET /a HT", None),
    "a connection that nobody uses": expired(b"", None),
    "an answer that does not come": expired(GET, b""),
    "an answer that stalls": expired(GET, HALF),
    "an upload that does not come": expired(POST, b""),
    "a client that does not read": expired(GET, HALF, is_stuck=True),
    "a tunnel that nobody uses": expired(UPGRADE, SWITCHED),
    "a tunnel that the client ends": tunnel_left_by_the_client_first,
    "a tunnel that the backend ends": tunnel_left_by_the_backend_first,
    "a tunnel whose client breaks": left(UPGRADE, SWITCHED),
    "a tunnel whose backend breaks": broken(UPGRADE, SWITCHED, RESET),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_no_end_of_an_exchange_leaves_anything_to_the_garbage_collector(name: str) -> None:
    world = World()
    with leaves_no_garbage():
        ENDINGS[name](world)
        await asyncio.sleep(0)  # the end of the round, when what has gathered is written
    assert world.backend.active == 0
    assert world.upstream.asked is None


class Steps(Clock):
    """A second passes with each look."""

    def read(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize(
    ("story", "looks"),  # after the request's: at what the backend says, and at the end
    [(gone_while_connecting, 1), (broken(GET, b"", RESET), 2), (left(GET, HALF), 2)],
)
async def test_the_time_of_an_exchange_is_over_when_a_connection_ends(story: Story, looks: int) -> None:
    world = World()
    world.parts.clock = world.upstream._shared.clock = Steps()
    story(world)
    assert world.parts.counters.seconds == looks
