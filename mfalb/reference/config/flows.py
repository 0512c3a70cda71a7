"""What a reference service's settings say of connections: where it listens and for whom, and whom it calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedBase
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mfalb.flows.values import Call, Caller, Comers, Door, Spot, Traffic, Transport, is_every_address, is_loopback
from mfalb.reference.config.adfs import AdfsSettings
from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.mfa_server import GroupSettings, MfaServerSettings
from mfalb.reference.config.mobile_app import MobileAppSettings
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.config.relying_party import RelyingPartySettings
from mfalb.reference.config.sdk_access import SdkAccess
from mfalb.reference.config.tables import read_table
from mfalb.reference.config.values import Endpoint

_PORTS: Final = {"http": 80, "https": 443, "ldap": 389, "ldaps": 636}
# The settings that only one kind of service has: by them a file is known that is not named after its service.
_TELLING: Final = {
    "cloud_url": "mfa-server",
    "answering": "cloud",
    "activation_codes": "cloud",
    "mobile_app_url": "user-portal",
    "push_wait_s": "mobile-app",
    "farm_key": "adfs",
    "redirect_uri": "relying-party",
}


class SettingsLines:
    """A settings file with the line of each value. JSON is read as the YAML that it is."""

    def __init__(self, path: Path) -> None:
        """Raises OSError and ValueError."""
        try:
            self.tables: Final = YAML(typ="rt").load(path.read_text("utf-8"))
        except MarkedYAMLError as error:  # not with its words: they show the lines around, where secrets may be
            line = 1 if error.problem_mark is None else error.problem_mark.line + 1
            raise ValueError(f"line {line}: this is not YAML") from None
        except YAMLError:
            raise ValueError("this is not YAML") from None
        if not isinstance(self.tables, dict):
            raise ValueError("the settings of a service are a table")  # noqa: TRY004 - the file's fault, not a caller's

    def kind(self) -> str | None:
        """Which service it is for, as `mfalb reference` calls it; None when the settings do not tell."""
        return next((kind for key, kind in _TELLING.items() if key in self.tables), None)

    def line(self, *keys: str) -> int:
        """Where a setting stands, or the nearest table around it."""
        line, table = 1, self.tables
        for key in keys:
            if not isinstance(table, CommentedBase) or not isinstance(table, dict) or key not in table:
                break
            line = int(table.lc.key(key)[0]) + 1
            table = table[key]
        return line

    def traffic(self, kind: str) -> Traffic:
        """Doors and calls of a service. Raises ValueError for settings that are not its own."""
        return _READERS[kind](_Sayings(self))


@dataclass(frozen=True, slots=True)
class _Sayings:
    """Doors and calls with the lines of the settings that they are told by."""

    file: SettingsLines

    @property
    def tables(self) -> dict[str, Any]:
        tables: dict[str, Any] = self.file.tables
        return tables

    def door(self, endpoint: Endpoint | None, purpose: str, comers: Comers, *keys: str) -> Iterator[Door]:
        """None for an endpoint that is not there, or only for the host itself."""
        if endpoint is None or is_loopback(endpoint.host):
            return
        if endpoint.port == 0:
            raise ValueError(f"{'.'.join(keys)}: port 0 is any free one, for which no firewall has a rule")
        host = None if is_every_address(endpoint.host) else endpoint.host
        yield Door(Spot(host, endpoint.port), purpose, self.file.line(*keys), comers)

    def control(self, endpoint: Endpoint | None) -> Iterator[Door]:
        return self.door(endpoint, "status, promotion and fault switches", Comers.ALLOWED, "control")

    def call(self, url: str, purpose: str, *keys: str, caller: Caller = Caller.SERVICE) -> Call:
        parts = urlsplit(url)
        if not parts.hostname or parts.scheme not in _PORTS:
            raise ValueError(f"{'.'.join(keys)} is no URL with a host")
        spot = Spot(parts.hostname, parts.port or _PORTS[parts.scheme])
        return Call(spot, purpose, self.file.line(*keys), caller)

    def sdk(self, access: SdkAccess) -> Call:
        return self.call(access.url, "Web Service SDK", "sdk", "url")


def _mfa_server(say: _Sayings) -> Traffic:
    settings = read_table(MfaServerSettings, say.tables)
    doors = [*say.door(settings.sdk, "Web Service SDK", Comers.SERVICES, "sdk"), *_radius(say, settings)]
    calls = [say.call(settings.cloud_url, "cloud MFA Service", "cloud_url")]
    if settings.ldap is not None:
        calls.append(say.call(settings.ldap.url, "directory (LDAP)", "ldap", "url"))
    group = settings.group
    if group is not None:
        doors += say.door(_rpc(group), "replication, slave to master", Comers.MEMBERS, "group", "rpc")
    doors += say.control(settings.control)
    return Traffic(tuple(doors), tuple(calls), None if group is None else group.name)


def _rpc(group: GroupSettings) -> Endpoint:
    """Where peers come: at every address listens who is reached at the one that it tells them."""
    if group.rpc_address is None or not is_every_address(group.rpc.host):
        return group.rpc
    host, _, port = group.rpc_address.rpartition(":")
    return replace(group.rpc, host=host, port=int(port))


def _radius(say: _Sayings, settings: MfaServerSettings) -> Iterator[Door]:
    """Datagrams, from the network that it answers."""
    for door in say.door(settings.radius.endpoint, "RADIUS", Comers.SERVICES, "radius", "endpoint"):
        spot = replace(door.spot, transport=Transport.UDP)
        yield replace(door, spot=spot, networks=(settings.radius.client_network,))


def _cloud(say: _Sayings) -> Traffic:
    settings = read_table(CloudSettings, say.tables)
    doors = [
        *say.door(settings.endpoint, "cloud MFA Service", Comers.SERVICES, "endpoint"),
        *say.door(settings.handsets, "handset pages", Comers.PEOPLE, "handsets"),
        *say.control(settings.control),
    ]
    return Traffic(tuple(doors))


def _user_portal(say: _Sayings) -> Traffic:
    settings = read_table(PortalSettings, say.tables)
    doors = [*say.door(settings.endpoint, "User Portal", Comers.PEOPLE, "endpoint"), *say.control(settings.control)]
    calls = [say.sdk(settings.sdk)]
    if settings.mobile_app_url:
        calls.append(say.call(settings.mobile_app_url, "mobile app", "mobile_app_url", caller=Caller.PEOPLE))
    return Traffic(tuple(doors), tuple(calls))


def _mobile_app(say: _Sayings) -> Traffic:
    settings = read_table(MobileAppSettings, say.tables)
    doors = [
        *say.door(settings.endpoint, "Mobile App Web Service", Comers.PEOPLE, "endpoint"),
        *say.control(settings.control),
    ]
    return Traffic(tuple(doors), (say.sdk(settings.sdk),))


def _adfs(say: _Sayings) -> Traffic:
    settings = read_table(AdfsSettings, say.tables)
    doors = [
        *say.door(settings.endpoint, "AD FS", Comers.PEOPLE, "endpoint"),
        *say.door(settings.certificate_endpoint, "AD FS by certificate", Comers.PEOPLE, "certificate_endpoint"),
        *say.control(settings.control),
    ]
    sign_in = say.call(settings.issuer, "AD FS sign-in", "issuer", caller=Caller.PEOPLE)
    return Traffic(tuple(doors), (say.sdk(settings.sdk), sign_in))


def _relying_party(say: _Sayings) -> Traffic:
    settings = read_table(RelyingPartySettings, say.tables)
    doors = say.door(settings.endpoint, f"application {settings.client_id}", Comers.PEOPLE, "endpoint")
    calls = (
        say.call(settings.issuer, "keys of AD FS", "issuer"),
        say.call(settings.redirect_uri, f"application {settings.client_id}", "redirect_uri", caller=Caller.PEOPLE),
    )
    return Traffic(tuple(doors), calls)


_READERS: Final[dict[str, Callable[[_Sayings], Traffic]]] = {
    "mfa-server": _mfa_server,
    "cloud": _cloud,
    "user-portal": _user_portal,
    "mobile-app": _mobile_app,
    "adfs": _adfs,
    "relying-party": _relying_party,
}
KINDS: Final = tuple(_READERS)
