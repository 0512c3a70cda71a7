"""Which socket and identifier an exchange gets at its backend, and what becomes of it when there is none."""

from __future__ import annotations

import errno
import mmap
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from unit.balancer.exchange.radius_world import ENTROPY, SOURCE, World, sign_in

from mfalb.balancer.exchange.flight_log import RING_BYTES, FlightLog
from mfalb.balancer.exchange.radius_exchange import Forward, RadiusExchange
from mfalb.balancer.upstreams.custody import Custody
from mfalb.balancer.upstreams.radius import RadiusUpstream
from mfalb.balancer.upstreams.radius_carrier import REST_S
from mfalb.errors import BackendFailure, MalformedMessage
from mfalb.net.datagrams import Datagram

MODULE = "mfalb.balancer.upstreams.radius"


@dataclass
class Descriptor:
    """Stands for a connected UDP socket."""

    peer: tuple[str, int]
    is_closed: bool = False

    def close(self) -> None:
        self.is_closed = True

    def getpeername(self) -> tuple[str, int]:
        return self.peer


@dataclass
class Io:
    """A datagram socket that keeps what it is given."""

    socket: Descriptor
    sent: list[Datagram] = field(default_factory=list)
    arrived: list[Datagram] = field(default_factory=list)
    room: int = 1_000_000
    left: list[bytes] = field(default_factory=list)

    def receive(self) -> list[Datagram]:
        arrived, self.arrived = self.arrived, []
        return arrived

    def send(self, datagrams: list[Datagram]) -> int:
        count = min(self.room, len(datagrams))
        self.sent += datagrams[:count]
        self.left = [data for data, _ in datagrams[count:]]
        self.room -= count
        return count

    def unsent(self) -> list[bytes]:
        return self.left

    def refused(self) -> list[bytes]:
        return []

    def dropped_by_kernel(self) -> int:
        return 0


@dataclass
class Poller:
    """Watches nothing; may be told to fail."""

    error: OSError | None = None
    watched: list[Descriptor] = field(default_factory=list)
    readers: list[Callable[[], None]] = field(default_factory=list)

    def watch(self, sock: Descriptor, reader: Callable[[], None], *, first: bool = False) -> None:
        assert first, "answers before requests"
        if self.error is not None:
            raise self.error
        self.watched.append(sock)
        self.readers.append(reader)

    def forget(self, sock: Descriptor) -> None:
        self.watched.remove(sock)


