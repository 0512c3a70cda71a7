"""The marks of certificates, and bytes that are none."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from unit.net.throw_away_certificates import write_certificate

from mfalb.errors import MalformedMessage
from mfalb.net.peer_certificate import peer_certificate_untrusted


def der_of(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


@pytest.fixture(scope="module")
def der(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("certificate")
    return der_of(write_certificate(folder, "NAS 1", "NAS1.contoso.com", "*.vpn.contoso.com")[0])


def test_names_and_fingerprint_are_read(der: bytes) -> None:
    found = peer_certificate_untrusted(der)
    assert found.dns_names == ("nas1.contoso.com", "*.vpn.contoso.com")
    assert found.common_names == ("NAS 1",)
    assert found.fingerprint == hashlib.sha256(der).hexdigest()


def test_a_certificate_without_alternative_names_has_none(tmp_path: Path) -> None:
    found = peer_certificate_untrusted(der_of(write_certificate(tmp_path, "lonely")[0]))
    assert (found.dns_names, found.common_names) == ((), ("lonely",))


@given(st.binary(max_size=200))
def test_bytes_that_are_no_certificate_are_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="bad_certificate"):
        peer_certificate_untrusted(data)


def test_a_serial_number_that_is_not_positive_is_read_without_a_warning(der: bytes) -> None:
    number = x509.load_der_x509_certificate(der).serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1, "big")
    changed = der.replace(serial, bytes((serial[0] | 0x80,)) + serial[1:])
    assert changed != der
    assert peer_certificate_untrusted(changed).dns_names == peer_certificate_untrusted(der).dns_names


def test_a_common_name_that_is_a_bit_string_is_malformed(der: bytes) -> None:
    changed = der.replace(b"\x55\x04\x03\x0c", b"\x55\x04\x03\x03")  # a UTF8String before
    assert changed != der
    with pytest.raises(MalformedMessage, match="bad_certificate"):
        peer_certificate_untrusted(changed)


@given(st.data())
def test_a_certificate_with_changed_bytes_is_read_or_malformed(der: bytes, data: st.DataObject) -> None:
    changed = bytearray(der)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = peer_certificate_untrusted(bytes(changed))
    except MalformedMessage:
        return
    assert found.fingerprint == hashlib.sha256(changed).hexdigest()


def test_a_certificate_that_is_cut_anywhere_is_malformed(der: bytes) -> None:
    for length in range(len(der)):
        with pytest.raises(MalformedMessage):
            peer_certificate_untrusted(der[:length])
