"""ClientHellos: made by OpenSSL through Python's ssl, and put together by hand for what no client sends."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

RANDOM = bytes(range(32))
GREASE = (0x0A0A, b"")


def from_openssl(server_name: str | None, *, protocols: Sequence[str] = (), newest: str = "TLSv1_3") -> bytes:
    """The first flight of a client, as records."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion[newest]
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=server_name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake without a server")


def vector(data: bytes, length_bytes: int = 2) -> bytes:
    return len(data).to_bytes(length_bytes) + data


def name_list(*names: tuple[int, bytes]) -> bytes:
    """The data of a server_name extension."""
    return vector(b"".join(bytes((kind,)) + vector(name) for kind, name in names))


def sni(name: bytes) -> tuple[int, bytes]:
    """The extension that names a server."""
    return 0, name_list((0, name))


def body(*extensions: tuple[int, bytes], version: bytes = b"\x03\x03") -> bytes:
    """A ClientHello's body."""
    head = version + RANDOM + vector(b"", 1) + vector(b"\x13\x01\x13\x02") + vector(b"\x00", 1)
    if not extensions:
        return head
    return head + vector(b"".join(kind.to_bytes(2) + vector(data) for kind, data in extensions))


def message(hello: bytes) -> bytes:
    """A body as a handshake message."""
    return b"\x01" + vector(hello, 3)


def records(data: bytes, size: int = 16_384) -> bytes:
    """Handshake bytes in records of at most `size` bytes."""
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"\x16\x03\x01" + vector(piece) for piece in pieces)


def hello_records(*extensions: tuple[int, bytes], size: int = 16_384) -> bytes:
    """A whole ClientHello as it is on the wire."""
    return records(message(body(*extensions)), size)
