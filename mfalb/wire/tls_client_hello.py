"""TLS ClientHello: which server a client asks for, read without decrypting anything (RFC 8446 section 4.1.2).

    record      u8 type = 22 (handshake) | u16 version = 0x03xx | u16 length 1..16384 | fragment     section 5.1
    handshake   u8 type = 1 (ClientHello) | u24 length | body; spread over any number of records     section 4
    body        u16 version | 32 random | u8+ session id | u16+ suites | u8+ compression | u16+ extensions
    extension   u16 type | u16+ data, each type at most once                                         section 4.2
    0  server_name  u16+ list of: u8 kind (0 = host name) | u16+ name                                RFC 6066
    16 ALPN         u16+ list of: u8+ protocol                                                       RFC 7301

`u16+` is a length and as many bytes. Types that are not known here are passed over: GREASE (RFC 8701) is one of them,
and so is Encrypted Client Hello, whose outer name is all that anybody on the way can see.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mfalb.errors import MalformedMessage

HELLO_LIMIT_BYTES: Final = 16_384  # of a whole ClientHello; real ones have 200 to 2000 bytes
_RECORDS_LIMIT_BYTES: Final = 2 * HELLO_LIMIT_BYTES  # until it is complete: headers of very small records count, too
_RECORD_HEADER: Final = 5
_HANDSHAKE_HEADER: Final = 4
_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_MAJOR_VERSION: Final = 3  # SSL 3.0 to TLS 1.3 on the wire
_RANDOM_BYTES: Final = 32
_SERVER_NAME: Final = 0
_ALPN: Final = 16
_ENCRYPTED_CLIENT_HELLO: Final = 0xFE0D
_HOST_NAME: Final = 0
_NAME_LIMIT: Final = 255  # RFC 1035 section 2.3.4
_NAME_CHARACTERS: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-._:"  # colons: addresses, which should not be there

# Alert records (RFC 8446 section 6), fatal: what a client may be told before there is a server
UNRECOGNIZED_NAME: Final = b"\x15\x03\x03\x00\x02\x02\x70"  # 112
INTERNAL_ERROR: Final = b"\x15\x03\x03\x00\x02\x02\x50"  # 80


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What may be known of a client: the server's name in lower case ("" when it names none), its ALPN protocols.

    With `is_encrypted_inside` the name is the outer one of an Encrypted Client Hello (or of GREASE for it).
    """

    server_name: str
    protocols: tuple[bytes, ...] = ()
    is_encrypted_inside: bool = False


class ClientHelloReader:
    """Reads the first records of a connection as they come, each byte once, and keeps them as they were.

    What may be kept is bounded: a ClientHello has at most `HELLO_LIMIT_BYTES`.
    """

    __slots__ = ("_message", "_record_at", "raw")

    def __init__(self) -> None:
        self.raw = bytearray()  # everything that came: the server needs it as it is
        self._message = bytearray()
        self._record_at = 0

    def feed_untrusted(self, data: bytes) -> ClientHello | None:
        """The ClientHello when it is complete; None while more is needed. Not to be called again after that.

        Raises MalformedMessage: not_tls, hello_size, or tls_hello for what no TLS client sends.
        """
        self.raw += data
        while fragment := self._next_fragment():
            self._message += fragment
            hello = self._complete()
            if hello is not None:
                return hello
        if len(self.raw) > _RECORDS_LIMIT_BYTES:
            raise MalformedMessage("hello_size")
        return None

    def _next_fragment(self) -> bytes:
        """What the next record carries; b"" when it is not complete yet."""
        raw, at = self.raw, self._record_at
        header = bytes(raw[at : at + _RECORD_HEADER])
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            raise MalformedMessage("tls_hello" if at else "not_tls")
        if len(header) < _RECORD_HEADER:
            return b""
        length = int.from_bytes(header[3:])
        if not 1 <= length <= HELLO_LIMIT_BYTES:
            raise MalformedMessage("tls_hello" if at else "not_tls")
        end = at + _RECORD_HEADER + length
        if end > len(raw):
            return b""
        self._record_at = end
        return bytes(raw[at + _RECORD_HEADER : end])

    def _complete(self) -> ClientHello | None:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise MalformedMessage("tls_hello")
        if len(message) < _HANDSHAKE_HEADER:
            return None
        length = int.from_bytes(message[1:_HANDSHAKE_HEADER])
        if length > HELLO_LIMIT_BYTES:
            raise MalformedMessage("hello_size")
        if len(message) < _HANDSHAKE_HEADER + length:
            return None
        return client_hello_untrusted(bytes(message[_HANDSHAKE_HEADER : _HANDSHAKE_HEADER + length]))


def client_hello_untrusted(body: bytes) -> ClientHello:
    """A ClientHello without its handshake header. Raises MalformedMessage (tls_hello)."""
    rest = _Vector(body)
    version = rest.take(2)
    if version[0] != _MAJOR_VERSION:
        raise MalformedMessage("tls_hello")
    rest.take(_RANDOM_BYTES)
    rest.vector(1)  # session id
    rest.vector(2)  # cipher suites
    rest.vector(1)  # compression methods
    if not rest:
        return ClientHello("")  # TLS 1.2 and older may have no extensions at all
    extensions = rest.vector(2)
    rest.end()
    found: dict[int, _Vector] = {}
    while extensions:
        kind = extensions.number(2)
        if kind in found:  # two names: the server might read the other one
            raise MalformedMessage("tls_hello")
        found[kind] = extensions.vector(2)
    return ClientHello(
        _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else "",
        _protocols(found[_ALPN]) if _ALPN in found else (),
        _ENCRYPTED_CLIENT_HELLO in found,
    )


def _server_name(data: _Vector) -> str:
    names = data.vector(2)
    data.end()
    found = b""
    while names:
        kind = names.number(1)
        name = names.vector(2).rest()
        if kind == _HOST_NAME:
            if found or not name:  # one name of a kind only (RFC 6066 section 3)
                raise MalformedMessage("tls_hello")
            found = name.lower()
    if len(found) > _NAME_LIMIT or found.translate(None, _NAME_CHARACTERS):
        raise MalformedMessage("tls_hello")
    return found.decode("ascii").rstrip(".")


def _protocols(data: _Vector) -> tuple[bytes, ...]:
    names = data.vector(2)
    data.end()
    protocols = []
    while names:
        protocols.append(names.vector(1).rest())
    return tuple(protocols)


class _Vector:
    """Bytes read from their beginning; too few of them are a MalformedMessage."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        at, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise MalformedMessage("tls_hello")
        return self._data[at : self._at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count))

    def vector(self, count: int) -> _Vector:
        """The bytes behind a length of `count` bytes."""
        return _Vector(self.take(self.number(count)))

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        """Nothing may follow."""
        if self:
            raise MalformedMessage("tls_hello")
