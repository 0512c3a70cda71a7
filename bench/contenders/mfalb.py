"""mfalb itself, all features on: pins, duplicates, health checks, metrics and the access log."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from programs.balancer import Balancer, write_secret
from programs.ports import LOOPBACK, free_tcp_port, free_udp_port
from programs.process import Launch, ProgramFailed

import mfalb
from contenders import HttpsContender, HttpsTask, RadiusContender, RadiusTask

# As in conf/contoso/balancer-inside/balancer.yaml: the one place where benches say how RADIUS backends are watched.
RADIUS_HEALTH_CHECK: Final = {"type": "radius"}
# Faster than RFC 3539 allows: a silent server is found before a NAS has used up three tries of 3 s.
FAST_HEALTH_CHECK: Final = {"type": "radius", "interval": "2s", "fast": True}
COMPILED_FORM: Final = Path(__file__).resolve().parents[2] / "build" / "compiled"  # where `make compiled` puts it


def radius(task: RadiusTask) -> RadiusContender:
    """A balancer with challenge pins and Status-Server probes, not yet started."""
    return _radius("mfalb", mfalb.__version__, task, task.launch)


def radius_fast(task: RadiusTask) -> RadiusContender:
    """The same with a watchdog that is faster than RFC 3539 allows."""
    return _radius("mfalb_fast", mfalb.__version__, task, task.launch, FAST_HEALTH_CHECK)


def radius_compiled(task: RadiusTask) -> RadiusContender:
    """The same from the compiled form. Raises ProgramFailed when that was not built."""
    return _radius("mfalb_compiled", f"{mfalb.__version__}, compiled", task, _compiled(task.launch))


def _compiled(launch: Launch) -> Launch:
    if not (COMPILED_FORM / "mfalb").is_dir():
        raise ProgramFailed("the compiled form is not there; build it with: make compiled")
    return replace(launch, environment={"PYTHONPATH": str(COMPILED_FORM)})


def _radius(
    name: str, version: str, task: RadiusTask, launch: Launch, health_check: Mapping[str, Any] = RADIUS_HEALTH_CHECK
) -> RadiusContender:
    port, run_dir = free_udp_port(), task.run_dir / name
    backend_secret = write_secret(run_dir, "backends.secret", task.backend_secret)
    client_secret = write_secret(run_dir, "clients.secret", task.client_secret)
    backends = [
        {"name": f"backend{number}", "address": f"{LOOPBACK}:{backend}", "secret_file": backend_secret}
        for number, backend in enumerate(task.backend_ports)
    ]
    config: dict[str, Any] = {
        "listeners": [
            {
                "name": "radius",
                "protocol": "radius",
                "bind": [f"{LOOPBACK}:{port}"],
                "clients": [{"name": "loopback", "network": "127.0.0.0/8", "secret_file": client_secret}],
                "pool": "backends",
                "add_proxy_state": "never",  # on loopback every backend could be a client; in a network few can
            }
        ],
        "pools": {
            "backends": {
                "backends": backends,
                "affinity": {"type": "radius_state"},
                "health_check": health_check,
            }
        },
    }
    return RadiusContender(name, version, Balancer(config, run_dir, launch=launch), port)


def https(task: HttpsTask) -> HttpsContender:
    """A balancer with encrypted affinity cookies and HTTP probes, not yet started."""
    return _https("mfalb", mfalb.__version__, task, task.launch)


def https_compiled(task: HttpsTask) -> HttpsContender:
    """The same from the compiled form. Raises ProgramFailed when that was not built."""
    return _https("mfalb_compiled", f"{mfalb.__version__}, compiled", task, _compiled(task.launch))


def _https(name: str, version: str, task: HttpsTask, launch: Launch) -> HttpsContender:
    plain_port, tls_port, run_dir = free_tcp_port(), free_tcp_port(), task.run_dir / name
    cookie_key = write_secret(run_dir, "cookie.key", base64.b64encode(os.urandom(32)).decode())
    backends = [
        {"name": f"backend{number}", "address": f"{LOOPBACK}:{port}"} for number, port in enumerate(task.backend_ports)
    ]
    route = {"routes": [{"pool": "backends"}]}
    tls = {"certificates": [{"cert": str(task.cert), "key": str(task.key)}]}
    config: dict[str, Any] = {
        "listeners": [
            {"name": "plain", "protocol": "http", "bind": [f"{LOOPBACK}:{plain_port}"], **route},
            {"name": "tls", "protocol": "https", "bind": [f"{LOOPBACK}:{tls_port}"], "tls": tls, **route},
        ],
        "pools": {
            "backends": {
                "backends": backends,
                "affinity": {"type": "cookie"},
                "health_check": {"type": "http", "path": "/"},
            }
        },
        "pins": {"cookie_keys_file": cookie_key},
    }
    return HttpsContender(name, version, Balancer(config, run_dir, launch=launch), plain_port, tls_port)
