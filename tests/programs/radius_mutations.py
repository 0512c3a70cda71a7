"""RADIUS packets with something wrong about them, by seeded dice: the same sequence for the same seed.

Each begins as a packet of those that real NASes and servers send. A quarter is signed and then damaged, so it fails a
check sooner or later. The others are signed rightly after the damage, as a hostile peer who knows the secret would do:
a quarter with damaged bytes, and half with well-formed attributes that make no sense, which get furthest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final

from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret, attribute
from mfalb.wire.radius_hidden import hide_password

USER: Final = b"mallory"  # no damage makes another test's user of it
_BODY_LIMIT_BYTES: Final = radius.LIMIT_BYTES - radius.HEADER_BYTES - radius.MESSAGE_AUTHENTICATOR_BYTES
_DAMAGES_LIMIT: Final = 4

_NAME: Final = attribute(radius.USER_NAME, USER)
_NAS: Final = attribute(radius.NAS_IP_ADDRESS, bytes((192, 0, 2, 1))) + attribute(5, bytes((0, 0, 0, 7)))
_STATE: Final = attribute(radius.STATE, bytes(range(16)))
_PROXIED: Final = attribute(radius.PROXY_STATE, b"one") + attribute(radius.PROXY_STATE, b"two")
_MPPE: Final = b"\0\0\1\x37" + b"\x10\x24\x80\1" + bytes(32) + b"\x11\x24\x80\2" + bytes(32)
_EXTENDED: Final = b"\xf1\x05\xfa\1\2" + b"\xf5\xff\xfa\x80" + bytes(251) + b"\xf5\x08\xfa\0abcd"

# (code, attributes); a User-Password is put in front of those of `_WITH_PASSWORD`
_REQUESTS: Final[Sequence[tuple[int, bytes]]] = (
    (radius.ACCESS_REQUEST, _NAME + _NAS),
    (radius.ACCESS_REQUEST, _NAME + _STATE + _PROXIED),
    (radius.ACCESS_REQUEST, _NAME + _NAS + attribute(radius.VENDOR_SPECIFIC, _MPPE) + _EXTENDED),
    (radius.ACCESS_REQUEST, _NAME + attribute(radius.CHAP_PASSWORD, bytes(17)) + _NAS),
    (radius.ACCESS_REQUEST, _NAME + attribute(3, bytes(17)) + attribute(radius.CHAP_CHALLENGE, bytes(20))),
    (radius.ACCESS_REQUEST, _NAME + attribute(radius.EAP_MESSAGE, b"\2\1\0\x0c\1" + USER) + _PROXIED),
    (radius.ACCESS_REQUEST, _NAME + attribute(radius.EAP_MESSAGE, bytes(253)) * 3 + _STATE),
    (radius.ACCESS_REQUEST, _NAME + attribute(radius.PROXY_STATE, bytes(253)) * 9),
    (radius.ACCESS_REQUEST, _NAME + attribute(radius.EAP_MESSAGE, bytes(253)) * 15),
    (radius.STATUS_SERVER, _NAS),
    (radius.ACCOUNTING_REQUEST, _NAME + attribute(40, bytes((0, 0, 0, 1))) + attribute(44, b"session") + _PROXIED),
    (43, _NAME + _STATE),  # CoA-Request
)
_WITH_PASSWORD: Final = range(3)
_GATE: Final = attribute(radius.NAS_IDENTIFIER, b"gate1")
_RECORD: Final = attribute(radius.ACCT_STATUS_TYPE, bytes((0, 0, 0, 1))) + attribute(44, b"session")
_CONTENT_SIGNED: Final[Sequence[bytes]] = (
    _RECORD + _NAME + _NAS + attribute(radius.ACCT_DELAY_TIME, bytes(4)) + _PROXIED,
    _RECORD + _NAME + attribute(radius.CLASS, bytes(8)) * 2 + attribute(radius.CALLING_STATION_ID, b"00-11-22"),
    attribute(radius.ACCT_STATUS_TYPE, bytes((0, 0, 0, 7))) + _GATE + _EXTENDED,
    _GATE + _NAME + _STATE + _PROXIED,
    _GATE + _NAS + attribute(44, b"session"),
    _GATE + attribute(radius.TUNNEL_PASSWORD, b"\1\x80\3" + bytes(32)) + attribute(radius.VENDOR_SPECIFIC, _MPPE),
    _GATE + attribute(radius.PROXY_STATE, bytes(253)) * 15,
)
_ANSWERS: Final[Sequence[tuple[int, bytes]]] = (
    (radius.ACCESS_ACCEPT, attribute(radius.REPLY_MESSAGE, b"hello") + attribute(radius.CLASS, bytes(8))),
    (radius.ACCESS_ACCEPT, attribute(radius.VENDOR_SPECIFIC, _MPPE) + _EXTENDED),
    (radius.ACCESS_ACCEPT, attribute(radius.TUNNEL_PASSWORD, b"\1\x80\3" + bytes(32)) * 2),
    (radius.ACCESS_ACCEPT, _STATE + attribute(29, bytes((0, 0, 0, 1))) + attribute(27, bytes((0, 0, 9, 9)))),
    (radius.ACCESS_REJECT, attribute(radius.REPLY_MESSAGE, b"no")),
    (radius.ACCESS_CHALLENGE, attribute(radius.REPLY_MESSAGE, b"the code?") + _STATE),
    (radius.ACCESS_CHALLENGE, attribute(radius.EAP_MESSAGE, bytes(253)) * 3 + _STATE),
    (radius.ACCESS_CHALLENGE, attribute(radius.EAP_MESSAGE, bytes(253)) * 15 + _STATE),
    (radius.ACCOUNTING_RESPONSE, b""),
)


class Mutations:
    """The sequence of one seed."""

    def __init__(self, seed: int) -> None:
        self.dice: Final = random.Random(seed)  # noqa: S311 - a failure must come again
        self._damages: Sequence[Callable[[bytearray], None]] = (
            self._flip_bits,
            self._cut,
            self._insert,
            self._overwrite,
            self._change_length,
            self._change_kind,
            self._drop_attribute,
            self._repeat_attribute,
            self._splice,
        )

    def request(self, secret: SharedSecret) -> bytes:
        """What a client sends."""
        dice, authenticator = self.dice, self.dice.randbytes(16)
        number = dice.randrange(len(_REQUESTS))
        code, body = _REQUESTS[number]
        if number in _WITH_PASSWORD:
            hidden = hide_password(b"a password", secret, authenticator)
            body = attribute(radius.USER_PASSWORD, hidden) + body

        def signed(body: bytes) -> bytes:
            identifier = dice.randrange(256)
            if code == radius.ACCOUNTING_REQUEST:
                return radius.content_signed_request(radius.ACCOUNTING_REQUEST, identifier, body, secret)
            return radius.signed_request(code, identifier, authenticator, body, secret)

        return self._wrong(body, signed)

    def content_signed(self, code: int, secret: SharedSecret) -> bytes:
        """What a client sends on the ports for accounting and dynamic authorization; now and then of another code."""
        dice = self.dice
        code = dice.choice((code, code, code, code, radius.DISCONNECT_REQUEST, radius.STATUS_SERVER))
        body = dice.choice(_CONTENT_SIGNED)
        is_mac_added = bool(dice.getrandbits(1))

        def signed(body: bytes) -> bytes:
            fitting = body[:_BODY_LIMIT_BYTES]
            identifier = dice.randrange(256)
            return radius.content_signed_request(code, identifier, fitting, secret, is_mac_added=is_mac_added)

        return self._wrong(body, signed)

    def answer(
        self, identifier: int, request_authenticator: bytes, secret: SharedSecret, codes: Sequence[int] = ()
    ) -> bytes:
        """What a server sends, to the request with this identifier and authenticator; `codes` narrows down which."""
        code, body = self.dice.choice(_ANSWERS)
        if codes:
            code = self.dice.choice(codes)
        sign = radius.signed_response if self.dice.random() < 0.7 else radius.unsigned_response
        return self._wrong(body, lambda body: sign(code, identifier, request_authenticator, body, secret))

    def _wrong(self, body: bytes, sign: Callable[[bytes], bytes]) -> bytes:
        match self.dice.randrange(4):
            case 0:
                return self._damaged(sign(body[:_BODY_LIMIT_BYTES]))
            case 1:
                return sign(self._damaged(body)[:_BODY_LIMIT_BYTES])
            case _:
                return sign(self._senseless(body))

    def _senseless(self, body: bytes) -> bytes:
        """Attributes of the right form: of other kinds, with other values, repeated, left out, in another order."""
        dice, parts = self.dice, _attributes(body)
        for _ in range(dice.randint(1, _DAMAGES_LIMIT)):
            place = dice.randrange(len(parts) + 1)
            kind, value = parts[place] if place < len(parts) else dice.choice(_attributes(self._other() or _NAME))
            match dice.randrange(6):
                case 0:
                    parts.insert(place, (kind, value))
                case 1:
                    parts[place : place + 1] = [(self._kind(), value)]
                case 2:
                    parts[place : place + 1] = [(kind, dice.randbytes(dice.choice((0, 1, 15, 16, 17, 18, 34, 253))))]
                case 3:
                    flipped = bytearray(value)
                    self._flip_bits(flipped)
                    parts[place : place + 1] = [(kind, bytes(flipped))]
                case 4:
                    parts[place : place + 1] = [(kind, value)] * dice.choice((0, 0, 2, 12))
                case _:
                    dice.shuffle(parts)
        return _fitting(parts)

    def _other(self) -> bytes:
        return self.dice.choice((*_REQUESTS, *_ANSWERS))[1]

    def _kind(self) -> int:
        return self.dice.choice((1, 2, 3, 24, 26, 33, 60, 69, 79, 80, 241, 245, self.dice.randrange(256)))

    def _damaged(self, data: bytes) -> bytes:
        damaged = bytearray(data)
        for _ in range(self.dice.randint(1, _DAMAGES_LIMIT)):
            self.dice.choice(self._damages)(damaged)
        return bytes(damaged)

    # ----------------------------------------------------------------------------- what can go wrong

    def _place(self, data: bytearray) -> int:
        return self.dice.randrange(len(data) + 1)

    def _flip_bits(self, data: bytearray) -> None:
        for _ in range(self.dice.randint(1, 8) if data else 0):
            data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)

    def _cut(self, data: bytearray) -> None:
        del data[self._place(data) :]

    def _insert(self, data: bytearray) -> None:
        place = self._place(data)
        data[place:place] = self.dice.randbytes(self.dice.randint(1, 40))

    def _overwrite(self, data: bytearray) -> None:
        place = self._place(data)
        noise = self.dice.randbytes(min(self.dice.randint(1, 20), len(data) - place))
        data[place : place + len(noise)] = noise

    def _attribute(self, data: bytearray) -> tuple[int, int]:
        """Where a random attribute begins and ends, as far as there is one: of a body, or of a whole packet."""
        starts, position = [], 0 if self.dice.getrandbits(1) else radius.HEADER_BYTES
        while position + 1 < len(data) and data[position + 1] >= 2:
            starts.append(position)
            position += data[position + 1]
        start = self.dice.choice(starts) if starts else len(data)
        return start, start + data[start + 1] if start < len(data) else len(data)

    def _change_length(self, data: bytearray) -> None:
        start, _ = self._attribute(data)
        if start < len(data):
            length = data[start + 1]
            data[start + 1] = self.dice.choice((0, 1, 2, max(0, length - 1), min(255, length + 1), 255))

    def _change_kind(self, data: bytearray) -> None:
        start, _ = self._attribute(data)
        if start < len(data):
            data[start] = self._kind()

    def _drop_attribute(self, data: bytearray) -> None:
        start, end = self._attribute(data)
        del data[start:end]

    def _repeat_attribute(self, data: bytearray) -> None:
        start, end = self._attribute(data)
        place, times = self._attribute(data)[0], self.dice.choice((1, 1, 2, 12))
        data[place:place] = data[start:end] * times

    def _splice(self, data: bytearray) -> None:
        """Goes on as another packet does, from the same place or another one."""
        other, place = self._other(), self._place(data)
        data[place:] = other[self.dice.choice((place, self.dice.randrange(len(other) + 1))) :]


def _attributes(body: bytes) -> list[tuple[int, bytes]]:
    """The attributes of an undamaged body."""
    found, position = [], 0
    while position < len(body):
        end = position + body[position + 1]
        found.append((body[position], body[position + 2 : end]))
        position = end
    return found


def _fitting(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """As many of these attributes as fit a packet."""
    body = b""
    for kind, value in parts:
        if len(body) + 2 + len(value) > _BODY_LIMIT_BYTES:
            break
        body += attribute(kind, value)
    return body


def forged_by_a_bit(datagram: bytes) -> bytes:
    """The same with another last byte, whatever it was."""
    return datagram[:-1] + bytes((datagram[-1] ^ 1,))
