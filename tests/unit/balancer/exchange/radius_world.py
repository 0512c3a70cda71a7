"""One RADIUS listener without sockets: a client and servers that sign for themselves, and time that stands still.

What goes out is recorded as plain values; the test decides what each server answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from unit.balancer.affinity.node_pins import pin_hub

from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.config.health_models import RadiusCheck
from mfalb.balancer.config.models import Affinity, Backend, NoAffinity, RadiusStateAffinity
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.radius_models import RefusalForm
from mfalb.balancer.config.values import Address, Secret
from mfalb.balancer.exchange.duplicates import DuplicateTable
from mfalb.balancer.exchange.radius import RadiusExchanges
from mfalb.balancer.exchange.radius_authentication import Authentication
from mfalb.balancer.exchange.radius_exchange import Drop, Forward, RadiusExchange, Reply, RequestDecision
from mfalb.balancer.exchange.radius_guards import RadiusGuards, UserLimit
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.pools.pool import Pool
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import hide_password

CLIENT = SharedSecret(b"towards-the-client")
SOURCE = b"10.0.0.5:40000"
ENTROPY = bytes(range(100, 116))
AUTHENTICATOR = bytes(range(1, 17))
LIFETIME_S = 300.0
DEADLINE_S = 120.0


def server_secret(name: str, *, is_shared: bool) -> SharedSecret:
    """The secret of a server: the client's own when all share one."""
    return CLIENT if is_shared else SharedSecret(b"towards-" + name.encode())


def access_request(
    *attributes: tuple[int, bytes],
    identifier: int = 7,
    authenticator: bytes = AUTHENTICATOR,
    secret: SharedSecret = CLIENT,
) -> bytes:
    """A signed Access-Request with these attributes (User-Name `alice` when none are given)."""
    body = b"".join(radius.attribute(*one) for one in attributes or ((radius.USER_NAME, b"alice"),))
    return radius.signed_request(radius.ACCESS_REQUEST, identifier, authenticator, body, secret)


def sign_in(
    user: bytes = b"alice", state: bytes | None = None, *, identifier: int = 7, authenticator: bytes = AUTHENTICATOR
) -> bytes:
    """An Access-Request with a password, and a State when it continues a challenge."""
    attributes = [(radius.USER_NAME, user), (radius.USER_PASSWORD, hide_password(b"hello", CLIENT, authenticator))]
    if state is not None:
        attributes.append((radius.STATE, state))
    return access_request(*attributes, identifier=identifier, authenticator=authenticator)


def status_server(*, is_signed: bool = True) -> bytes:
    """A Status-Server, as a careless client might send it unless it is signed."""
    if is_signed:
        return radius.signed_request(radius.STATUS_SERVER, 3, AUTHENTICATOR, b"", CLIENT)
    return bytes((radius.STATUS_SERVER, 3, 0, 20)) + AUTHENTICATOR


def guards(
    proxy_state_limit: int = 10, rates: dict[str, float] | None = None, user_limit: UserLimit | None = None
) -> RadiusGuards:
    """Guards that stop nothing but a loop, unless the test says so."""
    return RadiusGuards(proxy_state_limit, rates or {}, user_limit)


