"""What happens to a RADIUS message's bytes between a client and a backend: checking, hiding anew, signing anew."""

from __future__ import annotations

from collections import Counter
from typing import Final

from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.balancer.exchange.radius_rehiding import rehidden_body_untrusted
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet
from mfalb.wire.radius_hidden import Keying

_EAP_FAILURE: Final = b"\4"  # RFC 3748 section 4
_REQUEST_CODES: Final = frozenset((radius.ACCESS_REQUEST, radius.STATUS_SERVER))


def access_request_untrusted(datagram: bytes, client: RadiusPeer) -> Packet:
    """The Access-Request or Status-Server in a client's datagram.

    Raises MalformedMessage for all that must be discarded in silence: what cannot be read, other codes, a
    Message-Authenticator that is missing where it is required, and a wrong one.
    """
    packet = radius.read_untrusted(datagram)
    if packet.code not in _REQUEST_CODES:
        raise MalformedMessage("unexpected_code")
    offsets = packet.offsets
    if radius.MESSAGE_AUTHENTICATOR in offsets:
        if not radius.has_valid_message_authenticator(packet, client.secret):
            raise MalformedMessage("bad_message_authenticator")
    # CVE-2024-3596 (everything), RFC 3579 section 3.1 (EAP), RFC 5997 section 3 (Status-Server)
    elif client.requires_message_authenticator or radius.EAP_MESSAGE in offsets or packet.code == radius.STATUS_SERVER:
        raise MalformedMessage("missing_message_authenticator")
    elif client.limits_proxy_state and radius.PROXY_STATE in offsets:
        raise MalformedMessage("unsigned_proxy_state")  # where the attack hides its collision blocks
    return packet


def check_response_untrusted(
    answer: Packet,
    backend: RadiusPeer,
    request: Packet,
    request_authenticator: bytes,
    mac_authenticator: bytes | None = None,
) -> None:
    """Raises MalformedMessage when a backend's answer must be discarded in silence; the reason is a metric label.

    `mac_authenticator` is what a Message-Authenticator was made over; None for the request's authenticator.
    """
    offsets = answer.offsets
    is_signed = radius.MESSAGE_AUTHENTICATOR in offsets
    if not is_signed:  # before any other check: a Response Authenticator alone can be forged (CVE-2024-3596)
        if backend.requires_message_authenticator or radius.EAP_MESSAGE in offsets:
            raise MalformedMessage("missing_message_authenticator")
        # Our own is there to be returned, and no place to hide anything: it is short, and compared byte by byte
        if backend.limits_proxy_state and has_foreign_proxy_state(answer, None, backend.proxy_state):
            raise MalformedMessage("unsigned_proxy_state")
    if not radius.has_valid_response_authenticator(answer, backend.secret, request_authenticator):
        raise MalformedMessage("bad_response_authenticator")
    if is_signed and not radius.has_valid_message_authenticator(
        answer, backend.secret, mac_authenticator or request_authenticator
    ):
        raise MalformedMessage("bad_message_authenticator")
    if radius.PROXY_STATE in offsets and has_foreign_proxy_state(answer, request, backend.proxy_state):
        raise MalformedMessage("foreign_proxy_state")


def refusal_datagram(request: Packet, client: RadiusPeer, text: bytes) -> bytes | None:
    """An Access-Reject of our own, with the request's Proxy-States (RFC 2865 section 5.33) and a Reply-Message.

    EAP is ended by an EAP-Failure instead, beside which no Reply-Message may stand (RFC 3579 sections 2.2 and 2.6.5).
    None when the Proxy-States leave no room for the rest: silence is all that is left then.
    """
    states = b"".join(radius.attribute(radius.PROXY_STATE, value) for value in request.every(radius.PROXY_STATE))
    eap = request.first(radius.EAP_MESSAGE)
    if eap is None:
        body = radius.attribute(radius.REPLY_MESSAGE, text) + states
    else:
        identifier = eap[1:2] or b"\0"  # of the EAP-Response that this answers (RFC 3748 section 4.2)
        body = radius.attribute(radius.EAP_MESSAGE, _EAP_FAILURE + identifier + b"\0\4") + states
    try:
        return answer_datagram(radius.ACCESS_REJECT, request, body, client)
    except MalformedMessage:
        return None


def answer_datagram(code: int, request: Packet, body: bytes, client: RadiusPeer) -> bytes:
    """An answer signed for a client: Message-Authenticator first, unless it is a client that chokes on one."""
    sign = radius.signed_response if client.is_signed_to else radius.unsigned_response
    return sign(code, request.identifier, request.authenticator, body, client.secret)


def starts_with_message_authenticator(packet: Packet) -> bool:
    """Whether nothing stands in front of the Message-Authenticator, as CVE-2024-3596 demands of what we send."""
    return packet.offsets.get(radius.MESSAGE_AUTHENTICATOR) == radius.HEADER_BYTES


def request_body_untrusted(packet: Packet, old: Keying, new: Keying, unhandled: Counter[str] | None = None) -> bytes:
    """The attributes of a request as a backend with another secret must get them, unsigned.

    What is hidden is hidden anew; a CHAP-Password whose challenge was the authenticator gets it spelt out before that
    changes (RFC 2865 sections 2.3 and 5.40). Everything else, known or not, passes in its place. `unhandled` counts
    what should have been hidden anew and was not, by a name of ours.
    """
    if old is new:
        return radius.body_without_message_authenticator(packet)
    body = rehidden_body_untrusted(packet, old, new, unhandled)
    if radius.CHAP_PASSWORD in packet.offsets and radius.CHAP_CHALLENGE not in packet.offsets:
        body += radius.attribute(radius.CHAP_CHALLENGE, old.authenticator)
    return body


def response_body_untrusted(packet: Packet, old: Keying, new: Keying, unhandled: Counter[str] | None = None) -> bytes:
    """The attributes of an answer as a client with another secret must get them, unsigned.

    What is hidden is hidden anew. State, Class and the client's Proxy-States pass untouched and in order (RFC 2865
    section 2.3). `unhandled` counts as for requests.
    """
    if old is new:
        return radius.body_without_message_authenticator(packet)
    return rehidden_body_untrusted(packet, old, new, unhandled)


def has_foreign_proxy_state(answer: Packet, request: Packet | None, added: bytes = b"") -> bool:
    """Whether an answer carries a Proxy-State that its request did not: the signature of CVE-2024-3596.

    `added` is the attribute that we put behind the client's own (see `RadiusPeer`).
    """
    if radius.PROXY_STATE not in answer.offsets:
        return False
    known = [] if request is None else request.every(radius.PROXY_STATE)
    if added:
        known.append(added[2:])
    return any(value not in known for value in answer.every(radius.PROXY_STATE))


def without_added_proxy_state(body: bytes, backend: RadiusPeer) -> bytes:
    """An answer's attributes as the client may see them: less the Proxy-State that we added (RFC 2865 section 2.3)."""
    added = backend.proxy_state
    return radius.without_attribute(body, added) if added and added in body else body