@dataclass
class Events:
    """What the upstream told."""

    told: list[tuple[str, RadiusExchange]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    on_not_sent: Callable[[RadiusExchange], None] | None = None

    def answered(self, exchange: RadiusExchange, datagram: bytes, _now: float) -> str | None:
        if datagram.endswith(b"bug"):
            raise ZeroDivisionError
        self.told.append(("answered", exchange))
        return None

    def stray_answer(self) -> None:
        raise AssertionError

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def refused(self, exchange: RadiusExchange) -> None:
        self.told.append(("refused", exchange))

    def unsent(self, exchange: RadiusExchange) -> None:
        self.told.append(("unsent", exchange))

    def not_sent(self, exchange: RadiusExchange, reason: str, _now: float) -> None:
        self.told.append((reason, exchange))
        if self.on_not_sent is not None:
            self.on_not_sent(exchange)


class Bench:
    """An upstream before the servers of a world, on sockets that are none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, world: World) -> None:
        self.world = world
        self.poller, self.events = Poller(), Events()
        self.opened: list[Descriptor] = []
        self.ios: list[Io] = []
        self.open_error: OSError | None = None
        self.kept: list[tuple[str, object]] = []
        monkeypatch.setattr(f"{MODULE}.connected_socket", self._connected)
        self.upstream = RadiusUpstream(
            self.poller,  # type: ignore[arg-type]
            self._wrap,  # type: ignore[arg-type]
            self.events,
            world.service.upstream_datagram,
            Custody(FlightLog(mmap.mmap(-1, RING_BYTES), 0), [], self._opened, lambda _: None),
        )

    def _opened(self, backend: str, sock: socket.socket) -> int:
        self.kept.append((backend, sock))
        return len(self.kept)

    def _connected(self, host: str, port: int) -> Descriptor:
        if self.open_error is not None:
            raise self.open_error
        self.opened.append(Descriptor((host, port)))
        return self.opened[-1]

    def _wrap(self, sock: Descriptor, *, is_connected: bool) -> Io:
        assert is_connected
        self.ios.append(Io(sock))
        return self.ios[-1]

    def exchange(self, identifier: int = 7, source: bytes = SOURCE) -> RadiusExchange:
        """One that is to be sent to a server."""
        return self.world.begin(sign_in(identifier=identifier), source=source)

    def exchanges(self, count: int) -> Iterator[RadiusExchange]:
        for number in range(count):
            yield self.exchange(number % 256, number.to_bytes(4, "big"))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch, World(servers=1, in_flight_limit=100_000))


# ------------------------------------------------------------------------------------- sockets and identifiers


def test_c5_the_257th_exchange_gets_a_second_socket(bench: Bench) -> None:
    for exchange in bench.exchanges(257):
        bench.upstream.send(exchange, 0.0)
    bench.upstream.flush()
    assert [len(io.sent) for io in bench.ios] == [256, 1]
    assert {data[1] for data, _ in bench.ios[0].sent} == set(range(256))


def test_c5_past_the_last_socket_nothing_is_sent_and_nobody_is_blamed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{MODULE}.SOCKET_LIMIT", 2)
    for exchange in bench.exchanges(512):
        bench.upstream.send(exchange, 0.0)
    late = bench.exchange(source=b"late")
    for _ in range(3):
        with pytest.raises(BackendFailure, match="identifiers_exhausted") as failure:
            bench.upstream.send(late, 0.0)
        assert not failure.value.sent
    assert len(bench.opened) == 2
    assert bench.world.pool.backends["b1"].active == 512
    assert [record.getMessage() for record in caplog.records] == ["every identifier of a backend is in use"]


def test_an_exchange_that_is_sent_elsewhere_lets_go_of_the_identifier_it_held(bench: Bench) -> None:
    exchange = bench.exchange()
    for _ in range(300):  # more often than there are identifiers
        bench.upstream.send(exchange, 0.0)
    assert len(bench.opened) == 1
    assert bench.world.pool.backends["b1"].active == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_a_socket_that_cannot_be_had_for_want_of_ours_is_no_word_about_the_backend(bench: Bench, number: int) -> None:
    suspicions: list[float] = []
    bench.world.pool.backends["b1"].on_suspicion = lambda: suspicions.append(0.0)
    bench.open_error = OSError(number, "shortage")
    with pytest.raises(BackendFailure, match="no_socket") as failure:
        bench.upstream.send(bench.exchange(), 0.0)
    assert not failure.value.sent
    assert suspicions == []


def test_a_backend_that_there_is_no_way_to_is_looked_into_by_its_watchdog(bench: Bench) -> None:
    suspicions: list[float] = []
    bench.world.pool.backends["b1"].on_suspicion = lambda: suspicions.append(0.0)
    bench.open_error = OSError(errno.ENETUNREACH, "Network is unreachable")
    with pytest.raises(BackendFailure, match="unreachable"):
        bench.upstream.send(bench.exchange(), 0.0)
    assert len(suspicions) == 1


def test_a_socket_that_cannot_be_watched_is_closed_and_not_kept(bench: Bench) -> None:
    bench.poller.error = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(BackendFailure, match="no_socket"):
        bench.upstream.send(bench.exchange(), 0.0)
    assert [one.is_closed for one in bench.opened] == [True]
    bench.poller.error = None
    bench.upstream.send(bench.exchange(8), 0.0)
    assert [one.is_closed for one in bench.opened] == [True, False]
    bench.upstream.close()
    assert [one.is_closed for one in bench.opened] == [True, True]
    assert bench.poller.watched == []


def test_a_request_that_cannot_be_signed_holds_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise MalformedMessage("too_long_when_signed")

    monkeypatch.setattr(bench.upstream, "_sign", fail)
    with pytest.raises(MalformedMessage):
        bench.upstream.send(bench.exchange(), 0.0)
    assert bench.world.pool.backends["b1"].active == 0


# --------------------------------------------------------------------- a client's own identifier (one secret)


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """One secret on both sides: a client's datagram may pass as it is, under its own identifier."""
    return Bench(monkeypatch, World(servers=1, is_shared_secret=True))


def test_a_client_s_own_identifier_is_used_again_at_once_when_its_one_answer_has_come(untouched: Bench) -> None:
    for number in range(3):
        exchange = untouched.exchange(source=b"%d" % number)
        exchange.transmissions = 0
        untouched.upstream.send(exchange, 0.0)
        assert exchange.identifier == 7
        exchange.is_answered = True
        untouched.upstream.release(exchange, 0.0)
    assert len(untouched.opened) == 1


@pytest.mark.parametrize(("is_answered", "copies"), [(False, 1), (True, 2)], ids=["unanswered", "sent twice"])
def test_a_client_s_own_identifier_rests_while_an_answer_may_still_come(
    untouched: Bench, *, is_answered: bool, copies: int
) -> None:
    older = untouched.exchange(source=b"older")
    older.transmissions = 0
    untouched.upstream.send(older, 0.0)
    for _ in range(1, copies):
        untouched.upstream.resend(older, 1.0)
    older.is_answered = is_answered
    untouched.upstream.release(older, 10.0)
    soon, later = untouched.exchange(source=b"soon"), untouched.exchange(source=b"later")
    untouched.upstream.send(soon, 10.0 + REST_S - 0.1)
    assert (soon.identifier, len(untouched.opened)) == (7, 2), "another socket: nothing was asked under it there"
    untouched.upstream.send(later, 10.0 + REST_S)
    assert (later.identifier, len(untouched.opened)) == (7, 2)
    assert later.carrier is untouched.upstream._sockets["b1"][0]


# --------------------------------------------------------------------------------- what the kernel does not take


def test_what_the_kernel_does_not_take_was_not_sent_and_is_told_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = bench.exchanges(3)
    for exchange in (first, *others):
        exchange.transmissions = 0
        bench.upstream.send(exchange, 0.0)
    bench.ios[0].room = 1
    bench.upstream.flush()
    assert bench.events.told == [("send_failed", exchange) for exchange in others]
    assert [exchange.transmissions for exchange in (first, *others)] == [1, 0, 0]
    assert [(record.getMessage(), vars(record)["count"]) for record in caplog.records] == [
        ("the kernel takes nothing for a backend", "2")
    ]


def test_a_copy_that_the_kernel_does_not_take_leaves_the_earlier_one_that_may_have_arrived(bench: Bench) -> None:
    exchange = bench.exchange()
    exchange.transmissions = 0
    bench.upstream.send(exchange, 0.0)
    bench.upstream.flush()
    bench.upstream.resend(exchange, 2.0)
    bench.ios[0].room = 0
    bench.upstream.flush()
    assert (exchange.transmissions, bench.events.told) == (1, [])


def test_what_goes_to_another_backend_because_it_was_not_sent_leaves_in_the_same_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(monkeypatch, World(servers=2))

    def elsewhere(exchange: RadiusExchange) -> None:
        decision = bench.world.exchanges.refused(exchange, 0.0, ENTROPY)
        if isinstance(decision, Forward):
            bench.upstream.send(exchange, 0.0)

    bench.events.on_not_sent = elsewhere
    exchange = bench.exchange()
    exchange.transmissions = 0
    bench.upstream.send(exchange, 0.0)
    bench.ios[0].room = 0
    bench.upstream.flush()
    assert [[data for data, _ in io.sent] for io in bench.ios] == [[], [exchange.datagram]]
    assert exchange.backend.name == "b2"


def test_a_fault_of_ours_with_one_answer_costs_no_other(bench: Bench) -> None:
    waiting = list(bench.exchanges(3))
    for exchange in waiting:
        bench.upstream.send(exchange, 0.0)
    first, second, third = (bytes((2, exchange.identifier)) + bytes(18) for exchange in waiting)
    bench.ios[0].arrived = [(first, b""), (second + b"bug", b""), (third, b"")]
    (read,) = bench.poller.readers
    read()
    assert bench.events.told == [("answered", waiting[0]), ("answered", waiting[2])]
    assert [type(error) for error in bench.events.failures] == [ZeroDivisionError]


# ------------------------------------------------------------------------------------------ what is noted


def test_what_is_sent_and_sent_again_is_counted_and_its_time_noted(bench: Bench) -> None:
    exchange = bench.exchange()
    exchange.transmissions = 0
    bench.upstream.send(exchange, 10.0)
    assert (exchange.transmissions, exchange.first_sent_at, exchange.sent_at) == (1, 10.0, 10.0)
    assert bench.upstream.resend(exchange, 12.5)
    assert (exchange.transmissions, exchange.first_sent_at, exchange.sent_at) == (2, 10.0, 12.5)
    bench.upstream.flush()
    assert [data for data, _ in bench.ios[0].sent] == [exchange.datagram] * 2
    assert bench.world.pool.backends["b1"].requests == 1


def test_an_exchange_that_holds_nothing_is_not_sent_again(bench: Bench) -> None:
    assert not bench.upstream.resend(bench.exchange(), 1.0)


def test_a_socket_is_connected_to_the_backend_s_address(bench: Bench) -> None:
    bench.upstream.send(bench.exchange(), 0.0)
    assert [one.peer for one in bench.opened] == [("192.0.2.1", 1812)]
