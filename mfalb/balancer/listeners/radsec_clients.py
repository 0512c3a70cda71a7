"""Which configured RADIUS client is it that showed this certificate, from this address?"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from mfalb.balancer.config.radsec_models import ClientCertificate, RadsecClient
from mfalb.balancer.exchange.radius_peer import RadiusPeer, Secrets
from mfalb.balancer.listeners.radius_clients import radius_peer
from mfalb.net.peer_certificate import PeerCertificate


class RadsecClients:
    """Finds a client by its verified certificate and its address: the first one in the file that both fit."""

    def __init__(self, clients: Sequence[RadsecClient], secrets: Secrets) -> None:
        self._pairs = [(client, radius_peer(client, secrets)) for client in clients]
        self.peers = [peer for _, peer in self._pairs]

    def find(self, host: str, certificate: PeerCertificate) -> RadiusPeer | None:
        """The client; None when it is nobody's."""
        address = ip_address(host)
        for client, peer in self._pairs:
            is_near = client.network is None or address in client.network
            if is_near and is_certificate_of(client.certificate, certificate):
                return peer
        return None


def is_certificate_of(wanted: ClientCertificate, found: PeerCertificate) -> bool:
    """Whether a certificate has everything that is asked of a client's."""
    if wanted.fingerprint is not None and wanted.fingerprint != found.fingerprint:
        return False
    if wanted.common_name is not None and wanted.common_name not in found.common_names:
        return False
    return wanted.dns_name is None or any(_is_named(wanted.dns_name, name) for name in found.dns_names)


def _is_named(wanted: str, name: str) -> bool:
    """Whether a DNS name is the wanted one. A `*` in what is wanted is one label; in a certificate it is no name."""
    if wanted.startswith("*."):
        label, _, parent = name.partition(".")
        return parent == wanted[2:] and label not in {"", "*"}
    return name == wanted
