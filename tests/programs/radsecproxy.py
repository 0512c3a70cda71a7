"""radsecproxy (Debian's 1.9.2): over UDP on both sides the reference for what a proxy does to bytes, over TLS on one
side the RadSec peer that nobody here wrote.

It hides passwords and keys anew and spells out a CHAP challenge, as mfalb does. It does not balance.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from programs.certificates import CertificateFiles
from programs.freeradius import FreeRadius
from programs.freeradius_records import RecordServer
from programs.ports import LOOPBACK, free_udp_port
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

_TLS = """
tls default {{
    CACertificateFile {ca}
    CertificateFile {cert}
    CertificateKeyFile {key}
}}
"""

_TOWARDS_RADSEC = """
ListenUDP {host}:{port}
LogLevel 2
client loopback {{
    type udp
    host {host}
    secret {client_secret}
}}
server balancer {{
    type tls
    host {host}
    port {balancer_port}
    secret radsec
    tls default
    statusServer on
}}
realm * {{
    server balancer
    accountingServer {accounting_server}
}}
"""

_ACCOUNTING_TOWARDS_RADSEC = """
server accounting {{
    type tls
    host {host}
    port {accounting_port}
    secret radsec
    tls default
    statusServer on
}}
"""

_FROM_RADSEC = """
ListenTLS {host}:{port}
LogLevel 2
client balancer {{
    type tls
    host {host}
    secret radsec
    tls default
    certificateNameCheck off
    matchCertificateAttribute CN:/^{client_name}$/
}}
server backend {{
    type udp
    host {host}
    port {backend_port}
    secret {backend_secret}
    statusServer on
}}
server accounting {{
    type udp
    host {host}
    port {accounting_port}
    secret {backend_secret}
}}
realm * {{
    server backend
    accountingServer accounting
}}
"""


def radsecproxy(server: FreeRadius, run_dir: Path, port: int, client_secret: str) -> Program:
    """A proxy before one server, listening on `port`, not yet started."""
    values = {"port": port, "backend_port": server.port, "client_secret": client_secret}
    return _proxy(_CONFIG.format(host=LOOPBACK, backend_secret=server.secret, **values), run_dir, "udp")


@dataclass(frozen=True, slots=True)
class RadsecParty:
    """Whom a RadSec peer believes, and what it shows.

    As a server it lets in whoever has `client_name` for a common name; any name will do when it is not given.
    """

    ca: Path
    own: CertificateFiles
    client_name: str = ".*"


def proxy_towards_radsec(
    balancer_port: int, party: RadsecParty, run_dir: Path, client_secret: str, accounting_port: int | None = None
) -> tuple[Program, int]:
    """A RadSec client: what it gets over UDP it sends on over TLS. And the UDP port it listens on.

    Records go to `accounting_port`, or over the connection of the sign-ins when there is none.
    """
    port = free_udp_port()
    values = {"port": port, "balancer_port": balancer_port, "client_secret": client_secret}
    config, server = _tls(party), "balancer"
    if accounting_port is not None:
        server = "accounting"
        config += _ACCOUNTING_TOWARDS_RADSEC.format(host=LOOPBACK, accounting_port=accounting_port)
    config += _TOWARDS_RADSEC.format(host=LOOPBACK, accounting_server=server, **values)
    return _proxy(config, run_dir, "udp"), port


def proxy_from_radsec(server: FreeRadius, party: RadsecParty, run_dir: Path, port: int) -> Program:
    """A RadSec server before one that speaks UDP only; records go to that one's accounting port, if it has one."""
    values = {"port": port, "backend_port": server.port, "backend_secret": server.secret}
    values["accounting_port"] = server.accounting_port if isinstance(server, RecordServer) else server.port
    values["client_name"] = party.client_name
    return _proxy(_tls(party) + _FROM_RADSEC.format(host=LOOPBACK, **values), run_dir, "tls")


def _tls(party: RadsecParty) -> str:
    return _TLS.format(ca=party.ca, cert=party.own.cert, key=party.own.key)


def _proxy(config: str, run_dir: Path, transport: str) -> Program:
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "radsecproxy.conf"
    path.touch(mode=0o600)
    path.write_text(config, "utf-8")
    ready = Logged(f"listening for {transport} on")
    return Program("radsecproxy", ["radsecproxy", "-f", "-c", str(path)], run_dir, ready=ready)
