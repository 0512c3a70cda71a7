"""Settings of a node of the AD FS farm; all nodes have the same but for name and endpoint."""

from __future__ import annotations

from dataclasses import dataclass

from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Endpoint, check_networks


@dataclass(frozen=True, slots=True)
class RelyingPartyTrust:
    """An application that may have users signed in, and the only addresses that its tokens are sent to."""

    client_id: str
    redirect_uris: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for addresses that no browser can be sent to."""
        if not all(uri.startswith(("https://", "http://")) for uri in self.redirect_uris):
            raise ValueError("redirect_uris begin with https:// (or http://, for trying things)")


@dataclass(frozen=True, slots=True)
class AdfsSettings:
    """One node.

    `farm_key` is the file with the farm's secret (32 bytes in base64), by which a node knows what another one began;
    `token_cert` and `token_key` are the certificate (PEM, RSA or P-256) that tokens are signed with; `issuer` is the
    farm's address as users see it, the name that tokens carry. `certificate_endpoint` is where clients come that have
    to show a certificate (49443 at AD FS): its `client_ca` says whose. `trusted_proxies` are the networks of proxies
    that end TLS before the farm and are believed, by X-Forwarded-For, about whose browser they forward for.
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
    trusted_proxies: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for proxies that are no networks, and for certificates that nobody vouches for."""
        check_networks("trusted_proxies", self.trusted_proxies)
        if self.certificate_endpoint is not None and not self.certificate_endpoint.client_ca:
            raise ValueError("certificate_endpoint needs client_ca: whose certificates clients have to show")
