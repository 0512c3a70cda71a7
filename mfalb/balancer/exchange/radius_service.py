"""What one kind of RADIUS work (authentication, accounting, dynamic authorization) does in its own way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

from mfalb.balancer.affinity.store import PinChange
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_hash_key import RadiusKey, radius_key
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import NOTHING_TRIED, Pool
from mfalb.wire.radius import Packet


class RadiusService(ABC):
    """The part of an exchange's life that differs; `RadiusExchanges` lives the rest.

    `upstreams` maps a backend's name to the peer it is. A method that reads a peer's bytes raises MalformedMessage for
    all that must be discarded in silence. `unhandled_hidden` counts what a secret hides and could not be hidden anew,
    by its name in `wire.radius_hidden_attributes`: services of one listener share it. `key_of` reads what the pool's
    hash is made of, if it has one.
    """

    status_answer_code: ClassVar[int]  # what answers a Status-Server on this port (RFC 5997 section 4.2)
    refusal_reason: ClassVar[str]  # the metric label of `refusal`
    bound_by: ClassVar[str] = "state"  # what binds a request to its backend, for the access log
    binds_without_record: ClassVar[bool] = False  # the request itself names the only one

    def __init__(self, pool: Pool, upstreams: Mapping[str, RadiusPeer]) -> None:
        self.pool = pool
        self.upstreams = upstreams
        self.unhandled_hidden: Counter[str] = Counter()
        self.key_of: RadiusKey | None = None if pool.config.hash is None else radius_key(pool.config.hash)

    @abstractmethod
    def request_untrusted(self, datagram: bytes, client: RadiusPeer) -> Packet:
        """The sound request, or Status-Server, in a client's datagram."""

    def is_bound(self, _request: Packet) -> bool:
        """Whether only the backend that began the transaction can go on with it."""
        return False

    def issuer_of(self, _request: Packet, _client: RadiusPeer, _now: float) -> str | None:
        """The name of the backend that is on record for a bound request. With one it is served even under overload."""
        return None

    def missing_keys(self, _request: Packet, _client: RadiusPeer, _now: float) -> tuple[bytes, ...]:
        """The keys of pins that a request could need and this node has not; none when it has one of them."""
        return ()

    @abstractmethod
    def backend_for(self, request: Packet, client: RadiusPeer, now: float, issuer: str | None) -> Backend | None:
        """The backend that a request goes to; None when it may go to nobody. `issuer` is what `issuer_of` said."""

    def balanced(self, request: Packet, client: RadiusPeer, tried: frozenset[str] = NOTHING_TRIED) -> Backend | None:
        """The backend for what no pin ties to one."""
        if self.key_of is None:
            return self.pool.pick(tried)
        return self.pool.pick(tried, self.key_of(request, client))

    def refusal(self, _request: Packet, _client: RadiusPeer) -> bytes | None:
        """The answer to a bound request that may go to nobody; None for silence."""
        return None

    @abstractmethod
    def upstream_datagram(self, exchange: RadiusExchange, identifier: int) -> bytes:
        """The bytes for the exchange's backend under that identifier; notes `upstream_authenticator`.

        Raises MalformedMessage when signing makes them too long, or something hidden in them cannot be read.
        """

    @abstractmethod
    def answer_untrusted(self, exchange: RadiusExchange, datagram: bytes) -> Packet:
        """The backend's sound answer in a datagram."""

    @abstractmethod
    def client_datagram(self, exchange: RadiusExchange, answer: Packet) -> bytes:
        """A sound answer as the client must get it. Raises MalformedMessage as `upstream_datagram` does."""

    def pins_of(self, _exchange: RadiusExchange, _answer: Packet, _now: float) -> tuple[PinChange, ...]:
        """What must be remembered before the answer is released, and what has ended with it; ends first."""
        return ()
