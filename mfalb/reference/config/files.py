"""The settings files: written by the estate (or by hand), read by one service each."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import Any, Self

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mfalb.reference.config.adfs import AdfsSettings
from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.config.mobile_app import MobileAppSettings
from mfalb.reference.config.portal import PortalSettings
from mfalb.reference.config.relying_party import RelyingPartySettings
from mfalb.reference.config.tables import read_table

Settings = CloudSettings | MfaServerSettings | PortalSettings | MobileAppSettings | AdfsSettings | RelyingPartySettings


def write_settings(path: Path, settings: Settings) -> None:
    """Write a settings file that only its owner can read. Raises FileExistsError rather than trust another's file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(settings), file, default=_enum_value)


def _yaml_fault(error: YAMLError) -> str:
    """Where the fault is, and which, without what stands there: str(error) shows the line, and lines hold secrets."""
    if not isinstance(error, MarkedYAMLError) or error.problem_mark is None:
        return "this is no YAML"
    problem = re.sub(r"(['\"]).*\1", "...", error.problem or "this is no YAML", flags=re.DOTALL)
    return f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: {problem}"


def _enum_value(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} has no place in a settings file")


class SettingsFile:
    """A settings file's tables, read back into the values of a service."""

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables

    @classmethod
    def read(cls, path: Path) -> Self:
        """Of JSON, or of YAML in a file that is named so. Raises OSError and ValueError."""
        text = path.read_text("utf-8")
        try:
            tables = YAML(typ="safe").load(text) if path.suffix in (".yaml", ".yml") else json.loads(text)
        except YAMLError as error:
            raise ValueError(_yaml_fault(error)) from None
        if not isinstance(tables, dict):
            raise ValueError("the settings of a service are a table")  # noqa: TRY004 - the file's fault, not a caller's
        return cls(tables)

    def cloud(self) -> CloudSettings:
        return read_table(CloudSettings, self._tables)

    def mfa_server(self) -> MfaServerSettings:
        return read_table(MfaServerSettings, self._tables)

    def portal(self) -> PortalSettings:
        return read_table(PortalSettings, self._tables)

    def mobile_app(self) -> MobileAppSettings:
        return read_table(MobileAppSettings, self._tables)

    def adfs(self) -> AdfsSettings:
        return read_table(AdfsSettings, self._tables)

    def relying_party(self) -> RelyingPartySettings:
        return read_table(RelyingPartySettings, self._tables)
