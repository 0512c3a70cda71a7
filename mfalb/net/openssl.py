"""What Python's ssl has no call for, asked of the very OpenSSL that it uses: ticket keys, names of client authorities.

Through cffi (ABI mode) on the SSL_CTX inside an ssl.SSLContext. CPython keeps that pointer right behind the head of the
object:

    typedef struct { PyObject_HEAD; SSL_CTX *ctx; ... } PySSLContext;      (Modules/_ssl.c, 3.7 to 3.14)

Nothing is taken on trust. The library is the one that `_ssl` is linked to, by its own symbols and version. A pointer
is believed when what it points to begins with a server's method table, read by way of /proc/self/mem, where a wrong
address is an error and not a crash. Keys are read back once they are set. Where any of this does not hold,
`native_tls` says why and nothing is called: tickets are then good for the process that gave them only.
"""

from __future__ import annotations

import _ssl  # the module that is linked to the library
import os
import ssl
import struct
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

TICKET_KEY_BYTES: Final = 80  # name 16, HMAC-SHA256 key 32, AES-256 key 32 (SSL_CTX_set_tlsext_ticket_keys)

_DECLARATIONS: Final = """
unsigned long OpenSSL_version_num(void);
const void *TLS_server_method(void);
long SSL_CTX_ctrl(void *ctx, int cmd, long larg, void *parg);
void *SSL_load_client_CA_file(const char *file);
void SSL_CTX_set_client_CA_list(void *ctx, void *list);
void ERR_clear_error(void);
"""
_SET_SESS_CACHE_MODE: Final = 44  # openssl/ssl.h, since OpenSSL 0.9.8
_GET_TICKET_KEYS: Final = 58  # openssl/tls1.h
_SET_TICKET_KEYS: Final = 59
_POINTER: Final = struct.Struct("P")
_METHOD_WITHIN_POINTERS: Final = 2  # the method is the first field of an SSL_CTX, or the second since OpenSSL 3.0


class NotThere(Exception):  # noqa: N818 - a finding, not a fault
    """Python or its OpenSSL is not built as expected; the text says what is different."""


class NativeTls:
    """The calls. Raises NotThere when they cannot be made safely."""

    def __init__(self) -> None:
        try:
            import cffi  # noqa: PLC0415 - the balancer starts without it, too
        except ImportError as error:
            raise NotThere(f"{type(error).__name__}: {error}") from error
        self._ffi = cffi.FFI()
        self._ffi.cdef(_DECLARATIONS)
        self._library = self._opened()
        self._method = int(self._ffi.cast("uintptr_t", self._library.TLS_server_method()))
        self.set_ticket_key(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), os.urandom(TICKET_KEY_BYTES))

    def set_ticket_key(self, context: ssl.SSLContext, key: bytes) -> None:
        """Tickets of this server context are made and read with this key of TICKET_KEY_BYTES, from now on."""
        pointer = self._pointer(context)
        self._library.SSL_CTX_ctrl(pointer, _SET_TICKET_KEYS, len(key), self._ffi.from_buffer(key))
        found = self._ffi.new("char[]", TICKET_KEY_BYTES)
        self._library.SSL_CTX_ctrl(pointer, _GET_TICKET_KEYS, TICKET_KEY_BYTES, found)
        if bytes(self._ffi.buffer(found)) != key:
            raise NotThere("ticket keys do not stay as they are set")

    def forget_sessions(self, context: ssl.SSLContext) -> None:
        """No session of this server context is kept, so none is resumed without a ticket."""
        self._library.SSL_CTX_ctrl(self._pointer(context), _SET_SESS_CACHE_MODE, 0, self._ffi.NULL)

    def name_authorities(self, context: ssl.SSLContext, ca: Path) -> None:
        """Clients are told whose certificates are asked for, so that theirs can choose among several."""
        pointer = self._pointer(context)
        names = self._library.SSL_load_client_CA_file(os.fsencode(ca))
        if names == self._ffi.NULL:
            self._library.ERR_clear_error()  # else the next handshake would be taken to have failed
        else:
            self._library.SSL_CTX_set_client_CA_list(pointer, names)  # which owns them now

    # ------------------------------------------------------------------------------ what is believed, and why

    def _opened(self) -> Any:
        if sys.implementation.name != "cpython":
            raise NotThere("this Python is not CPython")
        try:
            library: Any = self._ffi.dlopen(getattr(_ssl, "__file__", None))
            version = library.OpenSSL_version_num()
        except (OSError, AttributeError) as error:  # AttributeError: a symbol that is not exported
            raise NotThere("this Python's OpenSSL cannot be reached") from error
        if version != ssl.OPENSSL_VERSION_NUMBER:
            raise NotThere("another OpenSSL than this Python's was found")
        return library

    def _pointer(self, context: ssl.SSLContext) -> Any:
        """The SSL_CTX of a server context."""
        address = self._pointers(id(context) + object.__basicsize__, 1)[0]
        if self._method not in self._pointers(address, _METHOD_WITHIN_POINTERS):
            raise NotThere("this Python keeps its contexts in another way")
        return self._ffi.cast("void *", address)

    @staticmethod
    def _pointers(address: int, count: int) -> tuple[int, ...]:
        """So many machine words at an address of this process."""
        try:
            with Path("/proc/self/mem").open("rb", buffering=0) as memory:
                memory.seek(address)
                octets = memory.read(count * _POINTER.size)
        except (OSError, OverflowError, ValueError) as error:
            raise NotThere("this process may not look at its own memory") from error
        if len(octets) != count * _POINTER.size:
            raise NotThere("this process may not look at its own memory")
        return tuple(word for (word,) in _POINTER.iter_unpack(octets))


@cache
def native_tls() -> NativeTls | str:
    """The calls, tried out once; or why they are not to be had."""
    try:
        return NativeTls()
    except NotThere as finding:
        return str(finding)