@dataclass
class World:
    """The exchanges under test with backends b1, b2... all up; `carry` does what the upstream shell would do."""

    servers: int = 2
    is_shared_secret: bool = False
    has_pins: bool = True
    in_flight_limit: int = 100
    requires_message_authenticator: bool = False
    when_pinned_down: RefusalForm = RefusalForm.REJECT
    session_lifetime_s: float = 86_400.0
    guards: RadiusGuards = field(default_factory=guards)
    pins: Hub = field(default_factory=lambda: pin_hub(1000))

    def __post_init__(self) -> None:
        names = [f"b{number}" for number in range(1, self.servers + 1)]
        config = self.make_config(
            backends=tuple(self.backend(name) for name in names),
            affinity=self.affinity(),
            health_check=RadiusCheck(type="radius", rise=1, fall=1),
            response_timeout_s=DEADLINE_S,
        )
        self.client = RadiusPeer("vpn", CLIENT, requires_message_authenticator=True)
        self.upstreams = {
            name: RadiusPeer(
                name, server_secret(name, is_shared=self.is_shared_secret), self.requires_message_authenticator
            )
            for name in names
        }
        self.pool = Pool("mfa", config)
        for name in names:
            self.set_up(name)
        duplicates: DuplicateTable[RadiusExchange] = DuplicateTable(self.in_flight_limit, 100, 15.0)
        self.service = self.make_service()
        self.exchanges = RadiusExchanges(self.service, duplicates, self.guards)

    def make_config(self, **given: object) -> PoolConfig:
        return PoolConfig.model_validate(given)

    def make_service(self) -> RadiusService:
        return Authentication(self.pool, self.upstreams, self.pins)

    def backend(self, name: str) -> Backend:
        return Backend(name=name, address=Address("192.0.2.1", 1812), secret=Secret(b"unused"))

    def affinity(self) -> Affinity:
        if not self.has_pins:
            return NoAffinity()
        return RadiusStateAffinity(
            type="radius_state",
            lifetime_s=LIFETIME_S,
            session_lifetime_s=self.session_lifetime_s,
            when_pinned_down=self.when_pinned_down,
        )

    def set_up(self, name: str, *, is_up: bool = True) -> None:
        """What the prober found."""
        self.pool.observe(name, is_good=is_up, reason="test", now=0.0)

    def source(self, key: bytes) -> RadiusSource:
        """The client's socket of that name."""
        return RadiusSource(self.client, key, None, b"")

    def request(self, datagram: bytes, now: float = 0.0, source: bytes = SOURCE) -> RequestDecision:
        """A client's datagram arrives; what is forwarded gets sent."""
        decision = self.exchanges.request(datagram, self.source(source), now, ENTROPY)
        return self.carry(decision, now)

    def carry(self, decision: RequestDecision, now: float, identifier: int = 200) -> RequestDecision:
        """Does what the upstream shell does with a decision: signs, notes the time, stores pins."""
        if isinstance(decision, Forward):
            exchange = decision.exchange
            try:
                exchange.datagram = self.service.upstream_datagram(exchange, identifier)
            except MalformedMessage as error:
                self.exchanges.give_up(exchange)
                return Drop(error.reason)
            exchange.first_sent_at = exchange.sent_at = now
            exchange.transmissions += 1
        if isinstance(decision, Reply):
            for change in decision.pins:
                if isinstance(change, Pin):
                    self.pins.put(change, now)
                else:
                    self.pins.end(change, now)
        return decision

    def begin(self, datagram: bytes, now: float = 0.0, source: bytes = SOURCE) -> RadiusExchange:
        """A request that must be forwarded."""
        decision = self.request(datagram, now, source)
        assert isinstance(decision, Forward), decision
        return decision.exchange

    def answer(
        self,
        exchange: RadiusExchange,
        code: int,
        *attributes: tuple[int, bytes],
        now: float = 0.0,
        is_signed: bool = True,
    ) -> Reply | Drop:
        """The exchange's server answers."""
        datagram = server_answer(exchange, code, *attributes, is_signed=is_signed)
        decision = self.exchanges.answer(exchange, datagram, now)
        self.carry(decision, now)
        return decision

    def challenge(self, state: bytes, user: bytes = b"alice", *, identifier: int = 7) -> str:
        """A whole first half that ends in a challenge; returns the name of the server that issued it."""
        exchange = self.begin(sign_in(user, identifier=identifier))
        self.answer(exchange, radius.ACCESS_CHALLENGE, (radius.STATE, state))
        return exchange.backend.name


def server_answer(exchange: RadiusExchange, code: int, *attributes: tuple[int, bytes], is_signed: bool = True) -> bytes:
    """An answer as the exchange's server would make it, with or without a Message-Authenticator."""
    body = b"".join(radius.attribute(*one) for one in attributes)
    identifier, secret = exchange.datagram[1], exchange.upstream.secret
    if is_signed:
        return radius.signed_response(code, identifier, exchange.upstream_authenticator, body, secret)
    length = radius.HEADER_BYTES + len(body)
    head = bytes((code, identifier, length >> 8, length & 255))
    return head + secret.digest(head + exchange.upstream_authenticator + body) + body


def received(decision: Reply | Drop | RequestDecision) -> Packet:
    """The answer that a client gets."""
    assert isinstance(decision, Reply), decision
    return radius.read_untrusted(decision.datagram)


def sent(exchange: RadiusExchange) -> Packet:
    """The request that a server gets."""
    return radius.read_untrusted(exchange.datagram)
