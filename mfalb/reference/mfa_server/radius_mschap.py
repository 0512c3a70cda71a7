"""MS-CHAPv2 without EAP: RFC 2759 (who knows the password), RFC 3079 (keys for MPPE), RFC 2548 (attributes).

Core. DES and MD4 are what the protocol is made of; OpenSSL has neither any more. Whoever can, uses PAP or EAP over TLS:
a captured MS-CHAPv2 exchange gives the NT hash to anyone with a day of DES.

    MS-CHAP2-Response:  Ident (1), Flags (1), Peer-Challenge (16), Reserved (8), Response (24)
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final

from Crypto.Cipher import DES
from Crypto.Hash import MD4

from mfalb.errors import MalformedMessage
from mfalb.wire import radius
from mfalb.wire.radius import Packet, SharedSecret
from mfalb.wire.radius_hidden import Keying, hide_salted

_MICROSOFT: Final = (311).to_bytes(4, "big")
_CHALLENGE, _RESPONSE, _ERROR, _SUCCESS = 11, 25, 2, 26  # RFC 2548
_POLICY, _TYPES, _SEND_KEY, _RECEIVE_KEY = 7, 8, 16, 17
_CHALLENGE_BYTES: Final = 16
_RESPONSE_BYTES: Final = 50
_ENCRYPTION_ALLOWED: Final = (1).to_bytes(4, "big")
_RC4_40_AND_128: Final = (6).to_bytes(4, "big")
_FAILURE: Final = "E=691 R=0 C={} V=3 M=Authentication failed"

_TO_CLIENT: Final = b"Magic server to client signing constant"
_PAD_TO_MORE: Final = b"Pad to make it do more than one iteration"
_THIS_IS: Final = b"This is the MPPE Master Key"
_SERVER_SENDS: Final = b"On the client side, this is the receive key; on the server side, it is the send key."
_SERVER_RECEIVES: Final = b"On the client side, this is the send key; on the server side, it is the receive key."
_PAD_1, _PAD_2 = bytes(40), b"\xf2" * 40


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the client has sent: proof of a password, made of two challenges and the user's name."""

    user: bytes = field(repr=False)
    identifier: int
    challenge: bytes = field(repr=False)
    peer_challenge: bytes = field(repr=False)
    response: bytes = field(repr=False)

    def is_right(self, password_hash: bytes) -> bool:
        """Whether it was made with the password of this NT hash."""
        return hmac.compare_digest(self.expected(password_hash), self.response)

    def expected(self, password_hash: bytes) -> bytes:
        """The 24 bytes that who knows the password sends (RFC 2759 section 8.1)."""
        text, padded = self.challenge_hash(), password_hash.ljust(21, b"\0")
        return b"".join(_des(padded[start : start + 7], text) for start in (0, 7, 14))

    def challenge_hash(self) -> bytes:
        """RFC 2759 section 8.2. A name's domain is no part of it."""
        user = self.user.rpartition(b"\\")[2]
        return sha1(self.peer_challenge + self.challenge + user).digest()[:8]

    def proof(self, password_hash: bytes) -> str:
        """What shows the client that the server knows the password as well (RFC 2759 section 8.7)."""
        twice = MD4.new(password_hash).digest()  # noqa: S303 - the protocol's own
        digest = sha1(twice + self.response + _TO_CLIENT).digest()
        return "S=" + sha1(digest + self.challenge_hash() + _PAD_TO_MORE).hexdigest().upper()

    def keys(self, password_hash: bytes) -> tuple[bytes, bytes]:
        """The server's send and receive keys, 128 bits each (RFC 3079 section 3)."""
        twice = MD4.new(password_hash).digest()  # noqa: S303 - the protocol's own
        master = sha1(twice + self.response + _THIS_IS).digest()[:16]
        send, receive = (
            sha1(master + _PAD_1 + magic + _PAD_2).digest()[:16] for magic in (_SERVER_SENDS, _SERVER_RECEIVES)
        )
        return send, receive


def _des(seven: bytes, text: bytes) -> bytes:
    """One block under a key of 56 bits, spread over 8 bytes whose last bits DES does not look at."""
    bits = int.from_bytes(seven, "big")
    key = bytes((bits >> (49 - 7 * place) & 0x7F) << 1 for place in range(8))
    return DES.new(key, DES.MODE_ECB).encrypt(text)  # noqa: S304 - the protocol's own


def exchange_untrusted(packet: Packet, user: bytes) -> Exchange | None:
    """The MS-CHAPv2 exchange in a request; None when there is none. Raises MalformedMessage for half of one."""
    found = _microsoft_untrusted(packet)
    challenge, response = found.get(_CHALLENGE), found.get(_RESPONSE)
    if response is None:
        return None
    if challenge is None or len(challenge) != _CHALLENGE_BYTES or len(response) != _RESPONSE_BYTES:
        raise MalformedMessage("bad_mschapv2")
    return Exchange(user, response[0], challenge, response[2:18], response[26:])


def _microsoft_untrusted(packet: Packet) -> dict[int, bytes]:
    """The first Microsoft attribute of each type."""
    found: dict[int, bytes] = {}
    for value in packet.every(radius.VENDOR_SPECIFIC):
        if value[:4] != _MICROSOFT:
            continue
        position = 4
        while position < len(value):
            size = value[position + 1] if position + 1 < len(value) else 0
            if size < 2 or position + size > len(value):  # noqa: PLR2004 - type and length octets
                raise MalformedMessage("bad_vendor_attribute")
            found.setdefault(value[position], value[position + 2 : position + size])
            position += size
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    inner = bytes((kind, len(value) + 2)) + value
    return radius.attribute(radius.VENDOR_SPECIFIC, _MICROSOFT + inner)


def success(exchange: Exchange, password_hash: bytes) -> bytes:
    """MS-CHAP2-Success: the server's own proof."""
    return _attribute(_SUCCESS, bytes((exchange.identifier,)) + exchange.proof(password_hash).encode())


def failure(exchange: Exchange, challenge: bytes) -> bytes:
    """MS-CHAP-Error 691, the same for whoever has no password here and who has another."""
    return _attribute(_ERROR, bytes((exchange.identifier,)) + _FAILURE.format(challenge.hex().upper()).encode())


def mppe_keys(exchange: Exchange, password_hash: bytes, keying: Keying, salts: tuple[bytes, bytes]) -> bytes:
    """MS-MPPE-Encryption-Policy and -Types, and both keys, hidden under salts that differ and begin with a set bit."""
    keys = exchange.keys(password_hash)
    hidden = [salt + hide_salted(bytes((len(key),)) + key, keying, salt) for key, salt in zip(keys, salts, strict=True)]
    return (
        _attribute(_POLICY, _ENCRYPTION_ALLOWED)
        + _attribute(_TYPES, _RC4_40_AND_128)
        + _attribute(_SEND_KEY, hidden[0])
        + _attribute(_RECEIVE_KEY, hidden[1])
    )


def keying_of(secret: SharedSecret, packet: Packet) -> Keying:
    """What the keys in the answer to this request are hidden with."""
    return Keying(secret, packet.authenticator)
