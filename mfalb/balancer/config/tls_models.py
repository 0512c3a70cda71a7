"""Certificates and what is asked of them, towards clients and towards backends."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.values import Flag, Host, LocalFile, Seconds, quoted
from mfalb.net.tls import ClientFiles, ClientTrust, ServerFiles
from mfalb.wire.http_fields import REQUEST_SPECIAL

_HEADER_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_TAKEN: Final = REQUEST_SPECIAL | {b"authorization"}


def _check_header_name(value: str) -> str:
    if _HEADER_NAME.fullmatch(value) is None:
        raise ValueError(f"{quoted(value)} is no header's name; use 1 to 64 letters, digits and '-'")
    if value.lower().encode() in _TAKEN:
        raise ValueError(f"{quoted(value)} has a meaning of its own; take another name, for example X-SSL-Client-Cert")
    return value


HeaderName = Annotated[
    str,
    AfterValidator(_check_header_name),
    WithJsonSchema({"type": "string", "pattern": f"^{_HEADER_NAME.pattern}$"}),
]
"""The name of a request header that the balancer makes."""


class Certificate(Table):
    """A certificate chain and its private key, both PEM."""

    cert: LocalFile
    key: LocalFile


class ListenerTls(Table):
    """TLS towards clients. The first certificate is offered when no other matches the client's SNI."""

    certificates: tuple[Certificate, ...] = Field(min_length=1)

    @property
    def files(self) -> ServerFiles:
        """What the listener's TLS is made from."""
        return ServerFiles(tuple((pair.cert, pair.key) for pair in self.certificates))


class IdentityHeaders(Table):
    """The request headers that tell backends of a client's certificate; null leaves one out.

    `verify` says SUCCESS or NONE, `certificate` is PEM with percent signs, `subject` and `issuer` are as in RFC 4514,
    `serial` and `fingerprint` (SHA-256) in hexadecimal.
    """

    verify: HeaderName | None = "X-SSL-Client-Verify"
    certificate: HeaderName | None = "X-SSL-Client-Cert"
    subject: HeaderName | None = "X-SSL-Client-S-DN"
    issuer: HeaderName | None = "X-SSL-Client-I-DN"
    serial: HeaderName | None = "X-SSL-Client-Serial"
    fingerprint: HeaderName | None = "X-SSL-Client-SHA256"

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        lower = [name.lower() for name in self.names]
        if len(set(lower)) < len(lower):
            twice = next(name for name in self.names if lower.count(name.lower()) > 1)
            raise ValueError(f"{quoted(twice)} is named twice; each header tells one thing")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are sent."""
        every = (self.verify, self.certificate, self.subject, self.issuer, self.serial, self.fingerprint)
        return tuple(name for name in every if name is not None)


class ClientCertificates(Table):
    """Whose certificates clients may show (`optional`) or have to. With a `crl` every authority needs a list in it."""

    mode: Literal["optional", "required"]
    ca: LocalFile
    crl: LocalFile | None = None
    headers: IdentityHeaders = IdentityHeaders()


class HttpsTls(ListenerTls):
    """TLS towards HTTPS clients. Listeners of one name with the same secret in `ticket_key` resume their sessions."""

    client_certificates: ClientCertificates | None = None
    ticket_key: LocalFile | None = None

    @property
    def files(self) -> ServerFiles:
        asked = self.client_certificates
        trust = None if asked is None else ClientTrust(asked.ca, asked.crl, asked.mode == "required")
        return replace(super().files, client_trust=trust, ticket_key=self.ticket_key)


class TlsWatch(Table):
    """How often the files of certificates, keys and authorities are looked at, to use what has changed."""

    file_check_interval_s: Seconds = 5.0


class UpstreamTls(Table):
    """TLS towards backends. `server_name` is sent as SNI and checked; by default it is the backend's host.

    `verify_name` is checked instead where servers' certificates have another name than the one they are asked for by.
    `cert` and `key` are what the balancer shows of itself to a server that asks; RadSec servers always do.
    """

    ca: LocalFile | None = None
    verify: Flag = True
    server_name: Host | None = None
    verify_name: Host | None = None
    cert: LocalFile | None = None
    key: LocalFile | None = None

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.cert is None) is not (self.key is None):
            given, missing = ("cert", "key") if self.key is None else ("key", "cert")
            raise ValueError(f"'{given}' is of no use without '{missing}'; write both or neither")
        if self.verify_name is not None and not self.verify:
            raise ValueError("'verify_name' is of no use with 'verify: false'; leave one of them out")
        return self

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """The balancer's own chain and key for this pool."""
        return None if self.cert is None or self.key is None else (self.cert, self.key)

    @property
    def files(self) -> ClientFiles:
        """What the pool's TLS is made from."""
        return ClientFiles(self.ca, self.verify, self.certificate, self.verify_name)
