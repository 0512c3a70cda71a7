"""Promise: no datagram of a client or a server, however wrong, stops mfalb, leaks anything or holds up a good sign-in.

FUZZ_PACKETS says how many are tried in process; a tenth of that goes over UDP to a real balancer. The sequence is that
of the seed. Each failure names the number of its packet, so it comes again.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from programs.balancer import Balancer
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radius_mutations import Mutations
from programs.radius_pool import radius_pool
from programs.radius_server import RadiusServer
from unit.balancer.exchange.radius_world import CLIENT, DEADLINE_S, World, received, sent, sign_in
from unit.balancer.exchange.test_radius_accounting import AccountingWorld
from unit.balancer.exchange.test_radius_dynamic_authorization import NasWorld

from mfalb.balancer.exchange.radius_exchange import Drop, Forward, RadiusExchange, Reply, Resend
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret

PACKETS: Final = int(os.environ.get("FUZZ_PACKETS", "100000"))
SEED: Final = 5080
# Of resident memory, once all tables were at their bounds. It grows by less than one MB; an object leaked with each
# packet, 16 bytes and 8 to refer to it, is past it at the length of a soak.
GROWTH_LIMIT_BYTES: Final = 4 << 20
WARM_UP_PACKETS: Final = 10_000  # over UDP: five of them leave one exchange that its client has superseded
GOOD_EVERY: Final = 500  # packets between two good sign-ins


def resident_bytes(pid: int | str = "self") -> int:
    """Of the process's own. A worker shares rings with the supervisor that are resident where they were written once.

    That of flights has 4 MB, and is written to its end by 80,000 packets.
    """
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    (own,) = [int(line.split()[1]) for line in lines if line.startswith("RssAnon:")]
    return own * 1024


# --------------------------------------------------------------------------------------- in process


@dataclass
class Siege:
    """The exchange core between hostile clients and hostile servers. Each step is one datagram and 10 ms."""

    world: World
    mutations: Mutations = field(default_factory=lambda: Mutations(SEED))
    now: float = 0.0
    waiting: list[RadiusExchange] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def step(self, number: int) -> None:
        self.now += 0.01
        if self.waiting and self.mutations.dice.getrandbits(1):
            self._answer()
        else:
            self._request()
        if number % GOOD_EVERY == 0:
            self.good_sign_in(b"alice-%d" % number)
            self.world.exchanges.expire(self.now)
            self.world.exchanges.expire_superseded(self.now)

    def _request(self) -> None:
        dice = self.mutations.dice
        source = b"10.0.0.%d" % dice.randrange(16)
        datagram = self.made_up_request()
        for _ in range(2 if dice.random() < 0.1 else 1):  # now and then with a retransmit
            decision = self.world.request(datagram, self.now, source)
            self._judge_request(decision, datagram)

    def _judge_request(self, decision: object, datagram: bytes) -> None:
        match decision:
            case Forward():
                self.judge_forward(decision.exchange)
                self.waiting.append(decision.exchange)
                self.world.exchanges.crowded_out()
                self.outcomes["forwarded"] += 1
            case Reply():
                self.world.exchanges.crowded_out()
                self.judge_reply(received(decision), datagram[4:20])
                self.outcomes[f"replied: {decision.reason}"] += 1
            case Drop():
                self.outcomes[f"dropped: {decision.reason}"] += 1
            case Resend():
                self.outcomes["sent again"] += 1
            case _:
                pytest.fail(f"no decision: {decision!r}")

    def _answer(self) -> None:
        waiting, dice = self.waiting, self.mutations.dice
        index = dice.randrange(len(waiting))
        waiting[index], waiting[-1] = waiting[-1], waiting[index]
        exchange = waiting.pop()
        if self.world.exchanges.duplicates.in_flight.get(exchange.key) is not exchange:
            self.outcomes["over before its answer"] += 1  # superseded, or its time was up
            return
        datagram = self.made_up_answer(exchange)
        decision = self.world.carry(self.world.exchanges.answer(exchange, datagram, self.now), self.now)
        if isinstance(decision, Reply):
            self.judge_reply(received(decision), exchange.request.authenticator)
            self.outcomes["answered"] += 1
        else:
            assert isinstance(decision, Drop)
            self.outcomes[f"answer dropped: {decision.reason}"] += 1
            if dice.random() < 0.8:  # else it is left to its deadline
                waiting.append(exchange)

    def made_up_request(self) -> bytes:
        return self.mutations.request(CLIENT)

    def made_up_answer(self, exchange: RadiusExchange) -> bytes:
        secret = exchange.upstream.secret
        return self.mutations.answer(exchange.datagram[1], exchange.upstream_authenticator, secret)

    def judge_forward(self, exchange: RadiusExchange) -> None:
        assert radius.has_valid_message_authenticator(sent(exchange), exchange.upstream.secret)

    def judge_reply(self, reply: Packet, authenticator: bytes) -> None:
        """Whatever happened: what a client gets is signed for its request, the Message-Authenticator first."""
        assert radius.has_valid_response_authenticator(reply, CLIENT, authenticator)
        assert radius.has_valid_message_authenticator(reply, CLIENT, authenticator)
        assert reply.attributes()[0][0] == radius.MESSAGE_AUTHENTICATOR

    def good_sign_in(self, user: bytes) -> None:
        """Both halves, at one server."""
        world, now, state, fresh = self.world, self.now, b"state of " + user, self.mutations.dice.randbytes
        first = world.begin(sign_in(user, authenticator=fresh(16)), now, b"good")
        assert received(world.answer(first, radius.ACCESS_CHALLENGE, (radius.STATE, state), now=now)).code == 11
        second = world.begin(sign_in(user, state, identifier=8, authenticator=fresh(16)), now, b"good")
        assert second.backend is first.backend
        assert received(world.answer(second, radius.ACCESS_ACCEPT, now=now)).code == radius.ACCESS_ACCEPT
        self.outcomes["good sign-ins"] += 1


@dataclass
class ContentSignedSiege(Siege):
    """The same before accounting or dynamic authorization: requests of `code`, answers of `answer_codes`."""

    code: int = radius.ACCOUNTING_REQUEST
    answer_codes: tuple[int, ...] = (radius.ACCOUNTING_RESPONSE,) * 3 + (radius.PROTOCOL_ERROR, radius.COA_ACK)
    good: tuple[int, bytes] = (radius.ACCT_STATUS_TYPE, bytes((0, 0, 0, 1)))
    number: int = 0

    def made_up_request(self) -> bytes:
        return self.mutations.content_signed(self.code, CLIENT)

    def made_up_answer(self, exchange: RadiusExchange) -> bytes:
        secret, identifier = exchange.upstream.secret, exchange.datagram[1]
        return self.mutations.answer(identifier, exchange.upstream_authenticator, secret, self.answer_codes)

    def judge_forward(self, exchange: RadiusExchange) -> None:
        packet, secret = sent(exchange), exchange.upstream.secret
        assert radius.has_valid_content_authenticator(packet, secret)
        if radius.MESSAGE_AUTHENTICATOR in packet.offsets:
            assert radius.has_valid_message_authenticator(packet, secret, radius.ZERO_AUTHENTICATOR)

    def judge_reply(self, reply: Packet, authenticator: bytes) -> None:
        assert radius.has_valid_response_authenticator(reply, CLIENT, authenticator)

    def good_sign_in(self, user: bytes) -> None:
        """Not a sign-in here: a record or a command that the one whom it is for gets, and whose answer comes back."""
        self.number += 1
        body = b"".join(radius.attribute(*one) for one in (self.good, (radius.USER_NAME, user)))
        datagram = radius.content_signed_request(self.code, self.number % 256, body, CLIENT)
        exchange = self.world.begin(datagram, self.now, b"good")
        answer = received(self.world.answer(exchange, self.answer_codes[0], now=self.now, is_signed=False))
        assert answer.code == self.answer_codes[0]
        self.outcomes["good sign-ins"] += 1


def authentication_siege() -> Siege:
    return Siege(World(in_flight_limit=20_000))


def one_secret_siege() -> Siege:
    return Siege(World(is_shared_secret=True, in_flight_limit=20_000))


def accounting_siege() -> Siege:
    return ContentSignedSiege(AccountingWorld(follows="auth", in_flight_limit=20_000))


def dynamic_authorization_siege() -> Siege:
    answers = (radius.COA_ACK, radius.COA_NAK, radius.DISCONNECT_ACK, radius.DISCONNECT_NAK, radius.ACCESS_ACCEPT)
    gate = (radius.NAS_IDENTIFIER, b"gate1")
    return ContentSignedSiege(
        NasWorld(in_flight_limit=20_000), code=radius.COA_REQUEST, answer_codes=answers, good=gate
    )


@pytest.mark.parametrize(
    "siege_of", [authentication_siege, one_secret_siege, accounting_siege, dynamic_authorization_siege]
)
def test_the_exchange_core_survives_whatever_is_sent_and_keeps_nothing_of_it(siege_of: Callable[[], Siege]) -> None:
    siege = siege_of()
    resident_at_quarter = 0
    count = PACKETS // 4  # for each parameter
    for number in range(count):
        try:
            siege.step(number)
        except BaseException as error:
            error.add_note(f"packet number {number} of seed {SEED}")
            raise
        if number == count // 4:
            resident_at_quarter = resident_bytes()
    growth = resident_bytes() - resident_at_quarter
    assert growth < GROWTH_LIMIT_BYTES, f"grew by {growth} bytes in {count} packets"
    assert_it_was_a_siege(siege.outcomes, count)
    duplicates = siege.world.exchanges.duplicates
    siege.world.exchanges.expire(siege.now + DEADLINE_S)
    assert not duplicates.in_flight
    siege.world.exchanges.expire(siege.now + DEADLINE_S + 60)
    assert not duplicates.answered


def assert_it_was_a_siege(outcomes: Counter[str], count: int) -> None:
    """Guards the test itself: packets of each kind got as far as they should, and failed for many reasons."""
    assert outcomes["good sign-ins"] >= count // GOOD_EVERY
    assert outcomes["forwarded"] > count // 10, f"hardly anything got past the signatures: {outcomes}"
    assert outcomes["answered"] > count // 20, f"hardly any answer got past the signatures: {outcomes}"
    assert len([reason for reason in outcomes if reason.startswith("dropped: ")]) >= 10, f"{outcomes}"
    assert len([reason for reason in outcomes if reason.startswith("answer dropped: ")]) >= 8, f"{outcomes}"


# ----------------------------------------------------------------------------------------- over UDP


class HostileServer(RadiusServer):
    """Honest to users whose names begin with `good`, after some forgeries; to all others it says anything."""

    def __init__(self, name: str, secret: str, seed: int) -> None:
        super().__init__(name, secret)
        self._mutations = Mutations(seed)
        self.answers = self._say

    def _say(self, request: Packet) -> list[bytes]:
        mutations, user = self._mutations, request.first(radius.USER_NAME) or b""
        if not user.startswith(b"good"):
            count = mutations.dice.randrange(4)
            return [mutations.answer(request.identifier, request.authenticator, self.key) for _ in range(count)]
        stranger = SharedSecret(b"a guess")
        forgeries = [mutations.answer(request.identifier, request.authenticator, stranger) for _ in range(2)]
        state = radius.attribute(radius.STATE, self.name.encode() + user)
        if radius.STATE not in request.offsets:
            return [*forgeries, self.signed(request, radius.ACCESS_CHALLENGE, state)]
        is_mine = request.first(radius.STATE) == self.name.encode() + user
        return [*forgeries, self.signed(request, radius.ACCESS_ACCEPT if is_mine else radius.ACCESS_REJECT)]


@dataclass(frozen=True)
class Site:
    """A balancer between a hostile client and two hostile servers, and a socket from which good requests come only."""

    balancer: Balancer
    port: int
    secret: SharedSecret
    nas: socket.socket

    def ask(self, *attributes: tuple[int, bytes]) -> Packet:
        """A good request's answer."""
        authenticator = os.urandom(16)
        body = b"".join(radius.attribute(*one) for one in attributes)
        self.nas.send(radius.signed_request(radius.ACCESS_REQUEST, 1, authenticator, body, self.secret))
        answer = radius.read_untrusted(self.nas.recv(4096))
        assert radius.has_valid_response_authenticator(answer, self.secret, authenticator)
        return answer

    def good_sign_in(self, user: bytes) -> None:
        name = (radius.USER_NAME, user)
        challenge = self.ask(name)
        assert challenge.code == radius.ACCESS_CHALLENGE
        state = challenge.first(radius.STATE)
        assert state is not None
        assert self.ask(name, (radius.STATE, state)).code == radius.ACCESS_ACCEPT

    def total(self, name: str) -> float:
        return self.balancer.metrics().total(name)


