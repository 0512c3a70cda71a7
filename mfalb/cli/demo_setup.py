"""What the demonstration stands on: throw-away certificates, free ports, users and the balancer's configuration."""

from __future__ import annotations

import secrets
import socket
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mfalb.balancer.config.secret_sources import COOKIE_KEY_BYTES
from mfalb.reference.config.values import Account, User
from mfalb.reference.estate import Estate, EstatePlan

LOOPBACK: Final = "127.0.0.1"
SDK_PATH: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
PORTAL_PATH: Final = "/MultiFactorAuth/"
_NAMES: Final = ("localhost", "mfaapp.contoso.com", "mfa.contoso.com")


@dataclass(frozen=True, slots=True)
class Site:
    """One demonstration's addresses and throw-away secrets."""

    directory: Path
    https_port: int
    radius_port: int
    admin_port: int
    radius_secret: str = field(repr=False)
    account: Account
    users: tuple[User, ...]

    @property
    def ca(self) -> Path:
        return self.directory / "tls" / "server.crt"

    @property
    def key(self) -> Path:
        return self.directory / "tls" / "server.key"

    @property
    def sdk_url(self) -> str:
        return f"https://localhost:{self.https_port}{SDK_PATH}"

    @property
    def portal_url(self) -> str:
        return f"https://localhost:{self.https_port}{PORTAL_PATH}"

    @property
    def admin_url(self) -> str:
        return f"http://{LOOPBACK}:{self.admin_port}"

    def plan(self) -> EstatePlan:
        """Two MFA servers and two portals, which call the SDK through the balancer."""
        return EstatePlan(self.users, self.account, self.radius_secret, self.sdk_url, self.ca, (self.ca, self.key))


def new_site(directory: Path) -> Site:
    """A site in an empty directory, its certificate made. Secrets are random: nothing here outlives the run."""
    names = ("alice", "bob", "carol", "dave")
    # Hexadecimal, so that whatever is pasted needs no quoting anywhere
    users = tuple(User(name, secrets.token_hex(5), f"+1 555 010{number}") for number, name in enumerate(names, start=1))
    https_port, admin_port = _free_ports(2, socket.SOCK_STREAM)
    (radius_port,) = _free_ports(1, socket.SOCK_DGRAM)
    account = Account("CONTOSO\\mfa-service", secrets.token_hex(8))
    site = Site(directory, https_port, radius_port, admin_port, secrets.token_hex(12), account, users)
    _make_certificate(site.ca, site.key)
    return site


def write_configuration(site: Site, estate: Estate) -> Path:
    """The balancer's configuration for this estate: the contoso example, on loopback."""
    for name, value in (
        ("radius", site.radius_secret),
        ("cookie-keys", b64encode(secrets.token_bytes(COOKIE_KEY_BYTES)).decode()),
    ):
        path = site.directory / "secrets" / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(value + "\n", "utf-8")
    sdk = [(server.name, server.ports["sdk"]) for server in estate.mfa_servers]
    radius = [(server.name, server.ports["radius"]) for server in estate.mfa_servers]
    portals = [(portal.name, portal.ports["http"]) for portal in estate.portals]
    text = _CONFIGURATION.format(
        site=site,
        sdk=_backends(sdk),
        portals=_backends(portals),
        radius=_backends(radius, ", secret_file: secrets/radius, require_message_authenticator: true"),
    )
    path = site.directory / "balancer.yaml"
    path.write_text(text, "utf-8")
    return path


def _backends(backends: list[tuple[str, int]], more: str = "") -> str:
    return "\n".join(f'      - {{name: {name}, address: "{LOOPBACK}:{port}"{more}}}' for name, port in backends)


_CONFIGURATION: Final = """\
workers: 1   # of several each has turns of its own, and few sign-ins would not show both servers
listeners:
  - name: mfa
    protocol: https
    bind: ["127.0.0.1:{site.https_port}"]
    tls:
      certificates: [{{cert: tls/server.crt, key: tls/server.key}}]
    routes:
      - {{path: /MultiFactorAuthWebServiceSdk, pool: mfa-sdk}}
      - {{path: /MultiFactorAuth, pool: mfa-portal}}
  - name: radius
    protocol: radius
    bind: ["127.0.0.1:{site.radius_port}"]
    clients:
      - {{name: vpn, network: 127.0.0.0/8, secret_file: secrets/radius}}
    pool: mfa-radius

pools:
  mfa-sdk:
    backends:
{sdk}
    upstream_tls: {{ca: tls/server.crt, server_name: mfaapp.contoso.com}}
    health_check: {{type: http, path: /MultiFactorAuthWebServiceSdk/PfWsSdk.asmx, expect_status: [401], interval: 2s}}
    affinity: {{preset: azure_mfa_sdk}}
  mfa-portal:
    backends:
{portals}
    upstream_tls: {{ca: tls/server.crt, server_name: mfa.contoso.com}}
    health_check: {{type: http, path: /MultiFactorAuth/, interval: 2s}}
    affinity: {{preset: azure_mfa_portal}}
  mfa-radius:
    backends:
{radius}
    health_check: {{type: radius, interval: 2s, fast: true}}
    affinity: {{preset: radius_challenge}}

admin: {{bind: "127.0.0.1:{site.admin_port}"}}
pins: {{cookie_keys_file: secrets/cookie-keys}}
"""


def _free_ports(count: int, kind: int) -> list[int]:
    """Ports above 1024 that are free now; all held at once, so that they differ."""
    sockets = [socket.socket(socket.AF_INET, kind) for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind((LOOPBACK, 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def _make_certificate(chain: Path, key_file: Path) -> None:
    """A self-signed certificate for the demonstration's names, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mfalb demo")])
    now = datetime.now(UTC)
    alternatives = [*(x509.DNSName(host) for host in _NAMES), x509.IPAddress(ip_address(LOOPBACK))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain.parent.mkdir(mode=0o700, exist_ok=True)
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.touch(mode=0o600)
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
