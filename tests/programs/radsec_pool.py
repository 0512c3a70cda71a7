"""Configurations with RadSec on one side or both: a listener that knows its clients by certificate, a pool over TLS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from programs.certificates import Authority, CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port

CLIENT_NAME: Final = "nas.example.test"
BALANCER_NAME: Final = "balancer.example.test"


@dataclass(frozen=True, slots=True)
class Trust:
    """Two authorities, of which only the first is believed, and what they signed.

    `client` is a configured client's, `stranger` is of the same authority and nobody's, `foreign` has the client's name
    and comes from the other authority. `balancer` and `server` are 127.0.0.1's, `misnamed` is not.
    """

    ca: Path
    foreign_ca: Path
    client: CertificateFiles
    stranger: CertificateFiles
    foreign: CertificateFiles
    balancer: CertificateFiles
    server: CertificateFiles
    foreign_server: CertificateFiles
    misnamed: CertificateFiles


def make_trust(directory: Path) -> Trust:
    """Writes them all into `directory`."""
    ours, theirs = Authority(directory / "ours"), Authority(directory / "theirs", "nobody's authority")
    return Trust(
        ours.ca,
        theirs.ca,
        ours.issue("client", "NAS 1", CLIENT_NAME),
        ours.issue("stranger", "NAS 2", "other.example.test"),
        theirs.issue("foreign", "NAS 1", CLIENT_NAME),
        ours.issue("balancer", BALANCER_NAME, BALANCER_NAME, LOOPBACK),
        ours.issue("server", "radius.example.test", "radius.example.test", LOOPBACK),
        theirs.issue("server", "radius.example.test", "radius.example.test", LOOPBACK),
        ours.issue("misnamed", "other.example.test", "other.example.test"),
    )


def radsec_listener(trust: Trust, pool: str = "mfa", **more: object) -> tuple[dict[str, Any], int]:
    """A listener that knows one client, by its DNS name; and its port."""
    port = free_tcp_port()
    own = {"cert": str(trust.balancer.cert), "key": str(trust.balancer.key)}
    listener = {
        "name": "radsec",
        "protocol": "radsec",
        "bind": [f"{LOOPBACK}:{port}"],
        "tls": {"certificates": [own], "client_ca": str(trust.ca)},
        "clients": [{"name": "nas", "certificate": {"dns_name": CLIENT_NAME}}],
        "pool": pool,
    }
    return listener | more, port


def tls_backends(names: Mapping[str, int]) -> list[dict[str, str]]:
    """Backends on loopback by name and port; they share the secret of RFC 6614."""
    return [{"name": name, "address": f"{LOOPBACK}:{port}"} for name, port in names.items()]


def upstream_tls(trust: Trust, own: CertificateFiles | None = None, ca: Path | None = None) -> dict[str, str]:
    """What the balancer believes about its backends and shows them."""
    shown = own or trust.balancer
    return {"ca": str(ca or trust.ca), "cert": str(shown.cert), "key": str(shown.key)}


FAST_CHECK: Final[Mapping[str, Any]] = {"type": "radius", "interval": "500ms", "fast": True, "rise": 1, "fall": 3}


def pool_of(backends: Sequence[Mapping[str, Any]], **more: object) -> dict[str, Any]:
    """A pool that pins States."""
    return {"backends": list(backends), "affinity": {"type": "radius_state"}, **more}
