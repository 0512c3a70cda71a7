"""What the demonstration stands on: throw-away certificates, free ports, users and the balancer's configuration."""

from __future__ import annotations

import secrets
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from mfalb.balancer.config.secret_sources import COOKIE_KEY_BYTES
from mfalb.cli.free_ports import LOOPBACK, free_ports
from mfalb.reference.certificates import Authority
from mfalb.reference.config.values import Account, User
from mfalb.reference.estate import Estate, EstatePlan

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
        return self.directory / "tls" / "ca.pem"

    @property
    def certificate(self) -> Path:
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
        return EstatePlan(
            self.users, self.account, self.radius_secret, self.sdk_url, self.ca, (self.certificate, self.key)
        )


def new_site(directory: Path) -> Site:
    """A site in an empty directory, its certificate made. Secrets are random: nothing here outlives the run."""
    names = ("alice", "bob", "carol", "dave")
    # Hexadecimal, so that whatever is pasted needs no quoting anywhere
    users = tuple(User(name, secrets.token_hex(5), f"+1 555 010{number}") for number, name in enumerate(names, start=1))
    https_port, admin_port, radius_port = free_ports(3)
    account = Account("CONTOSO\\mfa-service", secrets.token_hex(8))
    site = Site(directory, https_port, radius_port, admin_port, secrets.token_hex(12), account, users)
    authority = Authority("mfalb demo")
    authority.write_ca(site.ca)
    authority.issue("localhost", (*_NAMES, LOOPBACK)).write(site.certificate, site.key)
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
    upstream_tls: {{ca: tls/ca.pem, server_name: mfaapp.contoso.com}}
    health_check: {{type: http, path: /MultiFactorAuthWebServiceSdk/PfWsSdk.asmx, expect_status: [401], interval: 2s}}
    affinity: {{preset: azure_mfa_sdk}}
  mfa-portal:
    backends:
{portals}
    upstream_tls: {{ca: tls/ca.pem, server_name: mfa.contoso.com}}
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
