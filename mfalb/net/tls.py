"""TLS contexts, both directions: TLS 1.2 and later, modern suites; certificates by the name that a client asks for.

A server has one *front* context, where each handshake begins and whose keys make the session tickets, and a context
for each set of certificates. The handshake goes over to one of those when the client's name is known; so certificates
can be exchanged under a front that stays, and a session is resumed whatever name it began with.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mfalb.net.openssl import NativeTls, native_tls

# TLS 1.2 suites with forward secrecy and authenticated encryption; TLS 1.3 has no others.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_REVOCATION: Final = ssl.VERIFY_CRL_CHECK_LEAF | ssl.VERIFY_CRL_CHECK_CHAIN  # as nginx and HAProxy do

_HOSTNAME_MISMATCH: Final = 62  # X509_V_ERR_HOSTNAME_MISMATCH

Pair = tuple[Path, Path]
"""The files of a certificate chain and its private key, PEM."""


@dataclass(frozen=True, slots=True)
class ClientTrust:
    """Whose certificates clients may show, or have to. With a `crl` each authority of a chain needs a list in it."""

    ca: Path
    crl: Path | None = None
    is_required: bool = True


@dataclass(frozen=True, slots=True)
class ServerFiles:
    """What a TLS server is made from. The first pair serves clients whose name no certificate has.

    `alpn` is empty for protocols that have no name. `has_sessions` is false where nobody may be let in by what was
    checked earlier. `ticket_key` is a file with at least 32 secret bytes: whoever has the same resumes its sessions.
    `tells_refusals` is false where the listener itself logs whose certificate was refused.
    """

    pairs: tuple[Pair, ...]
    client_trust: ClientTrust | None = None
    alpn: tuple[str, ...] = ("http/1.1",)
    has_sessions: bool = True
    ticket_key: Path | None = None
    tells_refusals: bool = True


@dataclass(frozen=True, slots=True)
class ClientFiles:
    """What TLS towards servers is made from; `ca` replaces the system's trusted roots.

    `certificate` is what we show to a server that asks for one. `peer_name` has to be in the server's certificate
    instead of the name that the connection asks for (SNI).
    """

    ca: Path | None = None
    is_verified: bool = True
    certificate: Pair | None = None
    peer_name: str | None = None


# ---------------------------------------------------------------------------------------------------- servers


class Choice:
    """A context for each name that some certificate has. Raises OSError, ssl.SSLError and ValueError.

    Several certificates for one name serve it together when their keys are of different kinds (ECDSA and RSA): each
    client gets what it can verify. Of the same kind the first counts.
    """

    def __init__(self, files: ServerFiles) -> None:
        self._files = files
        self._made: dict[tuple[Pair, ...], ssl.SSLContext] = {}
        found = [(pair, _leaf(pair[0])) for pair in files.pairs]
        by_name: dict[str, list[tuple[Pair, x509.Certificate]]] = {}
        for pair, leaf in found:
            for name in dict.fromkeys(_dns_names(leaf)):
                by_name.setdefault(name, []).append((pair, leaf))
        first_names = set(_dns_names(found[0][1]))
        alike = [(pair, leaf) for pair, leaf in found if set(_dns_names(leaf)) == first_names]
        self._first = self._context(alike)
        self._by_name: Mapping[str, ssl.SSLContext] = {name: self._context(some) for name, some in by_name.items()}
        for pair in files.pairs:  # one that nobody can ask for has to be sound all the same
            self._context_of((pair,))
        self._made.clear()

    def context_for(self, server_name: str | None) -> ssl.SSLContext:
        """An exact name goes before a wildcard, which stands for one label; letter case does not count."""
        name = (server_name or "").lower()
        return self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2]) or self._first

    def _context(self, candidates: Iterable[tuple[Pair, x509.Certificate]]) -> ssl.SSLContext:
        by_kind: dict[str, Pair] = {}
        for pair, leaf in candidates:
            by_kind.setdefault(_key_kind(leaf), pair)
        return self._context_of(tuple(by_kind.values()))

    def _context_of(self, pairs: tuple[Pair, ...]) -> ssl.SSLContext:
        context = self._made.get(pairs)
        if context is None:
            context = self._made[pairs] = _server_settings(self._files)
            if self._files.client_trust is not None:
                _believe(context, self._files.client_trust)
            for pair in pairs:
                _load_pair(context, pair)
        return context


def front_context(files: ServerFiles) -> ssl.SSLContext:
    """Where handshakes begin. Its `sni_callback`, which has to hand each one over, is the owner's to set.

    No file is read: certificates and authorities come with the context that a handshake is handed over to, but whether
    clients are asked for theirs is settled here (SSL_set_SSL_CTX leaves that as it is).
    """
    context = _server_settings(files)
    if not files.has_sessions:
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        native = native_tls()
        if isinstance(native, NativeTls):
            native.forget_sessions(context)
    return context


def _server_settings(files: ServerFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if files.alpn:
        context.set_alpn_protocols(files.alpn)
    trust = files.client_trust
    if trust is not None:
        context.verify_mode = ssl.CERT_REQUIRED if trust.is_required else ssl.CERT_OPTIONAL
        if trust.crl is not None:
            context.verify_flags |= _REVOCATION
    return context


def _believe(context: ssl.SSLContext, trust: ClientTrust) -> None:
    context.load_verify_locations(cafile=trust.ca)
    if trust.crl is not None:
        context.load_verify_locations(cafile=trust.crl)
    native = native_tls()
    if isinstance(native, NativeTls):
        native.name_authorities(context, trust.ca)


# ---------------------------------------------------------------------------------------------------- clients


def client_context(files: ClientFiles) -> ssl.SSLContext:
    """The context towards servers. Raises OSError and ssl.SSLError."""
    context = ssl.create_default_context(cafile=str(files.ca) if files.ca is not None else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not files.is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.certificate is not None:
        _load_pair(context, files.certificate)
    if files.is_verified and files.peer_name is not None:
        context.check_hostname = False  # OpenSSL would look for the name that is asked for
        context.sslobject_class = _named(files.peer_name)
    return context


def _named(peer_name: str) -> type[ssl.SSLObject]:
    """Ends of connections whose handshake fails when the peer's certificate, verified otherwise, lacks this name."""

    class Named(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            if not has_name(self.getpeercert(), peer_name):
                raise _named_otherwise(peer_name)

    return Named


def _named_otherwise(wanted: str) -> ssl.SSLCertVerificationError:
    """Made here: raised by who has a name for it, it would be in a cycle, and a connection's TLS with it."""
    error = ssl.SSLCertVerificationError(1, f"certificate is not valid for {wanted!r}")
    error.verify_code, error.verify_message = _HOSTNAME_MISMATCH, error.args[1]
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    return error


def has_name(certificate: Mapping[str, object] | None, wanted: str) -> bool:
    """Whether a verified certificate (as `getpeercert` has it) names a host or address, by RFC 6125 section 6.4.

    A wildcard is a whole first label. Common names do not count.
    """
    names = cast(Iterable[tuple[str, str]], (certificate or {}).get("subjectAltName", ()))
    try:
        address = ip_address(wanted)
    except ValueError:
        labels, _, parent = wanted.lower().partition(".")
        accepted = {wanted.lower(), f"*.{parent}"} if labels and parent else {wanted.lower()}
        return any(kind == "DNS" and name.lower() in accepted for kind, name in names)
    return any(kind == "IP Address" and ip_address(name.strip()) == address for kind, name in names)


def _load_pair(context: ssl.SSLContext, pair: Pair) -> None:
    """The password: without one OpenSSL would ask the terminal for that of an encrypted key, and wait."""
    context.load_cert_chain(*pair, password="")


# ------------------------------------------------------------------------------------------------ certificates


def dns_names(chain: Path) -> list[str]:
    """The DNS names (SAN) of the first certificate of a PEM chain, in lower case. Raises OSError and ValueError."""
    return _dns_names(_leaf(chain))


def expiry_s(chain: Path) -> float:
    """When the first certificate of a PEM chain expires, in seconds since 1970. Raises OSError and ValueError."""
    return _leaf(chain).not_valid_after_utc.timestamp()


def crl_expiry_s(crl: Path) -> float | None:
    """When the first of the revocation lists in a file is out of date, in seconds since 1970; None: never.

    Raises OSError and ValueError.
    """
    ends = [one.next_update_utc for one in revocation_lists(crl.read_bytes())]
    return min((end.timestamp() for end in ends if end is not None), default=None)


_CRL_BEGIN: Final = b"-----BEGIN X509 CRL-----"


def revocation_lists(octets: bytes) -> Sequence[x509.CertificateRevocationList]:
    """The revocation lists of a PEM file, in their order. Raises ValueError for a broken one."""
    return [x509.load_pem_x509_crl(_CRL_BEGIN + part) for part in octets.split(_CRL_BEGIN)[1:]]


def _leaf(chain: Path) -> x509.Certificate:
    with _faults_as_value_errors():
        return x509.load_pem_x509_certificates(chain.read_bytes())[0]


def _dns_names(certificate: x509.Certificate) -> list[str]:
    with _faults_as_value_errors():
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


@contextmanager
def _faults_as_value_errors() -> Iterator[None]:
    """What contradicts itself raises ValueError, whatever the library calls it."""
    try:
        yield
    except (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType) as error:
        raise ValueError("holds a certificate that contradicts itself") from error


def _key_kind(certificate: x509.Certificate) -> str:
    """Certificates of one kind share a place in an OpenSSL context: a second one would push out the first."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa"
    return "ecdsa" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
