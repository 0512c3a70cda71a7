"""Settings of a node of the AD FS farm; all nodes have the same but for name and endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Endpoint


@dataclass(frozen=True, slots=True)
class RelyingPartyTrust:
    """An application that may have users signed in, and the only addresses that its tokens are sent to."""

    client_id: str
    redirect_uris: tuple[str, ...]

    @classmethod
    def read(cls, table: dict[str, Any]) -> Self:
        """Raises KeyError and ValueError."""
        uris = tuple(table["redirect_uris"])
        if not all(uri.startswith(("https://", "http://")) for uri in uris):
            raise ValueError("redirect_uris begin with https:// (or http://, for trying things)")
        return cls(table["client_id"], uris)


@dataclass(frozen=True, slots=True)
class AdfsSettings:
    """One node.

    `farm_key` is the file with the farm's secret (32 bytes in base64), by which a node knows what another one began;
    `token_cert` and `token_key` are the certificate (PEM, RSA or P-256) that tokens are signed with; `issuer` is the
    farm's address as users see it, the name that tokens carry. `certificate_endpoint` is where clients come that have
    to show a certificate (49443 at AD FS): its `client_ca` says whose.
    """

    name: str
    endpoint: Endpoint
    sdk: SdkAccess
    issuer: str
    farm_key: str
    token_cert: str
    token_key: str
    relying_parties: tuple[RelyingPartyTrust, ...]
    token_life_s: int = 300
    control: Endpoint | None = None
    certificate_endpoint: Endpoint | None = None

    @classmethod
    def read(cls, tables: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError and ValueError for tables that are not such settings."""
        control, certificates = tables.get("control"), tables.get("certificate_endpoint")
        if certificates is not None and not certificates.get("client_ca"):
            raise ValueError("certificate_endpoint needs client_ca: whose certificates clients have to show")
        return cls(
            name=tables["name"],
            endpoint=Endpoint(**tables["endpoint"]),
            sdk=SdkAccess.read(tables["sdk"]),
            issuer=tables["issuer"],
            farm_key=tables["farm_key"],
            token_cert=tables["token_cert"],
            token_key=tables["token_key"],
            relying_parties=tuple(RelyingPartyTrust.read(one) for one in tables["relying_parties"]),
            token_life_s=int(tables.get("token_life_s", 300)),
            control=None if control is None else Endpoint(**control),
            certificate_endpoint=None if certificates is None else Endpoint(**certificates),
        )
