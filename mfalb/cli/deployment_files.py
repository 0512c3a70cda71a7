"""What a deployment's services need beside their settings: certificates, keys and secrets, made up for trying it."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from mfalb.balancer.config.secret_sources import COOKIE_KEY_BYTES
from mfalb.cli.deployment import Deployment, values_of
from mfalb.reference.adfs.farm import KEY_BYTES as FARM_KEY_BYTES
from mfalb.reference.certificates import Authority, Certificate

CLIENTS: Final = "clients"  # a folder with what clients need, which are no part of a deployment
_CONTOSO: Final = "contoso-ca"
_DEVICES: Final = "device-ca"
_CERTIFICATE_KEYS: Final = ("cert", "token_cert")
_AUTHORITY_KEYS: Final = ("ca", "client_ca", "issuer_ca")
_SECRET_KEYS: Final = ("secret_file", "password_file", "cookie_keys_file", "farm_key")
_DATA_KEYS: Final = ("data", "state")


def furnish(folder: Path, deployment: Deployment, more_names: Sequence[str] = ()) -> None:
    """Write every file that the deployment's services name into their hosts' folders; keys are readable by us only.

    A certificate `tls/NAME.crt` is the same wherever it is named, and good for NAME's hosts (mfa: mfa.contoso.com) and
    for `more_names`. The folder `clients` gets what clients need: the authority, the VPN's RADIUS secret, and the
    certificate of a device for AD FS.
    """
    makers = _Makers(deployment, more_names)
    for service in deployment.services:
        place = folder / service.host
        for key, value in values_of(service.tables):
            if isinstance(value, str):
                makers.make(key, place / value)
    makers.make("ca", folder / CLIENTS / "tls" / f"{_CONTOSO}.pem")
    makers.make("secret_file", folder / CLIENTS / "secrets" / "vpn")
    makers.make("cert", folder / CLIENTS / "tls" / "device.crt")


class _Makers:
    """Makes files by the keys that name them, and each thing only once."""

    def __init__(self, deployment: Deployment, more_names: Sequence[str]) -> None:
        self._hosts = tuple(deployment.addresses)
        self._more_names = tuple(more_names)
        self._certificates: dict[str, Certificate] = {}
        self._authorities: dict[str, Authority] = {}
        self._authority_of = {"device": _DEVICES, **_other_authorities(deployment)}
        self._secrets = _written_secrets(deployment)

    def make(self, key: str, path: Path) -> None:
        """The file at `path` that is the value of a setting `key`; nothing, if that names no file."""
        if key in _CERTIFICATE_KEYS:
            self._certificate(path.stem).write(path, path.with_suffix(".key"))
        elif key in _AUTHORITY_KEYS:
            self._authority(path.stem).write_ca(path)
        elif key in _SECRET_KEYS:
            _write_private(path, self._secret(path.stem))
        elif key in _DATA_KEYS:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _certificate(self, name: str) -> Certificate:
        if name not in self._certificates:
            hosts = [host for host in self._hosts if host.startswith(f"{name}.") or f".{name}." in host]
            authority = self._authority(self._authority_of.get(name, _CONTOSO))
            self._certificates[name] = authority.issue(name, (*hosts, *self._more_names))
        return self._certificates[name]

    def _authority(self, name: str) -> Authority:
        return self._authorities.setdefault(name, Authority(name))

    def _secret(self, name: str) -> str:
        return self._secrets.setdefault(name, _NEW_SECRETS.get(name, _new_secret)())


def _other_authorities(deployment: Deployment) -> dict[str, str]:
    """Whose certificates are not signed by the deployment's own authority: the cloud's, and peers' of a group."""
    found = {}
    for server in deployment.of_kind("mfa-server"):
        group, cloud = server.tables["group"], server.tables["cloud_tls"]
        found[Path(group["rpc"]["cert"]).stem] = Path(group["ca"]).stem
        for service in deployment.of_kind("cloud"):
            found[Path(service.tables["endpoint"]["cert"]).stem] = Path(cloud["ca"]).stem
    return found


def _written_secrets(deployment: Deployment) -> dict[str, str]:
    """Secrets that stand in settings of MFA Servers, and that balancers have in files."""
    found = {}
    for server in deployment.of_kind("mfa-server"):
        found[server.host] = server.tables["radius"]["secret"]
        found["probe"] = server.tables["account"]["password"]
    return found


def _new_key(length: int) -> Callable[[], str]:
    return lambda: b64encode(secrets.token_bytes(length)).decode("ascii")


def _new_secret() -> str:
    return secrets.token_hex(12)  # hexadecimal, so that whatever is pasted needs no quoting anywhere


_NEW_SECRETS: Final[Mapping[str, Callable[[], str]]] = {
    "cookie-keys": _new_key(COOKIE_KEY_BYTES),
    "farm": _new_key(FARM_KEY_BYTES),
}


def _write_private(path: Path, secret: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(secret + "\n", "utf-8")
