"""RADIUS attributes hidden with the shared secret: the three schemes there are.

User-Password (RFC 2865 section 5.2), blocks of 16:   c1 = p1 xor MD5(secret + authenticator)
                                                      ci = pi xor MD5(secret + c(i-1))
Salted (RFC 2868 section 3.5, RFC 2548 section 2.4):  the same, keyed first by MD5(secret + authenticator + salt), over
                                                      one length octet, the text and zeros up to a multiple of 16
Ascend-Secret (Ascend's own, at most 16 bytes):       c  = p  xor MD5(authenticator + secret)

Which attribute is hidden in which way is told by `radius_hidden_attributes`.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.wire.radius import SharedSecret, md5

PASSWORD_LIMIT_BYTES: Final = 128
SALT_BYTES: Final = 2
_BLOCK: Final = 16
_unpack_three_blocks: Final = Struct("=6Q").unpack  # any byte order: only bits in the same place meet
_pack_block: Final = Struct("=2Q").pack
_SALT_MARK: Final = 0x8000  # RFC 2868 section 3.5: the most significant bit of a salt is set


class Keying:
    """What hidden values depend on: the secret, and the Request Authenticator of the request or of its answer.

    Requests whose authenticator is made over the finished packet (Accounting-, CoA- and Disconnect-Request) hide with
    sixteen zeros in its place, as FreeRADIUS does. A plain class: four are made for a transaction between two secrets,
    and named tuples cost 6 % of it (compiled, measured).
    """

    __slots__ = ("authenticator", "secret")

    def __init__(self, secret: SharedSecret, authenticator: bytes) -> None:
        self.secret = secret
        self.authenticator = authenticator


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _hide(text: bytes, secret: SharedSecret, start: bytes) -> bytes:
    hidden, previous = [], start
    for position in range(0, len(text), _BLOCK):
        previous = _xor(text[position : position + _BLOCK], md5(secret.value + previous).digest())
        hidden.append(previous)
    return b"".join(hidden)


def _reveal(hidden: bytes, secret: SharedSecret, start: bytes) -> bytes:
    # Each block's key is made of the block before it, and all of those are known here: one xor for the whole
    value = secret.value
    keys = [md5(value + start).digest()]
    keys += [
        md5(value + hidden[position : position + _BLOCK]).digest()
        for position in range(0, len(hidden) - _BLOCK, _BLOCK)
    ]
    return _xor(hidden, b"".join(keys))


def hide_password(password: bytes, secret: SharedSecret, authenticator: bytes) -> bytes:
    """The value of a User-Password attribute, 16 to 128 bytes. Raises ValueError past 128 bytes."""
    if len(password) > PASSWORD_LIMIT_BYTES:
        raise ValueError(f"a User-Password holds at most {PASSWORD_LIMIT_BYTES} bytes")
    padded = password.ljust(max(_BLOCK, -(-len(password) // _BLOCK) * _BLOCK), b"\0")
    return _hide(padded, secret, authenticator)


def reveal_password_untrusted(value: bytes, secret: SharedSecret, authenticator: bytes) -> bytes:
    """The password with its padding, a multiple of 16 bytes; less the zeros at its end it is what was typed.

    Raises MalformedMessage when the value is not 16 to 128 bytes in blocks of 16. A wrong secret cannot be noticed:
    it gives other bytes.
    """
    if not value or len(value) > PASSWORD_LIMIT_BYTES or len(value) % _BLOCK:
        raise MalformedMessage("bad_user_password_length")
    return _reveal(value, secret, authenticator)


def rehide_password_untrusted(value: bytes, old: Keying, new: Keying) -> bytes:
    """A User-Password hidden anew.

    Raises MalformedMessage as `reveal_password_untrusted` does. A password of up to 16 bytes, as nearly all are, is one
    block: both keys in one xor cost 1.7 us instead of 4.5 (measured), halves of 8 bytes a fifth less again.
    """
    if len(value) != _BLOCK:
        password = reveal_password_untrusted(value, old.secret, old.authenticator)
        return hide_password(password, new.secret, new.authenticator)
    old_key = md5(old.secret.value + old.authenticator).digest()
    new_key = md5(new.secret.value + new.authenticator).digest()
    a, b, old_a, old_b, new_a, new_b = _unpack_three_blocks(value + old_key + new_key)
    return _pack_block(a ^ old_a ^ new_a, b ^ old_b ^ new_b)


def unique_salt(salt: bytes, used: set[int]) -> bytes:
    """The salt itself where it may stand in a packet that uses those already; else the next one that may.

    RFC 2868 section 3.5: the first bit set, and no other like it in the packet. Adds it to `used`. A packet has room
    for some two hundred salted values, so one of the 32,768 salts is always free.
    """
    number = int.from_bytes(salt, "big") | _SALT_MARK
    while number in used:
        number = (number + 1) & 0xFFFF | _SALT_MARK
    used.add(number)
    return number.to_bytes(SALT_BYTES, "big")


def hide_salted(text: bytes, keying: Keying, salt: bytes) -> bytes:
    """The blocks of a salted value: `text` (its length octet included) with zeros up to whole blocks, hidden.

    The value of the attribute is `salt` and these; RFC 2868 section 3.5 wants the salt's first bit set.
    """
    padded = text.ljust(-(-len(text) // _BLOCK) * _BLOCK, b"\0")
    return _hide(padded, keying.secret, keying.authenticator + salt)


def rehide_salted_untrusted(value: bytes, old: Keying, new: Keying, salt: bytes) -> bytes:
    """A salted value (2 bytes of salt, then blocks) hidden anew under `salt`, which `unique_salt` gives.

    The padded text passes as it is, so nothing is learned or lost. Raises MalformedMessage when the value is no salt
    and whole blocks.
    """
    hidden = value[SALT_BYTES:]
    if not hidden or len(hidden) % _BLOCK:
        raise MalformedMessage("bad_salted_length")
    text = _reveal(hidden, old.secret, old.authenticator + value[:SALT_BYTES])
    return salt + _hide(text, new.secret, new.authenticator + salt)


def rehide_ascend_secret_untrusted(value: bytes, old: Keying, new: Keying) -> bytes:
    """An Ascend-Send- or -Receive-Secret hidden anew. Raises MalformedMessage when the value is not 1 to 16 bytes."""
    size = len(value)
    if not 1 <= size <= _BLOCK:
        raise MalformedMessage("bad_ascend_secret_length")
    text = _xor(value, old.secret.digest(old.authenticator)[:size])
    return _xor(text, new.secret.digest(new.authenticator)[:size])