@dataclass
class UdpSiege:
    """Wrong packets of one client's socket, with a good sign-in after each hundred.

    The sign-in stands behind its hundred in the balancer's socket, so none of them is lost.
    """

    site: Site
    mutations: Mutations = field(default_factory=lambda: Mutations(SEED))

    def fire(self, count: int) -> None:
        site, batch = self.site, 100
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((LOOPBACK, 0))
            for number in range(0, count, batch):
                for _ in range(batch):
                    client.sendto(self.mutations.request(site.secret), (LOOPBACK, site.port))
                site.good_sign_in(b"good-%d" % number)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        servers = [stack.enter_context(HostileServer(f"b{number}", f"towards-{number}", number)) for number in (1, 2)]
        pool = radius_pool(servers, tmp_path)
        (listener,) = pool.config["listeners"]
        # All tables are at their bounds after the warm-up, whatever the speed of the machine: time bounds none of them
        listener |= {"answer_cache": "5s", "answer_cache_limit": 500}
        pool.config["pools"]["mfa"]["response_timeout"] = "5s"
        pool.config["pins"] = {"limit": 100}
        balancer = stack.enter_context(Balancer(pool.config, tmp_path / "mfalb", secrets=pool.secrets))
        nas = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        nas.connect((LOOPBACK, pool.port))
        nas.settimeout(10)
        yield Site(balancer, pool.port, SharedSecret(pool.client_secret.encode()), nas)


def test_a_balancer_under_fire_serves_good_users_and_is_as_it_was_afterwards(site: Site) -> None:
    count = max(PACKETS // 10, 1000)
    siege = UdpSiege(site)
    siege.fire(WARM_UP_PACKETS)
    resident_before = resident_bytes(site.balancer.worker)
    siege.fire(count)
    growth = resident_bytes(site.balancer.worker) - resident_before
    assert growth < GROWTH_LIMIT_BYTES, f"grew by {growth} bytes in {count} packets"
    assert site.total("mfalb_listener_requests_total") >= WARM_UP_PACKETS + count
    wait_until(lambda: site.total("mfalb_listener_in_flight") == 0, "all exchanges to be over")
    # What was superseded holds its identifier until its deadline
    wait_until(lambda: site.total("mfalb_backend_active") == 0, "all identifiers to be let go of")
    assert site.total("mfalb_backend_requests_total") > count // 10, "hardly anything got past the signatures"
    site.good_sign_in(b"good-afterwards")
