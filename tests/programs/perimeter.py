"""The whole deployment on loopback: MFA Servers, portals, mobile app services, an AD FS farm, a relying party.

    with Perimeter(run_dir) as site:
        browser.get(site.portal_url)

One balancer stands before all of it: https for the SDK and for the portal's and the app's host, TLS passed through for
AD FS. Everything calls the SDK at its one balanced URL.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mfalb.reference.config.adfs import AdfsSettings, RelyingPartyTrust
from mfalb.reference.config.files import Settings, write_settings
from mfalb.reference.config.mobile_app import MobileAppSettings
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.config.relying_party import RelyingPartySettings
from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.values import Endpoint, User
from programs.balancer import Balancer, write_secret
from programs.certificates import Authority
from programs.handset import set_faults
from programs.mfa_group import ACCOUNT, SDK_PATH, USERS, MfaGroup, MfaServer
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Logged, Program, wait_until

HOST: Final = "localhost"
CLIENT_ID: Final = "expenses"
APP_PATH: Final = "/MultiFactorAuthMobileAppWebService/PfPaWs.asmx"
PINNED: Final[Mapping[str, Any]] = {
    "sdk": {"preset": "azure_mfa_sdk"},
    "portal": {"preset": "azure_mfa_portal"},
    "app": {"preset": "azure_mfa_mobile_app"},
}
UNPINNED: Final[Mapping[str, Any]] = {pool: {"type": "none"} for pool in PINNED}
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "portal": ("portal1", "portal2"),
    "app": ("app1", "app2"),
    "adfs": ("adfs1", "adfs2"),
}


class Perimeter:
    """The deployment; a context manager. `affinity` is PINNED or UNPINNED; `newcomers` have a password and no phone."""

    def __init__(self, run_dir: Path, *, affinity: Mapping[str, Any] = PINNED, newcomers: Sequence[User] = ()) -> None:
        self.run_dir: Final = run_dir
        self.group: Final = MfaGroup(run_dir)
        self.mfa_servers: tuple[MfaServer, MfaServer]
        self.programs: Final[dict[str, Program]] = {}
        self.balancer: Balancer
        self.certificate: Final = Authority(run_dir / "site-tls").issue("site", HOST, HOST, LOOPBACK)
        self._token = Authority(run_dir / "token-tls", "authority of the farm").issue("token", "token signing")
        self._affinity = affinity
        self._newcomers = newcomers
        self._stack = ExitStack()
        self._ports: dict[str, int] = {}
        self.controls: Final[dict[str, int]] = {}
        self._farm_key = base64.b64encode(os.urandom(32)).decode()

    # ------------------------------------------------------------------------------ addresses

    @property
    def sdk_url(self) -> str:
        return f"https://{HOST}:{self._ports['sdk']}{SDK_PATH}"

    @property
    def portal_url(self) -> str:
        return f"https://{HOST}:{self._ports['web']}/MultiFactorAuth/"

    @property
    def app_url(self) -> str:
        return f"https://{HOST}:{self._ports['web']}{APP_PATH}"

    @property
    def issuer(self) -> str:
        return f"https://{HOST}:{self._ports['farm']}/adfs"

    @property
    def party_url(self) -> str:
        return f"https://{HOST}:{self._ports['party']}"

    def own_url(self, name: str) -> str:
        """Where a service is without the balancer."""
        if name == "cloud":
            return self.group.cloud_url
        if name.startswith("mfa"):
            (port,) = [server.settings.sdk.port for server in self.mfa_servers if server.name == name]
            return f"http://{LOOPBACK}:{port}"
        is_tls = name == "party" or name in _NAMES["adfs"]
        return f"{'https' if is_tls else 'http'}://{LOOPBACK}:{self._ports[name]}"

    # ------------------------------------------------------------------------------ life

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.group)
            self.mfa_servers = self.group.pair(self._newcomers)
            self.controls.update({server.name: server.control.port for server in self.mfa_servers})
            self._choose_ports()
            self.balancer = Balancer(self._configuration(), self.run_dir / "balancer", secrets=self._secrets())
            stack.enter_context(self.balancer)
            for name, settings in self._settings().items():
                program = self._program(name, settings)
                stack.enter_context(program)
                self.programs[name] = program
            backends = 2 + sum(len(names) for names in _NAMES.values())
            up = "mfalb_backend_up"
            wait_until(lambda: self.balancer.metrics().total(up) == backends, "all up", deadline_s=30)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is not None:
            return
        for program in self.programs.values():
            log = program.log()
            assert "Traceback" not in log, f"{program.name}:\n{log[-4000:]}"
            found = [number for number, secret in enumerate(self._secrets()) if secret in log]
            assert not found, f"secrets number {found} are in the log of {program.name}"

    def _choose_ports(self) -> None:
        """As late as can be: until they are bound, somebody else's program may take them."""
        for name in ("sdk", "web", "farm", "party", *(name for names in _NAMES.values() for name in names)):
            self._ports[name] = free_tcp_port()
        for name in ("party", *(name for names in _NAMES.values() for name in names)):
            self.controls[name] = free_tcp_port()

    def set_faults(self, name: str, **switches: float | bool) -> None:
        """Set fault switches of a service."""
        set_faults(self.controls[name], **switches)

    def code(self, user: str, texts: int) -> str:
        """The newest code of a user who has had so many texts."""
        wait_until(lambda: len(self.group.codes(user)) == texts, f"{texts} texts to {user}")
        return self.group.codes(user)[0]

    # ------------------------------------------------------------------------------ settings

    def _secrets(self) -> list[str]:
        return [ACCOUNT.password, self._farm_key, *(user.password for user in (*USERS, *self._newcomers))]

    @property
    def access(self) -> SdkAccess:
        """How all services reach the SDK."""
        return SdkAccess(self.sdk_url, str(self.certificate.ca), ACCOUNT)

    def _endpoint(self, port: int, *, is_tls: bool = False) -> Endpoint:
        pair = (str(self.certificate.cert), str(self.certificate.key)) if is_tls else (None, None)
        return Endpoint(LOOPBACK, port, *pair)

    def _settings(self) -> dict[str, Settings]:
        farm_key, ports = write_secret(self.run_dir, "farm.key", self._farm_key), self._ports
        redirect_uri = f"{self.party_url}/token"
        trust = RelyingPartyTrust(CLIENT_ID, (redirect_uri,))
        token = (str(self._token.cert), str(self._token.key))
        settings: dict[str, Settings] = {}
        for name in _NAMES["portal"]:
            site = PortalSettings(name, self._endpoint(ports[name]), self.access, self.app_url)
            settings[name] = replace(site, trusted_proxies=(LOOPBACK,))
        for name in _NAMES["app"]:
            settings[name] = MobileAppSettings(name, self._endpoint(ports[name]), self.access, push_wait_s=20.0)
        for name in _NAMES["adfs"]:
            endpoint = self._endpoint(ports[name], is_tls=True)
            settings[name] = AdfsSettings(name, endpoint, self.access, self.issuer, farm_key, *token, (trust,))
        party = RelyingPartySettings(
            name="party",
            endpoint=self._endpoint(self._ports["party"], is_tls=True),
            client_id=CLIENT_ID,
            redirect_uri=redirect_uri,
            issuer=self.issuer,
            issuer_ca=str(self.certificate.ca),
        )
        everyone: dict[str, Settings] = {**settings, "party": party}
        return {name: replace(one, control=Endpoint(LOOPBACK, self.controls[name])) for name, one in everyone.items()}

    def _program(self, name: str, settings: Settings) -> Program:
        path = self.run_dir / f"{name}.json"
        write_settings(path, settings)
        kinds = {"portal": "user-portal", "app": "mobile-app", "adfs": "adfs", "party": "relying-party"}
        kind = kinds[name.rstrip("12")]
        argv = [sys.executable, "-m", "mfalb", "reference", kind, "-c", str(path)]
        return Program(name, argv, self.run_dir, ready=Logged("ready {"), launch=Launch(ready_deadline_s=60.0))

    def _configuration(self) -> dict[str, Any]:
        check = {"type": "tcp", "interval": "500ms", "timeout": "400ms", "rise": 1, "fall": 3}
        sdks = [(server.name, server.settings.sdk.port) for server in self.mfa_servers]
        pools: dict[str, Any] = {"sdk": {"backends": _backends(sdks), "health_check": check}}
        for pool, names in _NAMES.items():
            backends = _backends([(name, self._ports[name]) for name in names])
            pools[pool] = {"backends": backends, "health_check": check}
        for pool, affinity in self._affinity.items():
            pools[pool]["affinity"] = affinity
        pair = {"cert": str(self.certificate.cert), "key": str(self.certificate.key)}
        https = {"protocol": "https", "tls": {"certificates": [pair]}}
        web = [{"path": "/MultiFactorAuth", "pool": "portal"}, {"path": APP_PATH.rpartition("/")[0], "pool": "app"}]
        return {
            "listeners": [
                {
                    "name": "sdk",
                    "bind": [f"{LOOPBACK}:{self._ports['sdk']}", f"127.0.0.2:{self._ports['sdk']}"],
                    "routes": [{"pool": "sdk"}],
                    **https,
                },
                {"name": "web", "bind": [f"{LOOPBACK}:{self._ports['web']}"], "routes": web, **https},
                {
                    "name": "adfs",
                    "protocol": "tcp",
                    "bind": [f"{LOOPBACK}:{self._ports['farm']}"],
                    "routes": [{"sni": HOST, "pool": "adfs"}],
                },
            ],
            "pools": pools,
            "pins": {
                "cookie_keys_file": write_secret(self.run_dir, "cookie.key", base64.b64encode(os.urandom(32)).decode())
            },
        }


def _backends(services: list[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"name": name, "address": f"{LOOPBACK}:{port}"} for name, port in services]
