"""RFC 2868 section 3.5 and Ascend's scheme, written down a second time: what a server sends and a client reads."""

from __future__ import annotations

from hashlib import md5


def salted(text: bytes, secret: bytes, authenticator: bytes, salt: bytes) -> bytes:
    """A salted value as a server makes it, under a salt of the test's choice."""
    padded = bytes((len(text),)) + text
    padded += bytes(-len(padded) % 16)
    hidden, key = b"", md5(secret + authenticator + salt).digest()
    for start in range(0, len(padded), 16):
        block = bytes(a ^ b for a, b in zip(padded[start : start + 16], key, strict=True))
        hidden, key = hidden + block, md5(secret + block).digest()
    return salt + hidden


def unsalted(value: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """What a client reads out of a salted value."""
    salt, hidden = value[:2], value[2:]
    text, key = b"", md5(secret + authenticator + salt).digest()
    for start in range(0, len(hidden), 16):
        block = hidden[start : start + 16]
        text, key = text + bytes(a ^ b for a, b in zip(block, key, strict=True)), md5(secret + block).digest()
    return text[1 : 1 + text[0]]


def ascend_secret(text: bytes, secret: bytes, authenticator: bytes) -> bytes:
    """An Ascend-Secret from what it says, and what it says from an Ascend-Secret: the same step both ways."""
    key = md5(authenticator + secret).digest()
    return bytes(a ^ b for a, b in zip(text, key, strict=False))
