"""The RADIUS servers behind the contenders: responder.py in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from programs.balancer import write_secret
from programs.process import Launch, Logged, Program

BACKEND_SECRET: Final = "towards-the-backends"  # noqa: S105 - loopback, for the length of a run


def responder(name: str, run_dir: Path, ports: Sequence[int], cores: frozenset[int] = frozenset()) -> Program:
    """A server that answers at `ports`, not yet started."""
    secret = write_secret(run_dir, f"{name}.secret", BACKEND_SECRET)
    return Program(
        name,
        [sys.executable, str(Path(__file__).with_name("responder.py")), secret, *map(str, ports)],
        run_dir,
        ready=Logged("ready"),
        launch=Launch(pinned_to_cores=cores),
    )
