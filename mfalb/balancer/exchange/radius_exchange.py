"""What a RADIUS exchange is while it lasts, and what can be decided about a datagram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.exchange.radius_peer import RadiusPeer, RadiusSource
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import NOTHING_TRIED
from mfalb.wire.radius import Packet


@dataclass(slots=True, eq=False)
class RadiusExchange:
    """One request under way. Times are monotonic seconds.

    `is_bound`: only the backend that began the transaction can go on with it. `entropy` is 16 random bytes for the
    authenticator that a backend with another secret gets. `carrier` and `identifier` are the upstream's own note of
    where it is held; `datagram` is what was sent there, `upstream_authenticator` what its answer is checked against.
    """

    key: bytes
    source: RadiusSource
    request: Packet
    backend: Backend
    upstream: RadiusPeer
    entropy: bytes
    begun_at: float
    deadline: float
    is_bound: bool
    datagram: bytes = b""
    upstream_authenticator: bytes = b""
    first_sent_at: float = 0.0  # to its present backend
    sent_at: float = 0.0
    transmissions: int = 0
    tried: frozenset[str] = NOTHING_TRIED
    carrier: Any = None
    identifier: int = 0


@dataclass(slots=True)
class Forward:
    """Send the exchange to its backend. `superseded` is an older exchange of that client socket to let go of."""

    exchange: RadiusExchange
    superseded: RadiusExchange | None = None


@dataclass(slots=True)
class Resend:
    """Send the exchange's own bytes to its backend once more."""

    exchange: RadiusExchange


@dataclass(slots=True)
class Reply:
    """Give the client these bytes. A pin must be stored before; `exchange` is over and to be let go of.

    `reason` is a metric label: "answered", "repeated" (a retransmit) or why the balancer itself answered.
    """

    datagram: bytes
    reason: str = "answered"
    exchange: RadiusExchange | None = None
    pin: Pin | None = None


@dataclass(slots=True)
class Drop:
    """Say nothing. `reason` is a metric label; `exchange`, when given, is over and to be let go of."""

    reason: str
    exchange: RadiusExchange | None = None


RequestDecision = Forward | Resend | Reply | Drop
