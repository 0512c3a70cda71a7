"""What backends are told of a client's certificate: header lines, made once a connection."""

from __future__ import annotations

import hashlib
import warnings
from base64 import b64encode
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

from cryptography import x509

from mfalb.balancer.config.tls_models import IdentityHeaders

_BEGIN, _END = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
_FIRST_PRINTABLE, _LAST_PRINTABLE = 0x20, 0x7E
# TypeError: a name's attribute whose kind of value its type does not allow (a bit string as a common name)
_UNREADABLE: Final = (ValueError, TypeError, x509.InvalidVersion)


def identity_lines(der: bytes | None, headers: IdentityHeaders) -> bytes:
    """The lines for a client that showed this certificate (DER), which the TLS library has verified, or showed none.

    What cannot be read of a certificate has no line; nothing in one can end a line or begin another.
    """
    values: list[tuple[str | None, str | None]] = [(headers.verify, "NONE" if der is None else "SUCCESS")]
    if der is not None:
        values += [
            (headers.certificate, escaped_pem(der)),
            (headers.fingerprint, hashlib.sha256(der).hexdigest()),
            *_readable(der, headers),
        ]
    return b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in values if name and value is not None)


def _readable(der: bytes, headers: IdentityHeaders) -> list[tuple[str | None, str | None]]:
    with warnings.catch_warnings():  # odd certificates were the TLS library's to judge
        warnings.simplefilter("ignore")
        try:
            certificate = x509.load_der_x509_certificate(der)
        except _UNREADABLE:
            return []
        return [
            (headers.subject, _read(lambda: dn_text(certificate.subject))),
            (headers.issuer, _read(lambda: dn_text(certificate.issuer))),
            (headers.serial, _read(lambda: f"{certificate.serial_number:X}")),
        ]


def _read(value: Callable[[], str]) -> str | None:
    try:
        return value()
    except _UNREADABLE:
        return None


def escaped_pem(der: bytes) -> str:
    """PEM in one line, percent-encoded as nginx does it ($ssl_client_escaped_cert)."""
    return quote(_BEGIN + _base64_lines(der) + _END, safe="")


def _base64_lines(der: bytes) -> str:
    """In lines of 64 characters (RFC 7468)."""
    text = b64encode(der).decode("ascii")
    return "".join(text[at : at + 64] + "\n" for at in range(0, len(text), 64))


def dn_text(name: x509.Name) -> str:
    """A distinguished name as RFC 4514 writes it, in printable ASCII.

    Every other octet is a backslash and two hexadecimal digits, which its section 2.4 allows anywhere in a value.
    """
    text = name.rfc4514_string()
    return "".join(chr(one) if _FIRST_PRINTABLE <= one <= _LAST_PRINTABLE else f"\\{one:02X}" for one in text.encode())
