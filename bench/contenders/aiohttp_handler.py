"""The proxy that one would write in Python: bench/aiohttp_proxy.py on uvloop, with affinity and an access log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import aiohttp
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Logged, Program

from contenders import HttpsContender, HttpsTask

_SCRIPT: Final = Path(__file__).resolve().parents[1] / "aiohttp_proxy.py"


def https(task: HttpsTask) -> HttpsContender:
    """A handler proxy with affinity cookies, not yet started. It has no probes."""
    plain_port, tls_port, run_dir = free_tcp_port(), free_tcp_port(), task.run_dir / "aiohttp_handler"
    options = {"plain-port": plain_port, "tls-port": tls_port, "cert": task.cert, "key": task.key}
    program = Program(
        "aiohttp_handler",
        [
            *(sys.executable, str(_SCRIPT), "--access-log", str(run_dir / "access.log")),
            *(word for name, value in options.items() for word in (f"--{name}", str(value))),
            *(f"http://{LOOPBACK}:{port}" for port in task.backend_ports),
        ],
        run_dir,
        ready=Logged("ready"),
        launch=task.launch,
    )
    return HttpsContender("aiohttp_handler", aiohttp.__version__, program, plain_port, tls_port)
