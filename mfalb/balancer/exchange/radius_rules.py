"""What happens to a RADIUS message's bytes between a client and a backend: checking, hiding anew, signing anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from mfalb.balancer.exchange.radius_peer import RadiusPeer
from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import rehide_password_untrusted, rehide_salted_untrusted

MICROSOFT: Final = 311
MS_CHAP_MPPE_KEYS: Final = 12  # RFC 2548 section 2.4.1: hidden as a User-Password is
MS_MPPE_SEND_KEY: Final = 16  # RFC 2548 section 2.4.2
MS_MPPE_RECV_KEY: Final = 17
_MPPE_KEYS: Final = frozenset((MS_MPPE_SEND_KEY, MS_MPPE_RECV_KEY))
_REQUEST_CODES: Final = frozenset((radius.ACCESS_REQUEST, radius.STATUS_SERVER))
_TAG_BYTES: Final = 1  # Tunnel-Password is one tag octet, then salted (RFC 2868 section 3.5)


class Keying(NamedTuple):
    """What hidden attributes and authenticators depend on: the secret and the Request Authenticator."""

    secret: SharedSecret
    authenticator: bytes


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
    answer: Packet, backend: RadiusPeer, request: Packet, request_authenticator: bytes
) -> None:
    """Raises MalformedMessage when a backend's answer must be discarded in silence; the reason is a metric label."""
    offsets = answer.offsets
    is_signed = radius.MESSAGE_AUTHENTICATOR in offsets
    if not is_signed:  # before any other check: a Response Authenticator alone can be forged (CVE-2024-3596)
        if backend.requires_message_authenticator or radius.EAP_MESSAGE in offsets:
            raise MalformedMessage("missing_message_authenticator")
        if backend.limits_proxy_state and radius.PROXY_STATE in offsets:
            raise MalformedMessage("unsigned_proxy_state")
    if not radius.has_valid_response_authenticator(answer, backend.secret, request_authenticator):
        raise MalformedMessage("bad_response_authenticator")
    if is_signed and not radius.has_valid_message_authenticator(answer, backend.secret, request_authenticator):
        raise MalformedMessage("bad_message_authenticator")
    if radius.PROXY_STATE in offsets and has_foreign_proxy_state(answer, request):
        raise MalformedMessage("foreign_proxy_state")


def refusal_datagram(request: Packet, client: RadiusPeer, text: bytes) -> bytes | None:
    """An Access-Reject of our own, with the request's Proxy-States (RFC 2865 section 5.33) and a Reply-Message.

    None when the Proxy-States leave no room for the rest: silence is all that is left then.
    """
    states = b"".join(radius.attribute(radius.PROXY_STATE, value) for value in request.every(radius.PROXY_STATE))
    body = radius.attribute(radius.REPLY_MESSAGE, text) + states
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


def request_body_untrusted(packet: Packet, old: Keying, new: Keying) -> bytes:
    """The attributes of an Access-Request as a backend with another secret must get them, unsigned.

    User-Password is hidden anew; a CHAP-Password whose challenge was the authenticator gets it spelt out before that
    changes (RFC 2865 sections 2.3 and 5.40). Everything else, known or not, passes in its place.
    """
    if old is new:
        return radius.body_without_message_authenticator(packet)
    body = _with_password_hidden_anew_untrusted(packet, old, new)
    if radius.CHAP_PASSWORD in packet.offsets and radius.CHAP_CHALLENGE not in packet.offsets:
        body += radius.attribute(radius.CHAP_CHALLENGE, old.authenticator)
    return body


def response_body_untrusted(packet: Packet, old: Keying, new: Keying) -> bytes:
    """The attributes of an answer as a client with another secret must get them, unsigned.

    Tunnel-Password and the MS-MPPE keys are hidden anew. State, Class and the client's Proxy-States pass untouched and
    in order (RFC 2865 section 2.3).
    """
    if old is new:
        return radius.body_without_message_authenticator(packet)
    return _rewritten(packet, _HIDDEN_IN_ANSWERS, old, new)


