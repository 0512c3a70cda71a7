"""RADIUS attributes hidden with the shared secret: User-Password and the salted kind.

User-Password (RFC 2865 section 5.2), blocks of 16:   c1 = p1 xor MD5(secret + authenticator)
                                                      ci = pi xor MD5(secret + c(i-1))
Salted (RFC 2868 section 3.5, RFC 2548 section 2.4):  the same, keyed first by MD5(secret + authenticator + salt), over
                                                      one length octet, the text and zeros up to a multiple of 16
"""

from __future__ import annotations

from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.wire.radius import SharedSecret, md5

PASSWORD_LIMIT_BYTES: Final = 128
_BLOCK: Final = 16


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


def rehide_password_untrusted(value: bytes, old: tuple[SharedSecret, bytes], new: tuple[SharedSecret, bytes]) -> bytes:
    """A User-Password hidden anew; `old` and `new` are (secret, request authenticator).

    Raises MalformedMessage as `reveal_password_untrusted` does. A password of up to 16 bytes, as nearly all are, is one
    block: both keys in one xor cost 1.7 us instead of 4.5 (measured).
    """
    if len(value) != _BLOCK:
        return hide_password(reveal_password_untrusted(value, *old), *new)
    old_key = md5(old[0].value + old[1]).digest()
    new_key = md5(new[0].value + new[1]).digest()
    text = int.from_bytes(value, "big") ^ int.from_bytes(old_key, "big") ^ int.from_bytes(new_key, "big")
    return text.to_bytes(_BLOCK, "big")


def rehide_salted_untrusted(value: bytes, old: tuple[SharedSecret, bytes], new: tuple[SharedSecret, bytes]) -> bytes:
    """A salted value (2 bytes of salt, then blocks) hidden anew.

    `old` and `new` are (secret, request authenticator). The salt is kept: it is unique within its packet already, and
    stays so. The padded text passes as it is, so nothing is learned or lost. Raises MalformedMessage when the value
    is no salt and whole blocks.
    """
    salt, hidden = value[:2], value[2:]
    if not hidden or len(hidden) % _BLOCK:
        raise MalformedMessage("bad_salted_length")
    text = _reveal(hidden, old[0], old[1] + salt)
    return salt + _hide(text, new[0], new[1] + salt)
