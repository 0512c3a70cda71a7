"""Dynamic authorization (RFC 5176): what servers ask of the NAS that holds a session, brought to that NAS.

No other NAS can do what one is asked, so each request is bound to the NAS that it names, and refused at once with a NAK
that says why when that NAS cannot be asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from mfalb.balancer.affinity.radius_state import radius_state_key
from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.config.models import RadiusStateAffinity
from mfalb.balancer.exchange.radius_content_signed import ContentSignedService, error_datagram
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_nas import ErrorCause, NasRoutes
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radius_rehiding import rehidden_body_untrusted
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.wire import radius
from mfalb.wire.radius import Packet
from mfalb.wire.radius_hidden import Keying

NAKS: Final = {radius.DISCONNECT_REQUEST: radius.DISCONNECT_NAK, radius.COA_REQUEST: radius.COA_NAK}


class DynamicAuthorization(ContentSignedService):
    """CoA- and Disconnect-Requests for a pool of NASes.

    `follows` is the pool of the servers that ask, if the States they give to a NAS are to bring it back to them.
    """

    refusal_reason: ClassVar[str] = "not_routed"
    bound_by: ClassVar[str] = "nas"
    binds_without_record: ClassVar[bool] = True
    answer_codes: ClassVar[Mapping[int, frozenset[int]]] = {
        radius.DISCONNECT_REQUEST: frozenset((radius.DISCONNECT_ACK, radius.DISCONNECT_NAK)),
        radius.COA_REQUEST: frozenset((radius.COA_ACK, radius.COA_NAK)),
    }

    def __init__(self, pool: Pool, upstreams: Mapping[str, RadiusPeer], follows: Pool | None = None) -> None:
        super().__init__(pool, upstreams)
        self.routes = NasRoutes(pool.backends.values())
        self._follows = follows

    def is_bound(self, _request: Packet) -> bool:
        return True

    def backend_for(self, request: Packet, _client: RadiusPeer, _now: float, _issuer: str | None) -> Backend | None:
        found = self.routes.find(request)
        return found if isinstance(found, Backend) and found.takes_pinned else None

    def refusal(self, request: Packet, client: RadiusPeer) -> bytes | None:
        """A NAK that says why; None when the Proxy-States leave no room for one."""
        found = self.routes.find(request)
        cause = found if isinstance(found, ErrorCause) else ErrorCause.OTHER_PROXY_PROCESSING_ERROR
        return error_datagram(NAKS[request.code], request, cause, client)

    def upstream_body(self, exchange: RadiusExchange) -> bytes:
        """As it came, but with what is hidden hidden anew where secrets differ.

        The authenticator is made of the content, so what is in there was hidden while that was still zeros, as with the
        Message-Authenticator.
        """
        old, new = exchange.source.client.secret, exchange.upstream.secret
        if old is new:
            return super().upstream_body(exchange)
        zeros = radius.ZERO_AUTHENTICATOR
        return rehidden_body_untrusted(exchange.request, Keying(old, zeros), Keying(new, zeros), self.unhandled_hidden)

    def pins_of(self, exchange: RadiusExchange, _answer: Packet, now: float) -> tuple[Pin, ...]:
        """A State that a server gave to a NAS brings the NAS's next Access-Request to that server (section 3.3).

        That the server is the backend that the NAS signs in at, and the NAS the client there, is told by their names.
        """
        state, server = exchange.request.first(radius.STATE), exchange.source.client.name
        follows = self._follows
        if state is None or follows is None or server not in follows.backends:
            return ()
        affinity = follows.config.affinity
        if not isinstance(affinity, RadiusStateAffinity):
            return ()
        user_name = exchange.request.first(radius.USER_NAME) or b""
        key = radius_state_key(follows.name, exchange.backend.name, user_name, state)
        return (Pin(key, server, now + affinity.session_lifetime_s),)
