"""A reference service as a program of its own, started from its settings."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from mfalb.reference.config.files import Settings, write_settings
from programs.process import Program


def _says_ready(program: Program) -> bool:
    return program.out_path.exists() and program.out_path.read_text().endswith("}\n")


class ReferenceService(Program):
    """One service; `port` gives where it listens. Its log is in `<name>.err`."""

    def __init__(self, name: str, module: str, settings: Settings, run_dir: Path) -> None:
        run_dir.mkdir(parents=True, exist_ok=True)
        file: Final = run_dir / f"{name}.json"
        write_settings(file, settings)
        argv = [sys.executable, "-m", f"mfalb.reference.{module}", "--settings", str(file)]
        super().__init__(name, argv, run_dir, ready=_says_ready)

    def port(self, of: str) -> int:
        word, _, ports = self.out_path.read_text().partition(" ")
        assert word == "ready"
        found: dict[str, int] = json.loads(ports)
        return found[of]

    def log(self) -> str:
        return self.err_path.read_text("utf-8", errors="replace")
