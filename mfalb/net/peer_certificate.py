"""What a peer's certificate says of it. That it is genuine, the TLS library has seen to before."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from mfalb.errors import MalformedMessage

# What the library raises for certificates that contradict themselves or the standard
_FAULTS: Final = (
    TypeError,  # a name's attribute whose kind of value its type does not allow (a bit string as a common name)
    ValueError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """The marks of one certificate: DNS names (subjectAltName) in lower case, common names, SHA-256 in hexadecimal."""

    dns_names: tuple[str, ...]
    common_names: tuple[str, ...]
    fingerprint: str


def peer_certificate_untrusted(der: bytes) -> PeerCertificate:
    """The marks in a certificate's DER. Raises MalformedMessage for one that cannot be read.

    What the library will not read one day (a serial number that is not positive) is read, and not warned of: it was the
    TLS library's to judge.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            subject = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            names = _alternative_names(certificate)
    except _FAULTS as error:
        raise MalformedMessage("bad_certificate") from error
    return PeerCertificate(
        tuple(name.lower() for name in names),
        tuple(attribute.value for attribute in subject if isinstance(attribute.value, str)),
        hashlib.sha256(der).hexdigest(),
    )


def _alternative_names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(x509.DNSName)
