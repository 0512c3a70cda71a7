"""The keys of session tickets, made from a secret that several processes share."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mfalb.net.openssl import TICKET_KEY_BYTES

SECRET_BYTES: Final = 32


def ticket_key(secret: bytes, server: str, trust: bytes) -> bytes:
    """TICKET_KEY_BYTES for the tickets of one server (its name), by HKDF (RFC 5869). Raises ValueError.

    `trust` stands for what the server asks of its clients' certificates. A ticket tells nothing of how it was earned,
    so where something else is asked (another listener, another authority or revocation list) it must not be readable.
    """
    if len(secret) < SECRET_BYTES:
        raise ValueError(f"the ticket key has fewer than {SECRET_BYTES} bytes")
    info = b"mfalb session tickets\0" + server.encode() + b"\0" + trust
    return HKDF(SHA256(), TICKET_KEY_BYTES, salt=None, info=info).derive(secret)
