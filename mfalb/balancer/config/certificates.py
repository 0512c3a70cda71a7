"""Can the certificates, keys and authorities that a file names be used, and do they belong together?"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from mfalb.balancer.config.document import Loc
from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.models import HttpListener
from mfalb.balancer.config.pin_models import StoreTls
from mfalb.balancer.config.radsec_models import RadsecListener, RadsecTls
from mfalb.balancer.config.secret_sources import SOURCE_LIMIT_BYTES, read_file, reason, warn_if_exposed
from mfalb.balancer.config.tls_models import ClientCertificates, HttpsTls, ListenerTls, UpstreamTls
from mfalb.balancer.config.values import quoted
from mfalb.net.ticket_keys import SECRET_BYTES
from mfalb.net.tls import revocation_lists

_Parsed = TypeVar("_Parsed")
_CRL_LIMIT_BYTES: Final = 64 * 1024 * 1024
_EXPIRES_SOON: Final = timedelta(days=14)
_LAST_PART: Final = 5  # of its life, for certificates that live for days


def check_certificates(draft: Draft, findings: Findings) -> None:
    """Adds every file that is missing, unreadable, no PEM, or does not match its partner."""
    files = _Files(draft, findings, datetime.now(UTC))
    for index, listener in draft.listeners.items():
        if isinstance(listener, HttpListener | RadsecListener) and listener.tls is not None:
            files.check_listener(("listeners", index, "tls"), listener.tls)
    for name, pool in draft.pools.items():
        if pool.upstream_tls is not None:
            files.check_upstream(("pools", name, "upstream_tls"), pool.upstream_tls)
    store = draft.pins.store if draft.pins is not None else None
    if store is not None and store.tls is not None:
        files.check_upstream(("pins", "store", "tls"), store.tls)


@dataclass(frozen=True, slots=True)
class _Files:
    draft: Draft
    findings: Findings
    now: datetime

    def check_listener(self, loc: Loc, tls: ListenerTls) -> None:
        """What a listener shows its clients, and whom it believes about theirs."""
        for index, pair in enumerate(tls.certificates):
            self.check_pair((*loc, "certificates", index), pair.cert, pair.key)
        if isinstance(tls, HttpsTls) and tls.ticket_key is not None:
            self.check_ticket_key((*loc, "ticket_key"), tls.ticket_key)
        if isinstance(tls, HttpsTls) and tls.client_certificates is not None:
            self.check_trust((*loc, "client_certificates"), tls.client_certificates)
        if isinstance(tls, RadsecTls):
            self.check_authorities((*loc, "client_ca"), tls.client_ca)

    def check_upstream(self, loc: Loc, tls: UpstreamTls | StoreTls) -> None:
        """Whom we believe about servers, and what we show them."""
        if tls.ca is not None:
            self.check_authorities((*loc, "ca"), tls.ca)
        if tls.certificate is not None:
            self.check_pair(loc, *tls.certificate)

    def check_pair(self, loc: Loc, cert: Path, key_file: Path) -> None:
        """A certificate and its key: each readable, both of one kind, accepted by the TLS library."""
        chain = self.parsed((*loc, "cert"), cert, _certificates)
        key = self.parsed((*loc, "key"), key_file, _private_key)
        if key is not None:
            warn_if_exposed(key_file, (*loc, "key"), self.draft.document, self.findings)
        if chain is None or key is None:
            return
        if _public_octets(chain[0].public_key()) != _public_octets(key.public_key()):
            self._error(
                (*loc, "key"),
                f"{quoted(key_file)} is not the key of {quoted(cert)}; whose key it is must come first among the "
                "certificates in a file",
            )
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key_file)
        except ssl.SSLError as error:
            trouble = (error.reason or "refused").lower().replace("_", " ")
            self._error((*loc, "cert"), f"the TLS library refuses {quoted(cert)}: {trouble}")
            return
        self._warn_of_expiry((*loc, "cert"), cert, chain[0])

    def check_authorities(self, loc: Loc, ca: Path) -> list[x509.Certificate]:
        """Those that are believed; a warning when none of them is valid any more."""
        found = self.parsed(loc, ca, _certificates) or []
        if found and all(one.not_valid_after_utc < self.now for one in found):
            self._warning(loc, f"every certificate in {quoted(ca)} has expired: nobody will be believed")
        return found

    def check_trust(self, loc: Loc, asked: ClientCertificates) -> None:
        """Whose certificates clients may show, and the lists of those that are revoked."""
        authorities = self.check_authorities((*loc, "ca"), asked.ca)
        if asked.crl is None:
            return
        at = (*loc, "crl")
        lists = self.parsed(at, asked.crl, _revocation_lists, limit_bytes=_CRL_LIMIT_BYTES) or []
        issuers = {one.issuer for one in lists}
        missing = next((one for one in authorities if lists and one.subject not in issuers), None)
        if missing is not None:
            name = quoted(missing.subject.rfc4514_string())
            self._warning(at, f"{quoted(asked.crl)} has no list of {name}: its clients are refused")
        if any(one.next_update_utc is not None and one.next_update_utc < self.now for one in lists):
            self._warning(at, f"a list in {quoted(asked.crl)} is out of date: the clients of its authority are refused")

    def _warn_of_expiry(self, loc: Loc, path: Path, certificate: x509.Certificate) -> None:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        day = f"{end:%Y-%m-%d}"
        if end < self.now:
            self._warning(loc, f"{quoted(path)} expired on {day}; renew it")
        elif begin > self.now:
            self._warning(loc, f"{quoted(path)} is not valid before {begin:%Y-%m-%d %H:%M} UTC")
        elif end - self.now < min(_EXPIRES_SOON, (end - begin) / _LAST_PART):
            self._warning(loc, f"{quoted(path)} expires on {day}; renew it")

    def check_ticket_key(self, loc: Loc, path: Path) -> None:
        """A secret of some length that nobody else reads."""
        if self.parsed(loc, path, _ticket_key) is not None:
            warn_if_exposed(path, loc, self.draft.document, self.findings)

    def parsed(
        self, loc: Loc, path: Path, parse: Callable[[bytes], _Parsed], *, limit_bytes: int = SOURCE_LIMIT_BYTES
    ) -> _Parsed | None:
        """What `parse` makes of a file; None when it cannot be read or parsed, which is a finding then."""
        try:
            return parse(read_file(path, limit_bytes))
        except OSError as error:
            self._error(loc, f"cannot read {quoted(path)}: {reason(error)}")
        except ValueError as error:
            self._error(loc, f"{quoted(path)} {error}")
        return None

    def _error(self, loc: Loc, message: str) -> None:
        self.findings.error(self.draft.document.at_value(loc), f"{loc[-1]}: {message}")

    def _warning(self, loc: Loc, message: str) -> None:
        self.findings.warning(self.draft.document.at_value(loc), f"{loc[-1]}: {message}")


def _certificates(octets: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(octets)
    except ValueError:
        raise ValueError("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)") from None


def _revocation_lists(octets: bytes) -> list[x509.CertificateRevocationList]:
    try:
        lists = list(revocation_lists(octets))
    except ValueError:
        lists = []
    if not lists:
        raise ValueError("holds no revocation list in PEM form (-----BEGIN X509 CRL-----)")
    return lists


def _private_key(octets: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(octets, password=None)
    except TypeError:
        raise ValueError("is protected by a passphrase; store the key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)") from None


def _ticket_key(octets: bytes) -> bytes:
    if len(octets) < SECRET_BYTES:
        raise ValueError(f"has fewer than {SECRET_BYTES} bytes; 'openssl rand -out FILE 48' makes a good one")
    return octets


def _public_octets(key: object) -> bytes:
    octets: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return octets
