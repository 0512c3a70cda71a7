"""radsecproxy: full RADIUS (it signs anew and hides passwords anew), but one server until that fails: no balancing.

It has no setting for its receive buffer, which at the kernel's default loses datagrams of a burst of 1024.
"""

from __future__ import annotations

from programs.ports import LOOPBACK, free_udp_port
from programs.process import Logged, Program

from contenders import RadiusContender, RadiusTask, version_of

_SERVER = """
server backend{number} {{
    type udp
    host {host}
    port {port}
    secret {secret}
    statusServer on
}}
"""
_CONFIG = """
ListenUDP {host}:{port}
LogLevel 3
client loopback {{
    type udp
    host {host}
    secret {secret}
}}
{servers}
realm * {{
{names}
}}
"""


def radius(task: RadiusTask) -> RadiusContender:
    """A proxy that knows both backends and uses one, not yet started."""
    port, backends = free_udp_port(), list(enumerate(task.backend_ports))
    servers = "".join(
        _SERVER.format(number=number, host=LOOPBACK, port=backend, secret=task.backend_secret)
        for number, backend in backends
    )
    names = "\n".join(f"    server backend{number}" for number, _ in backends)
    config = _CONFIG.format(host=LOOPBACK, port=port, secret=task.client_secret, servers=servers, names=names)
    path = task.run_dir / "radsecproxy.conf"
    path.write_text(config, "utf-8")
    program = Program(
        "radsecproxy",
        ["radsecproxy", "-f", "-c", str(path)],
        task.run_dir,
        ready=Logged("listening for udp on"),
        launch=task.launch,
    )
    return RadiusContender("radsecproxy", version_of("radsecproxy", "-v"), program, port)
