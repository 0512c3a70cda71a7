"""A folder with a configuration file in it, and what a check of that file finds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mfalb.balancer.config.loader import check
from mfalb.balancer.config.models import Config

MARK = "»"

LISTENERS = """\
listeners:
  - {name: web, protocol: http, bind: ["127.0.0.1:8080"], routes: [{pool: web}]}
"""
POOLS = """\
pools:
  web:
    backends: [{name: a, address: "10.0.0.1:80"}]
    health_check: {type: http}
"""


@dataclass(frozen=True, slots=True)
class Folder:
    """Where the configuration file of a test lies, with the files it names."""

    path: Path
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, content: str | bytes, mode: int = 0o600) -> Path:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        file.chmod(mode)
        return file

    def read(self, text: str) -> tuple[Config | None, list[str]]:
        """The configuration, and the findings without the file's name: "3:15: error: …"."""
        file = self.write("mfalb.yaml", text)
        config, problems = check(file, self.environment)
        return config, [str(problem).removeprefix(f"{file}:") for problem in problems]

    def findings(self, text: str) -> list[str]:
        return self.read(text)[1]

    def expect(self, marked: str, *messages: str) -> None:
        """The text has exactly these findings, all of them where its mark stands.

        A message is written as it is printed behind the position: "error: …".
        """
        before, found, after = marked.partition(MARK)
        assert found, "the text has no mark"
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        assert self.findings(before + after) == [f"{line}:{column}: {message}" for message in messages]
