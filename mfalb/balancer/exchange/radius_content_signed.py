"""What accounting and dynamic authorization share: requests whose authenticator is made of their content.

Whoever alters such a request needs the secret, so nothing of CVE-2024-3596 is open here: a Message-Authenticator is
checked and made anew where there is one, and asked of nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_nas import ErrorCause
from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radius_rehiding import count_hidden
from mfalb.balancer.exchange.radius_rules import check_response_untrusted, without_added_proxy_state
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet


class ContentSignedService(RadiusService):
    """Requests signed by their content, forwarded with every attribute untouched and in order."""

    answer_codes: ClassVar[Mapping[int, frozenset[int]]]  # what may answer a request of each code

    def request_untrusted(self, datagram: bytes, client: RadiusPeer) -> Packet:
        packet = radius.read_untrusted(datagram)
        if packet.code not in self.answer_codes:
            raise MalformedMessage("unexpected_code")
        check_content_signed_untrusted(packet, client)
        return packet

    def upstream_body(self, exchange: RadiusExchange) -> bytes:
        """The attributes for the exchange's backend, without a Message-Authenticator."""
        return radius.body_without_message_authenticator(exchange.request)

    def upstream_datagram(self, exchange: RadiusExchange, identifier: int) -> bytes:
        request, body = exchange.request, self.upstream_body(exchange) + exchange.upstream.proxy_state
        is_mac_added = radius.MESSAGE_AUTHENTICATOR in request.offsets
        secret = exchange.upstream.secret
        datagram = radius.content_signed_request(request.code, identifier, body, secret, is_mac_added=is_mac_added)
        exchange.upstream_authenticator = datagram[4:20]
        return datagram

    def answer_untrusted(self, exchange: RadiusExchange, datagram: bytes) -> Packet:
        answer = radius.read_untrusted(datagram)
        if answer.code not in self.answer_codes[exchange.request.code]:
            raise MalformedMessage("unexpected_answer_code")
        made_over = radius.ZERO_AUTHENTICATOR if _is_signed_over_zeros(answer, exchange) else None
        check_response_untrusted(
            answer, exchange.upstream, exchange.request, exchange.upstream_authenticator, made_over
        )
        return answer

    def client_datagram(self, exchange: RadiusExchange, answer: Packet) -> bytes:
        request, client = exchange.request, exchange.source.client
        if exchange.upstream.secret is not client.secret:
            count_hidden(answer, self.unhandled_hidden)
        body = without_added_proxy_state(radius.body_without_message_authenticator(answer), exchange.upstream)
        if client.is_signed_to and _is_signed_over_zeros(answer, exchange):  # then the client will expect it so as well
            return radius.response_signed_over_zeros(
                answer.code, request.identifier, request.authenticator, body, client.secret
            )
        is_mac_added = radius.MESSAGE_AUTHENTICATOR in answer.offsets
        return signed_like(answer.code, request, body, client, is_mac_added=is_mac_added)


def _is_signed_over_zeros(answer: Packet, exchange: RadiusExchange) -> bool:
    """Whether a server made its Message-Authenticator over zeros, as for a request. FreeRADIUS does, in accounting.

    RFC 5176 section 3.4 has the request's authenticator there, and RFC 2869 says nothing of accounting.
    """
    return radius.has_valid_message_authenticator(answer, exchange.upstream.secret, radius.ZERO_AUTHENTICATOR)


def check_content_signed_untrusted(request: Packet, client: RadiusPeer) -> None:
    """Raises MalformedMessage when the client did not sign this request, or signed something else."""
    if not radius.has_valid_content_authenticator(request, client.secret):
        raise MalformedMessage("bad_request_authenticator")
    if radius.MESSAGE_AUTHENTICATOR in request.offsets:
        zeros = radius.ZERO_AUTHENTICATOR  # the authenticator was made after it (RFC 5176 section 3.4)
        if not radius.has_valid_message_authenticator(request, client.secret, zeros):
            raise MalformedMessage("bad_message_authenticator")


def error_datagram(code: int, request: Packet, cause: ErrorCause, client: RadiusPeer) -> bytes | None:
    """An answer of our own with its Error-Cause and the request's Proxy-States (RFC 5176 section 3.1).

    None when the Proxy-States leave no room for that.
    """
    states = b"".join(radius.attribute(radius.PROXY_STATE, value) for value in request.every(radius.PROXY_STATE))
    body = radius.attribute(radius.ERROR_CAUSE, int(cause).to_bytes(4, "big")) + states
    # Peers do not agree over what one in an Accounting-Response is made (RFC 2869 section 5.19 has none in accounting)
    is_mac_added = radius.MESSAGE_AUTHENTICATOR in request.offsets and code != radius.ACCOUNTING_RESPONSE
    try:
        return signed_like(code, request, body, client, is_mac_added=is_mac_added)
    except MalformedMessage:
        return None


def signed_like(code: int, request: Packet, body: bytes, client: RadiusPeer, *, is_mac_added: bool) -> bytes:
    """An answer to a client, with a Message-Authenticator when there is reason for one and the client bears it."""
    sign = radius.signed_response if is_mac_added and client.is_signed_to else radius.unsigned_response
    return sign(code, request.identifier, request.authenticator, body, client.secret)
