"""RadSec listeners (RADIUS over TLS, RFC 6614): clients are known by their certificates."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from mfalb.balancer.config.radius_models import RadiusClientRules, RadiusWork, ServiceKind
from mfalb.balancer.config.tables import Table
from mfalb.balancer.config.tls_models import ListenerTls
from mfalb.balancer.config.values import (
    Address,
    Count,
    LocalFile,
    Name,
    NetworkValue,
    Seconds,
    Secret,
    check_host,
    quoted,
)
from mfalb.net.tls import ClientTrust, ServerFiles

RADSEC_SECRET: Final = Secret(b"radsec")  # RFC 6614 section 2.3: public, for TLS is what protects
_FINGERPRINT: Final = re.compile(r"[0-9A-Fa-f]{2}(?::?[0-9A-Fa-f]{2}){31}")
_WILDCARD: Final = "*."


def _check_certificate_name(value: str) -> str:
    check_host(value.removeprefix(_WILDCARD))
    return value.lower()


def _check_fingerprint(value: str) -> str:
    if _FINGERPRINT.fullmatch(value) is None:
        raise ValueError(
            f"{quoted(value)} is no SHA-256 fingerprint; write 32 bytes in hexadecimal, as 'openssl x509 -noout "
            "-fingerprint -sha256 -in FILE' prints them"
        )
    return value.replace(":", "").lower()


CertificateName = Annotated[str, AfterValidator(_check_certificate_name)]
"""A DNS name in lower case; `*.` at its front stands for one label."""

Fingerprint = Annotated[
    str,
    AfterValidator(_check_fingerprint),
    WithJsonSchema({"type": "string", "pattern": f"^{_FINGERPRINT.pattern}$"}),
]
"""The SHA-256 of a certificate in DER, in lower-case hexadecimal."""


class RadsecTls(ListenerTls):
    """TLS towards RadSec clients, which have to show a certificate that `client_ca` vouches for."""

    client_ca: LocalFile

    @property
    def files(self) -> ServerFiles:
        """No ALPN: RADIUS/1.1 (RFC 9765) is not spoken, and without it a client falls back to RFC 6614.

        No sessions either, for with one an old certificate would be believed anew; connections are few and long.
        """
        trust = ClientTrust(self.client_ca)
        return replace(super().files, client_trust=trust, alpn=(), has_sessions=False, tells_refusals=False)


class ClientCertificate(Table):
    """What a verified certificate has to say to be a client's: everything that is written here."""

    dns_name: CertificateName | None = None
    common_name: str | None = Field(default=None, min_length=1)
    fingerprint: Fingerprint | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.dns_name is None and self.common_name is None and self.fingerprint is None:
            raise ValueError("names nobody; write dns_name, common_name or fingerprint")
        return self


class RadsecClient(RadiusClientRules):
    """A RADIUS client by its certificate and, if that is given, its network."""

    certificate: ClientCertificate
    network: NetworkValue | None = None
    secret: Secret = RADSEC_SECRET


class RadsecLimits(Table):
    """What clients may take: `connections` at once on the listener, those that are still shaking hands among them."""

    connections: Count = Field(default=1000, ge=1)
    handshake_timeout_s: Seconds = 10.0
    idle_timeout_s: Seconds = 600.0


class RadsecListener(RadiusWork):
    """A TCP address where RADIUS clients arrive over TLS.

    One port and one connection carry all that a client asks (RFC 6614 section 2.1). `accounting_pool`, for listeners
    with `service: authentication` only, takes the Accounting-Requests among it.
    """

    name: Name
    protocol: Literal["radsec"]
    bind: tuple[Address, ...] = Field(min_length=1)
    tls: RadsecTls
    clients: tuple[RadsecClient, ...] = Field(min_length=1)
    accounting_pool: Name | None = None
    limits: RadsecLimits = RadsecLimits()

    @property
    def pools(self) -> dict[ServiceKind, str]:
        """The pool of each service, the listener's own service first."""
        if self.accounting_pool is None or self.service is not ServiceKind.AUTHENTICATION:
            return super().pools
        return {**super().pools, ServiceKind.ACCOUNTING: self.accounting_pool}
