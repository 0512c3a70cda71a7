"""radsecproxy (Debian's 1.9.2) as a RADIUS proxy over UDP on both sides: the reference for what a proxy does to bytes.

It hides passwords and keys anew and spells out a CHAP challenge, as mfalb does. It does not balance.
"""

from __future__ import annotations

from pathlib import Path

from programs.freeradius import FreeRadius
from programs.ports import LOOPBACK
from programs.process import Logged, Program

_CONFIG = """
ListenUDP {host}:{port}
LogLevel 3
client loopback {{
    type udp
    host {host}
    secret {client_secret}
}}
server backend {{
    type udp
    host {host}
    port {backend_port}
    secret {backend_secret}
    statusServer on
}}
realm * {{
    server backend
}}
"""


def radsecproxy(server: FreeRadius, run_dir: Path, port: int, client_secret: str) -> Program:
    """A proxy before one server, listening on `port`, not yet started."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "radsecproxy.conf"
    path.touch(mode=0o600)
    values = {"host": LOOPBACK, "port": port, "backend_port": server.port}
    path.write_text(_CONFIG.format(client_secret=client_secret, backend_secret=server.secret, **values), "utf-8")
    return Program("radsecproxy", ["radsecproxy", "-f", "-c", str(path)], run_dir, ready=Logged("listening for udp on"))
