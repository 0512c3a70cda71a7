"""What clients, backends, counters and the log get of a decision."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import pytest
from programs.radius_mutations import forged_by_a_bit
from unit.balancer.exchange.radius_world import (
    AUTHENTICATOR,
    CLIENT,
    DEADLINE_S,
    SOURCE,
    World,
    access_request,
    guards,
    server_answer,
    sign_in,
)
from unit.telemetry.told import told

from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.radius import SUPERSEDED_LIMIT
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_guards import UserLimit
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch, RadiusParts, backend_endpoints
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.radius import RadiusUpstream
from mfalb.errors import BackendFailure
from mfalb.telemetry.log import AccessLog
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

OTHER_AUTHENTICATOR = bytes(range(50, 66))
USER = b"alice.liddell"


class Upstream(RadiusUpstream):
    """Signs, and notes what would be sent; nothing leaves."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.sent: list[tuple[RadiusExchange, bytes]] = []
        self.released: list[RadiusExchange] = []
        self.is_over_tcp = False
        self.without_socket: set[str] = set()  # backends

    def send(self, exchange: RadiusExchange, now: float) -> None:
        if exchange.backend.name in self.without_socket:
            raise BackendFailure(exchange.backend.name, "no_socket", sent=False)
        exchange.datagram = self._world.service.upstream_datagram(exchange, 200)
        exchange.first_sent_at = now
        self._pass_on(exchange, now)

    def resend(self, exchange: RadiusExchange, now: float) -> bool:
        if not self.is_over_tcp:
            self._pass_on(exchange, now)
        return not self.is_over_tcp

    def _pass_on(self, exchange: RadiusExchange, now: float) -> None:
        exchange.sent_at = now
        exchange.transmissions += 1
        self.sent.append((exchange, exchange.datagram))

    def release(self, exchange: RadiusExchange, _now: float) -> None:
        self.released.append(exchange)


@dataclass
class Path:
    """Where answers go out."""

    sent: list[tuple[bytes, bytes]] = field(default_factory=list)
    discarded_reasons: list[str] = field(default_factory=list)

    def send(self, datagram: bytes, peer: bytes) -> None:
        self.sent.append((datagram, peer))

    def host(self, peer: bytes) -> str:
        return peer.decode()

    def discarded(self, reason: str) -> None:
        self.discarded_reasons.append(reason)