def has_foreign_proxy_state(response: Packet, request: Packet) -> bool:
    """Whether an answer carries a Proxy-State that its request did not: the signature of CVE-2024-3596."""
    if radius.PROXY_STATE not in response.offsets:
        return False
    ours = request.every(radius.PROXY_STATE)
    return any(value not in ours for value in response.every(radius.PROXY_STATE))


Rehide = Callable[[bytes, Keying, Keying], bytes]


def _rewritten(packet: Packet, hidden: Mapping[int, Rehide], old: Keying, new: Keying) -> bytes:
    """The attributes with the hidden ones hidden anew. No length changes by that, so each is patched in its place."""
    found = packet.offsets.keys() & hidden.keys()
    if not found:
        return radius.body_without_message_authenticator(packet)
    patched, position = bytearray(packet.data), min(packet.offsets[kind] for kind in found)
    while position < len(patched):
        end = position + patched[position + 1]
        rehide = hidden.get(patched[position])
        if rehide is not None:
            patched[position + 2 : end] = rehide(packet.data[position + 2 : end], old, new)
        position = end
    offset = packet.offsets.get(radius.MESSAGE_AUTHENTICATOR)
    if offset is not None:
        del patched[offset : offset + radius.MESSAGE_AUTHENTICATOR_BYTES]
    return bytes(patched[radius.HEADER_BYTES :])


def _with_password_hidden_anew_untrusted(packet: Packet, old: Keying, new: Keying) -> bytes:
    """The attributes less the Message-Authenticator, the User-Password patched in its place (its length stays)."""
    password = packet.offsets.get(radius.USER_PASSWORD)
    if password is None:
        return radius.body_without_message_authenticator(packet)
    data, start = packet.data, password + 2
    end = password + data[password + 1]
    hidden = rehide_password_untrusted(data[start:end], old, new)
    mac = packet.offsets.get(radius.MESSAGE_AUTHENTICATOR)
    if mac is None:
        return data[radius.HEADER_BYTES : start] + hidden + data[end:]
    after_mac = mac + radius.MESSAGE_AUTHENTICATOR_BYTES
    if mac < password:
        return data[radius.HEADER_BYTES : mac] + data[after_mac:start] + hidden + data[end:]
    return data[radius.HEADER_BYTES : start] + hidden + data[end:mac] + data[after_mac:]


def _rehide_tunnel_password_untrusted(value: bytes, old: Keying, new: Keying) -> bytes:
    return value[:_TAG_BYTES] + rehide_salted_untrusted(value[_TAG_BYTES:], old, new)


def _rehide_vendor_untrusted(value: bytes, old: Keying, new: Keying) -> bytes:
    """A Vendor-Specific value (RFC 2865 section 5.26): vendor (4), then type, length, value, repeated."""
    if int.from_bytes(value[:4], "big") != MICROSOFT:
        return value
    parts, position = [value[:4]], 4
    while position < len(value):
        length = value[position + 1] if position + 1 < len(value) else 0
        if length < 2 or position + length > len(value):  # noqa: PLR2004 - type and length octets
            raise MalformedMessage("bad_vendor_attribute")
        kind, text = value[position], value[position + 2 : position + length]
        if kind in _MPPE_KEYS:
            text = rehide_salted_untrusted(text, old, new)
        elif kind == MS_CHAP_MPPE_KEYS:
            text = rehide_password_untrusted(text, old, new)
        parts.append(bytes((kind, length)) + text)
        position += length
    return b"".join(parts)


_HIDDEN_IN_ANSWERS: Final[Mapping[int, Rehide]] = {
    radius.TUNNEL_PASSWORD: _rehide_tunnel_password_untrusted,
    radius.VENDOR_SPECIFIC: _rehide_vendor_untrusted,
}
