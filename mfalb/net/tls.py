"""TLS contexts, both directions: TLS 1.2 and later, modern suites; HTTP/1.1 by ALPN, RADIUS by client certificates."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

# TLS 1.2 suites with forward secrecy and authenticated encryption; TLS 1.3 has no others.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(certificates: Sequence[tuple[Path, Path]]) -> ssl.SSLContext:
    """The context of an HTTPS listener. Each certificate is (chain, key), PEM; clients get the one that SNI names.

    The first one serves clients that name none or an unknown one. Raises OSError, ssl.SSLError and ValueError.
    """
    contexts = [_one_certificate(chain, key) for chain, key in certificates]
    for context in contexts:
        context.set_alpn_protocols(["http/1.1"])
    return _chosen_by_name(certificates, contexts)


def mutual_server_context(certificates: Sequence[tuple[Path, Path]], client_ca: Path) -> ssl.SSLContext:
    """The context of a RadSec listener: as `server_context`, for clients whose certificates `client_ca` vouches for.

    No tickets, for with one an old certificate would be believed anew; connections are few and long. (In TLS 1.2 a
    session is resumed from OpenSSL's own cache as long as that keeps it; Python has no switch for it.) No ALPN:
    RADIUS/1.1 (RFC 9765) is not spoken, and without it a client falls back to RFC 6614.
    """
    contexts = [_one_certificate(chain, key) for chain, key in certificates]
    for context in contexts:
        context.load_verify_locations(cafile=client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return _chosen_by_name(certificates, contexts)


def _chosen_by_name(certificates: Sequence[tuple[Path, Path]], contexts: list[ssl.SSLContext]) -> ssl.SSLContext:
    """The first context, which hands a client over to the one whose certificate has the name it asks for."""
    by_name: dict[str, ssl.SSLContext] = {}
    for (chain, _), context in zip(certificates, contexts, strict=True):
        for name in dns_names(chain):
            by_name.setdefault(name, context)

    def choose(sslobj: ssl.SSLObject | ssl.SSLSocket, server_name: str | None, _: ssl.SSLContext) -> None:
        name = (server_name or "").lower()
        chosen = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if chosen is not None:
            sslobj.context = chosen

    if len(contexts) > 1:
        contexts[0].sni_callback = choose
    return contexts[0]


def dns_names(chain: Path) -> list[str]:
    """The DNS names (SAN) of the first certificate of a PEM chain, in lower case. Raises OSError and ValueError."""
    certificate = x509.load_pem_x509_certificates(chain.read_bytes())[0]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _one_certificate(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.load_cert_chain(chain, key)
    return context


def client_context(
    ca: Path | None, *, is_verified: bool, certificate: tuple[Path, Path] | None = None
) -> ssl.SSLContext:
    """The context towards backends; `ca` replaces the system's trusted roots. Raises OSError and ssl.SSLError.

    `certificate` is the chain and key that we show to a server that asks for one.
    """
    context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context
