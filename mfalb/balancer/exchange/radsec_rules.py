"""What RADIUS over a connection asks for beyond what RADIUS over UDP does (RFC 6613 section 2.6, RFC 6614)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from mfalb.balancer.config.radius_models import ServiceKind
from mfalb.balancer.exchange.radius_content_signed import check_content_signed_untrusted, error_datagram
from mfalb.balancer.exchange.radius_dynamic_authorization import NAKS
from mfalb.balancer.exchange.radius_exchange import Drop, Reply
from mfalb.balancer.exchange.radius_nas import ErrorCause
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.errors import MalformedMessage
from mfalb.wire import radius

# RFC 6613 section 2.6.4: over UDP these are discarded in silence; on a connection nothing behind them can be trusted,
# and it must be closed. Everything else (an unknown code, a signature that is missing, a loop) is discarded as ever.
ENDS_CONNECTION: Final = frozenset(
    (
        "bad_length",
        "short_datagram",
        "truncated",
        "bad_attribute_length",
        "attributes_overrun",
        "bad_message_authenticator_length",
        "repeated_message_authenticator",
        "bad_message_authenticator",
        "bad_request_authenticator",
        "bad_response_authenticator",
    )
)
UNSUPPORTED: Final = "unsupported"
_SERVICES: Final[Mapping[int, ServiceKind]] = {
    radius.ACCESS_REQUEST: ServiceKind.AUTHENTICATION,
    radius.ACCOUNTING_REQUEST: ServiceKind.ACCOUNTING,
    radius.DISCONNECT_REQUEST: ServiceKind.DYNAMIC_AUTHORIZATION,
    radius.COA_REQUEST: ServiceKind.DYNAMIC_AUTHORIZATION,
}
_REFUSALS: Final[Mapping[int, int]] = {radius.ACCOUNTING_REQUEST: radius.ACCOUNTING_RESPONSE, **NAKS}


def routes(services: Collection[ServiceKind]) -> dict[int, ServiceKind | None]:
    """Which of a listener's services takes a packet, by its code; None is to be answered with `unsupported`.

    Codes that are not in there are for the listener's own service, which answers them or drops them as ever:
    Status-Server, what is no request, and Access-Requests where there is no authentication (RFC 6614 section 2.5 has
    no answer for those, and an Access-Reject would say that somebody's password was looked at).
    """
    offered = {code: service for code, service in _SERVICES.items() if service in services}
    return {**dict.fromkeys(_REFUSALS), **offered}


def unsupported(datagram: bytes, client: RadiusPeer) -> Reply | Drop:
    """What a client gets for a request that its listener has no service for (RFC 6614 section 2.5).

    One port takes everything, so a client learns from the answer what it may not ask here: Error-Cause 406. Only a
    sound request gets one.
    """
    try:
        request = radius.read_untrusted(datagram)
        check_content_signed_untrusted(request, client)
    except MalformedMessage as error:
        return Drop(error.reason)
    answer = error_datagram(_REFUSALS[request.code], request, ErrorCause.UNSUPPORTED_EXTENSION, client)
    return Drop(UNSUPPORTED) if answer is None else Reply(answer, UNSUPPORTED)
