import _struct
import ssl
import sys
from types import SimpleNamespace

import pytest

from mfalb.net import openssl
from mfalb.net.openssl import TICKET_KEY_BYTES, NativeTls, NotThere, native_tls


def test_this_python_s_openssl_is_reached() -> None:
    assert isinstance(native_tls(), NativeTls)


def test_a_key_stays_as_it_was_set() -> None:
    native, context = NativeTls(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for number in range(3):
        native.set_ticket_key(context, bytes([number]) * TICKET_KEY_BYTES)  # raises unless it can be read back


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(NotThere, match="do not stay"):
        NativeTls().set_ticket_key(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), bytes(48))


def test_what_is_no_server_s_context_is_not_touched() -> None:
    native = NativeTls()
    for other in (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), SimpleNamespace(), [1, 2, 3], b"x" * 64):
        with pytest.raises(NotThere):
            native.set_ticket_key(other, bytes(TICKET_KEY_BYTES))  # type: ignore[arg-type]


def test_another_python_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "implementation", SimpleNamespace(name="pypy"))
    with pytest.raises(NotThere, match="not CPython"):
        NativeTls()


def test_a_library_of_another_version_is_not_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssl, "OPENSSL_VERSION_NUMBER", 0x10101000)
    with pytest.raises(NotThere, match="another OpenSSL"):
        NativeTls()


@pytest.mark.parametrize("file", ["/nowhere/_ssl.so", _struct.__file__])
def test_a_library_that_is_not_there_is_a_finding(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setattr(openssl, "_ssl", SimpleNamespace(__file__=file))
    with pytest.raises(NotThere, match="cannot be reached"):
        NativeTls()
