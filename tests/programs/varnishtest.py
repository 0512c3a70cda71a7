"""varnishtest: clients and servers of Varnish's, told byte by byte in a .vtc file what they say to each other."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from programs.process import find_program

_SCENARIO_TIMEOUT_S: Final = 30
_PROGRAM_TIMEOUT_S: Final = 60
_TAIL_LINES: Final = 60


class ScenarioFailed(AssertionError):  # noqa: N818 - it says what happened
    """Something in a .vtc did not come as written; the message is the end of varnishtest's log."""


def run_vtc(path: Path, macros: Mapping[str, str]) -> str:
    """Runs one scenario in which `${name}` stands for each macro's value; returns its log, with all that was received.

    Raises ScenarioFailed when an expectation is not met, and when the scenario does not end in time.
    """
    command = [find_program("varnishtest"), "-v", "-t", str(_SCENARIO_TIMEOUT_S)]
    for name, value in macros.items():
        command.append(f"-D{name}={value}")
    ended = subprocess.run(
        [*command, str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_PROGRAM_TIMEOUT_S,
        check=False,
    )
    log = ended.stdout.decode("utf-8", errors="backslashreplace")
    if ended.returncode != 0:
        raise ScenarioFailed("\n".join([f"{path.name} failed:", *log.splitlines()[-_TAIL_LINES:]]))
    return log
