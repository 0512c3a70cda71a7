"""Reads a configuration file: a Config, or everything that is wrong with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mfalb.balancer.config.balancing_references import check_balancing
from mfalb.balancer.config.certificates import check_certificates
from mfalb.balancer.config.document import BrokenYaml, Document, Position, read
from mfalb.balancer.config.draft import draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.health_references import check_health
from mfalb.balancer.config.lint import lint
from mfalb.balancer.config.models import Config
from mfalb.balancer.config.outline import places
from mfalb.balancer.config.pin_references import check_pins
from mfalb.balancer.config.presets import expand
from mfalb.balancer.config.proxy_references import check_proxy_protocol
from mfalb.balancer.config.radius_references import check_radius_references
from mfalb.balancer.config.references import check_references
from mfalb.balancer.config.secret_sources import SecretSources, hold_places, reason
from mfalb.balancer.config.tcp_references import check_tcp_references
from mfalb.balancer.config.values import Origin
from mfalb.balancer.config.wording import Translator
from mfalb.errors import ConfigError, Problem

_FILE_LIMIT_BYTES = 1024 * 1024
_WHOLE_FILE = Position(0, 0)


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in `path`. Raises ConfigError with every problem found, warnings included.

    `environment` is where `*_env` keys look; the process's own by default.
    """
    config, problems = check(path, environment)
    if config is None:
        raise ConfigError(problems)
    return config


def check(path: Path, environment: Mapping[str, str] | None = None) -> tuple[Config | None, list[Problem]]:
    """The configuration in `path`, None when it has errors; and every problem in the order of the file."""
    findings = Findings(str(path))
    document = _document(path, findings)
    if document is None:
        return None, findings.sorted()
    reading = _Reading(path, document, findings)
    reading.prepare(os.environ if environment is None else environment)
    config = reading.validate()
    reading.inspect()
    return (None if findings.has_errors else config), findings.sorted()


def check_without_files(path: Path) -> tuple[Config | None, Document | None, list[Problem]]:
    """The configuration in `path` before the secrets and certificates that it names are there; it cannot serve.

    Something stands in for each secret. The document has the lines; both are None when there are errors.
    """
    findings = Findings(str(path))
    document = _document(path, findings)
    if document is None:
        return None, None, findings.sorted()
    reading = _Reading(path, document, findings)
    reading.prepare(None)
    config = reading.validate()
    check_references(draft(document, path.parent), findings)
    if findings.has_errors or config is None:
        return None, None, findings.sorted()
    return config, document, findings.sorted()


def _document(path: Path, findings: Findings) -> Document | None:
    try:
        with path.open("rb") as file:
            octets = file.read(_FILE_LIMIT_BYTES + 1)
    except OSError as error:
        findings.error(_WHOLE_FILE, f"cannot read it: {reason(error)}")
        return None
    if len(octets) > _FILE_LIMIT_BYTES:
        findings.error(_WHOLE_FILE, f"is larger than {_FILE_LIMIT_BYTES // 1024} KiB, which no configuration is")
        return None
    try:
        document = read(octets.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        before = octets[: error.start]
        column = error.start - before.rfind(b"\n")
        findings.error(Position(before.count(b"\n") + 1, column), "this is not UTF-8 text; save the file as UTF-8")
        return None
    except BrokenYaml as error:
        findings.error(error.position, error.message)
        return None
    for position, message in document.findings:
        findings.error(position, message)
    return document


@dataclass(frozen=True, slots=True)
class _Reading:
    """One file on its way to a Config."""

    path: Path
    document: Document
    findings: Findings

    def prepare(self, environment: Mapping[str, str] | None) -> None:
        """Expands presets, then fetches secrets; without an environment only holds their places."""
        sources = SecretSources(self.path.parent, environment or {}, self.document, self.findings)
        for place in list(places(self.document.data)):
            expand(place, self.document, self.findings)
            if environment is None:
                hold_places(place)
            else:
                sources.fetch(place)

    def validate(self) -> Config | None:
        """The whole file as a Config; what does not fit becomes findings."""
        translator = Translator(self.document, {place.loc: place for place in places(self.document.data)})
        try:
            return Config.model_validate(
                self.document.data, context=Origin(self.path.parent), by_alias=True, by_name=False
            )
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                if detail["type"] == "too_short" and detail["input"]:
                    continue  # only a consequence: entries are there, each with an error of its own
                position, message = translator.translate(detail)
                self.findings.error(position, message)
            return None

    def inspect(self) -> None:
        """Looks at what is right by itself: names, files, wisdom."""
        readable = draft(self.document, self.path.parent)
        check_references(readable, self.findings)
        check_radius_references(readable, self.findings)
        check_tcp_references(readable, self.findings)
        check_balancing(readable, self.findings)
        check_proxy_protocol(readable, self.findings)
        check_health(readable, self.findings)
        check_certificates(readable, self.findings)
        check_pins(readable, self.findings)
        lint(readable, self.findings)