class Desk:
    """A dispatch between a client's socket and a world without any."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.path = Path()
        self.access = io.StringIO()
        self.refused: list[RadiusExchange] = []
        self.upstream = Upstream(world)
        self.counters = ListenerCounters("edge", "radius")
        self.access_log = AccessLog(is_json=False, stream=self.access)
        parts = RadiusParts(world.exchanges, world.pins, self.counters, self.access_log, self.refused.append)
        self.dispatch = RadiusDispatch(parts, lambda _: self.upstream)

    def receive(self, datagram: bytes, now: float = 0.0, key: bytes = SOURCE) -> None:
        source = RadiusSource(self.world.client, key, self.path, b"peer of " + key)
        self.dispatch.received(datagram, source, now)

    def answer(self, code: int, *attributes: tuple[int, bytes], now: float = 1.0, is_signed: bool = True) -> None:
        """The server answers what was sent last."""
        exchange, _ = self.upstream.sent[-1]
        self.dispatch.answered(exchange, server_answer(exchange, code, *attributes, is_signed=is_signed), now)

    def drops(self) -> dict[str, int]:
        return dict(self.counters.drops)


def flood(desk: Desk, count: int, user: bytes = USER) -> None:
    """That many new sign-ins of one user."""
    for number in range(count):
        desk.receive(sign_in(user, identifier=number, authenticator=bytes((number,)) * 16))


def alerts(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str | None, str | None]]:
    """The log: each event with the client and the backend that it names."""
    return [(record.getMessage(), vars(record).get("client"), vars(record).get("backend")) for record in caplog.records]


# ------------------------------------------------------------------------------------------ the whole way


def test_b2_a_question_and_its_answer_pass_and_are_counted_and_logged_without_a_user() -> None:
    desk = Desk(World())
    desk.receive(sign_in(USER))
    desk.answer(radius.ACCESS_ACCEPT, now=0.25)
    ((answer, peer),) = desk.path.sent
    assert (answer[0], answer[1], peer) == (radius.ACCESS_ACCEPT, 7, b"peer of " + SOURCE)
    assert (dict(desk.counters.answers), desk.counters.seconds) == ({"accept": 1}, 0.25)
    assert desk.upstream.released == [desk.upstream.sent[0][0]]
    desk.access_log.flush(0.0)
    assert "client=vpn backend=b1 answer=accept" in desk.access.getvalue()
    assert USER.decode() not in desk.access.getvalue()


def test_b10_the_pin_of_a_challenge_is_stored_before_the_answer_leaves() -> None:
    desk = Desk(World())
    pins_at_sending: list[int] = []
    desk.path.send = lambda *_: pins_at_sending.append(len(desk.world.pins))  # type: ignore[method-assign]
    desk.receive(sign_in())
    desk.answer(radius.ACCESS_CHALLENGE, (radius.STATE, b"s"))
    assert pins_at_sending == [1]


def test_c1_a_retransmit_in_flight_is_sent_upstream_with_the_same_bytes_and_never_as_a_second_request() -> None:
    desk = Desk(World())
    for now in (0.0, 0.5, 1.0, 1.9, 2.0):
        desk.receive(sign_in(), now=now)
    assert len({id(exchange) for exchange, _ in desk.upstream.sent}) == 1
    assert len({data for _, data in desk.upstream.sent}) == 1
    assert len(desk.upstream.sent) == 3
    assert desk.drops() == {"duplicate_in_flight": 2, "duplicate_resent": 2}


def test_c1_a_retransmit_that_its_transport_does_not_send_again_is_counted_as_absorbed() -> None:
    """RFC 6613 section 2.6.1: over TCP nothing is sent twice on a connection."""
    desk = Desk(World())
    desk.upstream.is_over_tcp = True
    desk.receive(sign_in())
    desk.receive(sign_in(), now=1.5)
    assert len(desk.upstream.sent) == 1
    assert desk.drops() == {"duplicate_in_flight": 1}


def test_what_did_not_leave_goes_to_another_backend_at_once_and_is_no_evidence_by_itself() -> None:
    desk = Desk(World())
    desk.receive(sign_in())
    (exchange, _) = desk.upstream.sent[0]
    assert exchange.backend.name == "b1"
    desk.dispatch.unsent(exchange)
    assert desk.upstream.sent[1][0] is exchange
    assert exchange.backend.name == "b2"
    assert desk.refused == []


def test_what_did_not_leave_and_is_bound_to_its_backend_is_refused_at_once() -> None:
    world = World()
    world.challenge(b"s")
    desk = Desk(world)
    desk.receive(sign_in(state=b"s", identifier=8))
    (exchange, _) = desk.upstream.sent[0]
    desk.dispatch.unsent(exchange)
    assert [datagram[0] for datagram, _ in desk.path.sent] == [radius.ACCESS_REJECT]
    assert desk.upstream.released == [exchange]


def test_what_no_socket_could_be_had_for_goes_to_another_backend_at_once_and_blames_nobody() -> None:
    desk = Desk(World())
    desk.upstream.without_socket = {"b1"}
    desk.receive(sign_in())
    ((exchange, _),) = desk.upstream.sent
    assert exchange.backend.name == "b2"
    assert (exchange.transmissions, desk.refused, desk.drops()) == (1, [], {})
    assert not desk.world.pool.backends["b1"].failures
    desk.answer(radius.ACCESS_ACCEPT)
    assert [datagram[0] for datagram, _ in desk.path.sent] == [radius.ACCESS_ACCEPT]


def test_what_no_backend_had_a_socket_for_is_dropped_for_that_reason_and_begins_anew_with_its_retransmit() -> None:
    desk = Desk(World(servers=3))
    desk.upstream.without_socket = {"b1", "b2", "b3"}
    desk.receive(sign_in())
    assert desk.drops() == {"no_socket": 1}
    assert desk.dispatch.in_flight == 0
    desk.upstream.without_socket.clear()
    desk.receive(sign_in(), now=0.1)
    assert len(desk.upstream.sent) == 1


def test_what_is_bound_to_a_backend_without_a_socket_waits_for_its_retransmit_and_is_not_rejected() -> None:
    """A lack of ours ends no sign-in: its server lives."""
    world = World()
    server = world.challenge(b"s")
    desk = Desk(world)
    desk.upstream.without_socket = {server}
    desk.receive(sign_in(state=b"s", identifier=8))
    assert (desk.path.sent, desk.upstream.sent, desk.drops()) == ([], [], {"no_socket": 1})
    desk.upstream.without_socket.clear()
    desk.receive(sign_in(state=b"s", identifier=8), now=1.0)
    assert [exchange.backend.name for exchange, _ in desk.upstream.sent] == [server]


def test_a_state_that_nobody_knows_is_logged_as_unpinned_and_counted() -> None:
    desk = Desk(World())
    desk.receive(sign_in(state=b"made up"))
    desk.answer(radius.ACCESS_REJECT)
    desk.access_log.flush(0.0)
    assert "answer=reject reason=answered pin=-" in desk.access.getvalue()
    assert desk.dispatch.unknown_states == 1


def test_the_path_of_a_source_hears_why_its_datagram_was_discarded_and_of_nothing_else() -> None:
    """A connection ends for some of these reasons (RFC 6613 section 2.6.4)."""
    desk = Desk(World())
    desk.receive(sign_in())
    desk.receive(forged_by_a_bit(sign_in()))
    assert desk.path.discarded_reasons == ["bad_message_authenticator"]


def test_the_upstream_hears_why_an_answer_was_discarded() -> None:
    desk = Desk(World())
    desk.receive(sign_in())
    (exchange, _) = desk.upstream.sent[0]
    genuine = server_answer(exchange, radius.ACCESS_ACCEPT)
    assert desk.dispatch.answered(exchange, forged_by_a_bit(genuine), 1.0) == "bad_response_authenticator"
    assert desk.dispatch.answered(exchange, genuine, 1.0) is None


def test_busy_sources_are_those_that_wait_for_an_answer() -> None:
    desk = Desk(World())
    desk.receive(sign_in())
    desk.receive(sign_in(b"bob", authenticator=OTHER_AUTHENTICATOR), key=b"another socket")
    assert {source.key for source in desk.dispatch.busy_sources()} == {SOURCE, b"another socket"}
    desk.answer(radius.ACCESS_ACCEPT)
    assert {source.key for source in desk.dispatch.busy_sources()} == {SOURCE}


def superseded() -> tuple[Desk, RadiusExchange, RadiusExchange]:
    """A client that began another request under the identifier of one that is under way: the desk, older, newer."""
    desk = Desk(World(is_shared_secret=True))  # each request keeps its client's authenticator on its way
    desk.receive(sign_in())
    desk.receive(sign_in(authenticator=OTHER_AUTHENTICATOR))
    (older, _), (newer, _) = desk.upstream.sent
    return desk, older, newer


def test_c3_a_superseded_request_is_counted_and_logged_and_keeps_its_identifier() -> None:
    desk, older, newer = superseded()
    assert desk.upstream.released == []
    assert desk.drops() == {"superseded": 1}
    assert desk.dispatch.in_flight == 1
    desk.answer(radius.ACCESS_ACCEPT)
    assert desk.upstream.released == [newer]
    assert len(desk.path.sent) == 1
    desk.access_log.flush(0.0)
    first, second = desk.access.getvalue().splitlines()
    assert f"backend={older.backend.name} answer=none reason=superseded" in first
    assert f"backend={newer.backend.name} answer=accept reason=answered" in second


def test_c3_the_answer_to_a_superseded_request_is_late_and_no_forgery(caplog: pytest.LogCaptureFixture) -> None:
    desk, older, _ = superseded()
    late = server_answer(older, radius.ACCESS_CHALLENGE, (radius.STATE, b"s"))
    assert desk.dispatch.answered(older, late, 5.0) is None
    assert desk.drops() == {"superseded": 1, "late_answer": 1}
    assert (desk.upstream.released, desk.path.sent, len(desk.world.pins)) == ([older], [], 0)
    assert older.backend.last_reply_at == 5.0, "it shows that its server lives"
    assert alerts(caplog) == []


def test_c3_a_forged_answer_does_not_take_the_identifier_of_a_superseded_request() -> None:
    desk, older, _ = superseded()
    forged = forged_by_a_bit(server_answer(older, radius.ACCESS_ACCEPT))
    assert desk.dispatch.answered(older, forged, 5.0) == "bad_response_authenticator"
    assert desk.upstream.released == []


def test_c3_a_superseded_request_lets_its_identifier_go_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    desk, older, newer = superseded()
    desk.answer(radius.ACCESS_ACCEPT)
    for now, released in ((DEADLINE_S - 0.1, [newer]), (DEADLINE_S, [newer, older]), (DEADLINE_S + 1, [newer, older])):
        monkeypatch.setattr("mfalb.balancer.listeners.radius_dispatch.monotonic", lambda now=now: now)
        desk.dispatch.tick()
        assert desk.upstream.released == released
    assert desk.drops() == {"superseded": 1}


def test_c3_past_the_limit_each_superseded_request_takes_the_identifier_of_the_oldest_and_no_other() -> None:
    desk = Desk(World(is_shared_secret=True))
    for number in range(SUPERSEDED_LIMIT + 3):
        desk.receive(sign_in(authenticator=number.to_bytes(16, "big")))
        crowded_out = max(0, number - SUPERSEDED_LIMIT)
        assert desk.upstream.released == [exchange for exchange, _ in desk.upstream.sent[:crowded_out]]


@pytest.mark.parametrize("tell", ["refused", "unsent", "not_sent"])
def test_c3_a_superseded_request_that_nobody_received_is_over_and_goes_nowhere_else(tell: str) -> None:
    desk, older, _ = superseded()
    if tell == "not_sent":
        desk.dispatch.not_sent(older, "no_socket", 1.0)
    else:
        getattr(desk.dispatch, tell)(older)
    assert desk.upstream.released == [older]
    assert len(desk.upstream.sent) == 2
    assert desk.drops() == {"superseded": 1}
    assert desk.world.exchanges.expire_superseded(DEADLINE_S) == []


def test_c3_a_superseded_request_that_was_sent_twice_may_have_been_received_before_it_was_refused() -> None:
    desk, older, _ = superseded()
    older.transmissions = 2
    desk.dispatch.refused(older)
    assert desk.upstream.released == []


def test_c3_a_client_that_asks_in_haste_holds_no_more_than_a_share_of_the_identifiers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mfalb.balancer.exchange.radius.SUPERSEDED_LIMIT", 3)
    monkeypatch.setattr("mfalb.balancer.listeners.radius_dispatch.monotonic", lambda: 1.0)
    desk = Desk(World())
    for number in range(10):
        desk.receive(sign_in(authenticator=bytes((number,)) * 16))
    desk.dispatch.tick()
    assert desk.upstream.released == [exchange for exchange, _ in desk.upstream.sent[:6]], "the oldest ones"


def test_a_barred_request_in_the_place_of_an_older_one_is_told_as_what_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(World(guards=guards(user_limit=UserLimit(1, 60.0, is_answered=True))))
    desk.receive(sign_in(USER))
    desk.receive(sign_in(USER, authenticator=OTHER_AUTHENTICATOR), now=2.0)
    assert alerts(caplog) == [("a user's sign-ins are begun too often", "vpn", None)]
    assert desk.world.client.drops == {"user_limit": 1}
    assert (desk.drops(), desk.counters.answers) == ({"superseded": 1}, {"user_limit": 1})
    assert desk.counters.seconds == 0, "the older one was not answered"
    assert desk.upstream.released == []
    desk.access_log.flush(0.0)
    (line,) = desk.access.getvalue().splitlines()
    assert "answer=none reason=superseded" in line


def test_d4_a_server_that_got_a_request_from_another_one_is_suspected_by_what_it_said_since_then() -> None:
    """What it said to others before that shows nothing of now."""
    desk = Desk(World())
    suspicions: list[str] = []
    for backend in desk.world.pool.backends.values():
        backend.on_suspicion = lambda name=backend.name: suspicions.append(name)
    desk.receive(sign_in())
    (exchange, _) = desk.upstream.sent[0]
    first, second = exchange.backend, desk.world.pool.backends["b2"]
    desk.world.set_up(first.name, is_up=False)
    second.last_reply_at = 50.0
    desk.receive(sign_in(), now=100.0)
    assert exchange.backend is second
    desk.receive(sign_in(), now=102.0)
    assert suspicions == [second.name]
    second.last_reply_at = 103.0
    desk.receive(sign_in(), now=104.0)
    assert suspicions == [second.name], "it lives: it is slow with this one only"


@pytest.mark.parametrize("code", [radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE])
def test_f3_f4_a_reject_and_a_challenge_are_answers_that_no_other_server_is_asked_about(code: int) -> None:
    desk = Desk(World())
    desk.receive(sign_in())
    desk.answer(code)
    assert [data[0] for data, _ in desk.path.sent] == [code]
    assert len(desk.upstream.sent) == 1
    assert desk.refused == []
    assert all(backend.is_up and not backend.failures for backend in desk.world.pool.backends.values())


@pytest.mark.parametrize("code", [radius.ACCESS_ACCEPT, radius.ACCESS_REJECT, radius.ACCESS_CHALLENGE])
def test_b1_a_sound_answer_shows_that_its_server_lives_and_a_forged_one_does_not(code: int) -> None:
    desk = Desk(World())
    desk.receive(sign_in())
    exchange, _ = desk.upstream.sent[0]
    genuine = server_answer(exchange, code)
    desk.dispatch.answered(exchange, genuine[:4] + bytes(16) + genuine[20:], 1.0)
    assert (exchange.backend.last_reply_at, desk.upstream.released, desk.path.sent) == (0.0, [], [])
    assert desk.drops() == {"bad_response_authenticator": 1}
    desk.dispatch.answered(exchange, genuine, 2.0)
    assert exchange.backend.last_reply_at == 2.0
    assert len(desk.path.sent) == 1


def test_b9_what_is_given_up_lets_go_of_its_identifier(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(World())
    desk.receive(sign_in())
    monkeypatch.setattr("mfalb.balancer.listeners.radius_dispatch.monotonic", lambda: DEADLINE_S + 1)
    desk.dispatch.tick()
    assert desk.upstream.released == [desk.upstream.sent[0][0]]
    assert desk.drops() == {"backend_silent": 1}


def test_b9_a_stray_answer_is_counted_as_late() -> None:
    desk = Desk(World())
    desk.dispatch.stray_answer()
    assert (desk.drops(), desk.path.sent) == ({"late_answer": 1}, [])


@pytest.mark.parametrize("has_reply", [True, False])
def test_e8_what_grows_too_long_is_dropped_and_counted_in_both_directions(*, has_reply: bool) -> None:
    desk = Desk(World())
    many = [(radius.REPLY_MESSAGE, bytes(253))] * 15 + [(radius.REPLY_MESSAGE, bytes(240))]
    if has_reply:
        desk.receive(sign_in())
        desk.answer(radius.ACCESS_ACCEPT, *many, is_signed=False)
        assert desk.dispatch.in_flight == 1
    else:
        desk.world.client.requires_message_authenticator = False
        body = b"".join(radius.attribute(*one) for one in many)
        desk.receive(bytes((1, 7)) + (20 + len(body)).to_bytes(2, "big") + AUTHENTICATOR + body)
        assert desk.dispatch.in_flight == 0
    assert desk.drops() == {"too_long_when_signed": 1}
    assert desk.path.sent == []


# ------------------------------------------------------------------------------------------ what is told


def test_e3_a_device_that_does_not_sign_is_named_in_the_log_once_a_minute_and_in_the_counts_each_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(World())
    body = radius.attribute(radius.USER_NAME, USER)
    unsigned = bytes((1, 7, 0, 20 + len(body))) + AUTHENTICATOR + body
    for _ in range(50):
        desk.receive(unsigned)
    assert alerts(caplog) == [("a client does not sign", "vpn", None)]
    assert vars(caplog.records[0])["listener"] == "edge"
    assert desk.drops() == dict(desk.world.client.drops) == {"missing_message_authenticator": 50}
    assert USER.decode() not in told(caplog.records[0])


def test_e7_an_answer_that_bears_the_mark_of_the_attack_is_an_alert_that_names_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(World())
    desk.receive(sign_in())
    for _ in range(5):
        desk.answer(radius.ACCESS_ACCEPT, (radius.PROXY_STATE, b"collision"))
    ((event, client, backend),) = alerts(caplog)
    assert "CVE-2024-3596" in event
    assert (client, backend) == (None, "b1")
    assert desk.drops() == dict(desk.world.upstreams["b1"].drops) == {"foreign_proxy_state": 5}
    assert desk.path.sent == []


@pytest.mark.parametrize("is_answered", [True, False])
def test_push_bombing_names_the_nas_in_a_metric_and_in_the_log_and_never_the_user(
    caplog: pytest.LogCaptureFixture, *, is_answered: bool
) -> None:
    desk = Desk(World(guards=guards(user_limit=UserLimit(2, 60.0, is_answered=is_answered))))
    flood(desk, 12)
    assert desk.world.client.drops["user_limit"] == 10
    assert alerts(caplog) == [("a user's sign-ins are begun too often", "vpn", None)]
    assert USER.decode() not in told(caplog.records[0])
    assert len(desk.upstream.sent) == 2
    rejects = [data for data, _ in desk.path.sent if data[0] == radius.ACCESS_REJECT]
    assert len(rejects) == (10 if is_answered else 0)
    assert desk.counters.answers.get("user_limit", 0) == (10 if is_answered else 0)
    assert desk.counters.drops["user_limit"] == (0 if is_answered else 10)


def looping() -> bytes:
    return access_request((radius.USER_NAME, USER), *[(radius.PROXY_STATE, b"hop")] * 11)


@pytest.mark.parametrize(
    ("make", "reason", "event"),
    [
        (looping, "loop", "requests go round in a loop"),
        (
            lambda: access_request((radius.USER_NAME, USER), secret=SharedSecret(b"another")),
            "bad_message_authenticator",
            "a client signs with another secret, or its packets are altered",
        ),
        (
            lambda: radius.content_signed_request(
                radius.ACCOUNTING_REQUEST, 7, radius.attribute(radius.USER_NAME, USER), CLIENT
            ),
            "unexpected_code",
            "a client sends what this listener's service does not take",
        ),
    ],
)
def test_f2_a6_what_an_operator_should_hear_of_is_logged_with_the_client_s_name(
    caplog: pytest.LogCaptureFixture, make: object, reason: str, event: str
) -> None:
    desk = Desk(World())
    assert callable(make)
    for _ in range(3):
        desk.receive(make())
    assert alerts(caplog) == [(event, "vpn", None)]
    assert desk.world.client.drops[reason] == 3
    assert USER.decode() not in told(caplog.records[0])
    assert desk.upstream.sent == []


@pytest.mark.parametrize(
    ("world", "reason", "event"),
    [
        (World(guards=guards(rates={"vpn": 3})), "rate_limit", "a client begins more than it may"),
        (World(in_flight_limit=3), "in_flight_limit", "too many requests are waiting for backends"),
    ],
    ids=["rate", "table"],
)
def test_d7_a_flood_of_new_requests_is_dropped_counted_and_told_once(
    caplog: pytest.LogCaptureFixture, world: World, reason: str, event: str
) -> None:
    desk = Desk(world)
    flood(desk, 10)
    assert len(desk.upstream.sent) == 3
    assert desk.drops() == dict(desk.world.client.drops) == {reason: 7}
    assert alerts(caplog) == [(event, "vpn", None)]


def test_each_client_has_alerts_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(World())
    for name in ("vpn", "wifi", "vpn"):
        desk.world.client = RadiusPeer(name, CLIENT, requires_message_authenticator=True)
        desk.receive(looping())
    assert [client for _, client, _ in alerts(caplog)] == ["vpn", "wifi"]


def test_ordinary_work_is_no_alert(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(World())
    for now in (0.0, 0.5, 1.0):
        desk.receive(sign_in(), now=now)
    desk.answer(radius.ACCESS_REJECT)
    desk.receive(sign_in(), now=3.0)
    assert alerts(caplog) == []
    assert not desk.world.client.drops.keys() - {"duplicate_in_flight"}


def test_a1_a_client_that_nobody_configured_is_counted_each_time_and_logged_by_its_address_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(World())
    for number in range(1, 200):
        desk.dispatch.unknown_client(lambda number=number: f"192.0.2.{number}")  # type: ignore[misc]
    assert desk.drops() == {"unknown_client": 199}
    (record,) = caplog.records
    assert (record.getMessage(), vars(record)["host"]) == ("a client that is not configured", "192.0.2.1")


def unsigned() -> bytes:
    return bytes((1, 7, 0, 20)) + AUTHENTICATOR


@pytest.mark.parametrize(
    ("world", "datagrams"),
    [
        (World(), [unsigned()]),
        (World(guards=guards(rates={"vpn": 1.0})), [sign_in(USER), sign_in(USER, identifier=8)]),
        (
            World(guards=guards(user_limit=UserLimit(1, 60.0, is_answered=True))),
            [sign_in(USER), sign_in(USER, identifier=8)],
        ),
    ],
    ids=["signature", "rate", "flood"],
)
def test_a_warning_names_the_address_since_a_client_may_be_a_whole_network(
    caplog: pytest.LogCaptureFixture, world: World, datagrams: list[bytes]
) -> None:
    desk = Desk(world)
    for datagram in datagrams:
        desk.receive(datagram, key=b"10.0.0.5")
    (record,) = caplog.records
    assert (vars(record)["client"], vars(record)["host"]) == ("vpn", "peer of 10.0.0.5")


def test_a_fault_of_ours_is_counted_each_time_and_told_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(World())
    for _ in range(3):
        desk.dispatch.failed(ZeroDivisionError("why"))
    assert desk.drops() == {"internal_error": 3}
    (record,) = caplog.records
    assert (record.levelname, record.exc_info is not None) == ("ERROR", True)


# ---------------------------------------------------------------------------------------- backends as clients


def test_f2_what_comes_from_a_backend_s_own_socket_is_a_loop(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(World())
    desk.dispatch.looped(desk.world.client, lambda: "192.0.2.1")
    assert desk.drops() == dict(desk.world.client.drops) == {"loop": 1}
    assert alerts(caplog) == [("requests go round in a loop", "vpn", None)]


def test_f2_backends_are_known_by_address_and_port_and_those_with_a_name_are_not_looked_up() -> None:
    addresses = [Address("192.0.2.1", 1812), Address("2001:db8::7", 1645), Address("mfa3.contoso.com", 1812)]
    config = PoolConfig(
        backends=tuple(BackendConfig(name=f"b{n}", address=address) for n, address in enumerate(addresses))
    )
    assert backend_endpoints(Pool("mfa", config)) == {
        bytes.fromhex("c0000201 0714"),
        bytes.fromhex("20010db8000000000000000000000007 066d"),
    }
