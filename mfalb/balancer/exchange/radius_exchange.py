"""What a RADIUS exchange is while it lasts, and what can be decided about a datagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mfalb.balancer.affinity.store import PinChange
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import NOTHING_TRIED
from mfalb.wire.radius import Packet


class RadiusExchange:
    """One request under way. Times are monotonic seconds.

    `is_bound`: only the backend that began the transaction can go on with it. `entropy` is 16 random bytes for the
    authenticator that a backend with another secret gets. `is_superseded`: its client asks something else under its
    identifier, and what is answered here goes to nobody. `carrier` and `identifier` are the upstream's own note of
    where it is held, `flight` of where a predecessor of this worker held it; `datagram` is what was sent there,
    `upstream_authenticator` what its answer is checked against.
    """

    __slots__ = (
        "backend",
        "begun_at",
        "carrier",
        "datagram",
        "deadline",
        "entropy",
        "first_sent_at",
        "flight",
        "identifier",
        "is_answered",
        "is_bound",
        "is_superseded",
        "key",
        "request",
        "sent_at",
        "source",
        "transmissions",
        "tried",
        "upstream",
        "upstream_authenticator",
    )

    def __init__(self, key: bytes, source: RadiusSource, request: Packet, now: float, deadline: float) -> None:
        self.key = key
        self.source = source
        self.request = request
        self.begun_at = self.first_sent_at = self.sent_at = now  # first_sent_at: to its present backend
        self.deadline = deadline
        self.is_bound = self.is_answered = self.is_superseded = False
        self.datagram = self.upstream_authenticator = b""
        self.identifier = 0
        self.tried = NOTHING_TRIED
        self.carrier: Any = None

    def aim(self, backend: Backend, upstream: RadiusPeer, entropy: bytes) -> None:
        """From now on this backend has to answer."""
        self.backend = backend
        self.upstream = upstream
        self.entropy = entropy
        self.transmissions = 0
        self.flight: Any = None  # a Flight


@dataclass(slots=True, init=False)  # its own __init__, since a compiled build makes that three times as fast
class Forward:
    """Send the exchange to its backend. `superseded` is an older exchange of that client socket: it gets no answer."""

    exchange: RadiusExchange
    superseded: RadiusExchange | None

    def __init__(self, exchange: RadiusExchange, superseded: RadiusExchange | None = None) -> None:
        self.exchange = exchange
        self.superseded = superseded


@dataclass(slots=True)
class Resend:
    """Send the exchange's own bytes to its backend once more."""

    exchange: RadiusExchange


@dataclass(slots=True, init=False)
class Reply:
    """Give the client these bytes. What it does to pins must be done before; `exchange` is over and to be let go of.

    `reason` is a metric label: "answered", "repeated" (a retransmit) or why the balancer itself answered. `superseded`
    is as with `Forward`.
    """

    datagram: bytes
    reason: str
    exchange: RadiusExchange | None
    pins: tuple[PinChange, ...]
    superseded: RadiusExchange | None

    def __init__(
        self,
        datagram: bytes,
        reason: str = "answered",
        exchange: RadiusExchange | None = None,
        pins: tuple[PinChange, ...] = (),
    ) -> None:
        self.datagram = datagram
        self.reason = reason
        self.exchange = exchange
        self.pins = pins
        self.superseded = None


@dataclass(slots=True)
class Drop:
    """Say nothing. `reason` is a metric label; `exchange`, when given, is over and to be let go of."""

    reason: str
    exchange: RadiusExchange | None = None


@dataclass(slots=True)
class Ask:
    """Look in the shared store for the pins of these keys, and let the request under the duplicate key `key` go on."""

    key: bytes
    packet: Packet
    missing: tuple[bytes, ...]


RequestDecision = Forward | Resend | Reply | Drop | Ask
