"""What may begin at all: loops, floods of a client, and a user whose phone someone else makes ring.

The limits look at new work only: a retransmit rings nobody again, and a State on record continues what was let in
before. A loop is one whatever it carries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radius_rules import refusal_datagram
from mfalb.wire import radius
from mfalb.wire.radius import Packet

STATUS_PER_S: Final = 10  # Status-Servers that one client gets answered (RFC 5997 section 4.2: SHOULD limit)
LOOP: Final = "loop"
RATE_LIMIT: Final = "rate_limit"
USER_LIMIT: Final = "user_limit"
_USERS_LIMIT: Final = 100_000  # users counted at once; past that the table starts anew, and lets a burst through
_TOO_OFTEN: Final = b"Too many sign-ins for this user. Please wait a moment."


class TokenBucket:
    """Lets `per_s` through each second, and a burst of as many after a second of rest."""

    __slots__ = ("_at", "_per_s", "_tokens")

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._tokens = per_s
        self._at = 0.0

    def takes(self, now: float) -> bool:
        """Whether one more may pass at `now` (monotonic seconds)."""
        self._tokens = min(self._per_s, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


@dataclass(frozen=True, slots=True)
class UserLimit:
    """At most `sign_ins` begun for one user within `window_s`; past that, a Reject (or silence)."""

    sign_ins: int
    window_s: float
    is_answered: bool


class UserFlood:
    """Counts sign-ins by user, whatever client they come through: push bombing is spread over gateways, too."""

    def __init__(self, limit: UserLimit, users_limit: int = _USERS_LIMIT) -> None:
        self.limit = limit
        self._users_limit = users_limit
        self._begun: dict[bytes, tuple[float, int]] = {}

    def takes(self, user_name: bytes, now: float) -> bool:
        """Whether one more sign-in of this user may begin. Windows are fixed: they start with a user's first one."""
        user = user_name.lower()
        started_at, count = self._begun.get(user, (now, 0))
        if now - started_at >= self.limit.window_s:
            started_at, count = now, 0
        if count >= self.limit.sign_ins:
            return False
        if len(self._begun) >= self._users_limit and user not in self._begun:
            self._begun.clear()
        self._begun[user] = (started_at, count + 1)
        return True

    def expire(self, now: float) -> None:
        """Forget users whose window is over."""
        over = [user for user, (started_at, _) in self._begun.items() if now - started_at >= self.limit.window_s]
        for user in over:
            del self._begun[user]


class RadiusGuards:
    """The guards of one listener. `rates` maps a client's name to the requests a second it may begin.

    `own_proxy_state` is the value that this listener alone adds to what it passes on.
    """

    def __init__(
        self,
        proxy_state_limit: int,
        rates: Mapping[str, float],
        user_limit: UserLimit | None = None,
        own_proxy_state: bytes | None = None,
    ) -> None:
        self._proxy_state_limit = proxy_state_limit
        self._own_proxy_state = own_proxy_state
        self._rates = {name: TokenBucket(per_s) for name, per_s in rates.items()}
        self._status: dict[str, TokenBucket] = {}
        self._flood = UserFlood(user_limit) if user_limit is not None else None
        self.has_limits = bool(rates) or user_limit is not None

    def is_loop(self, packet: Packet) -> bool:
        """Whether this listener passed the request on before, or so many proxies did that it goes round.

        Each proxy adds one Proxy-State (RFC 2865 section 2.3).
        """
        if radius.PROXY_STATE not in packet.offsets:
            return False
        states = packet.every(radius.PROXY_STATE)
        return len(states) > self._proxy_state_limit or self._own_proxy_state in states

    def barrier(self, packet: Packet, client: RadiusPeer, now: float) -> str | None:
        """Why this new request may not begin, as a metric label; None when it may."""
        bucket = self._rates.get(client.name)
        if bucket is not None and not bucket.takes(now):
            return RATE_LIMIT
        if self._flood is not None:
            user_name = packet.first(radius.USER_NAME)
            if user_name is not None and not self._flood.takes(user_name, now):
                return USER_LIMIT
        return None

    def answer(self, reason: str, packet: Packet, client: RadiusPeer) -> bytes | None:
        """What a barred client is told; None for silence."""
        if reason == USER_LIMIT and self._flood is not None and self._flood.limit.is_answered:
            return refusal_datagram(packet, client, _TOO_OFTEN)
        return None

    def may_ask_status(self, client: RadiusPeer, now: float) -> bool:
        """Whether this client's Status-Server is answered."""
        bucket = self._status.get(client.name)
        if bucket is None:
            bucket = self._status[client.name] = TokenBucket(STATUS_PER_S)
        return bucket.takes(now)

    def expire(self, now: float) -> None:
        """Forget what no longer counts. Called about once a second."""
        if self._flood is not None:
            self._flood.expire(now)
