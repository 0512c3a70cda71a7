"""HAProxy: round robin with a cookie that names the server, kept-alive backends, one thread."""

from __future__ import annotations

from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Program

from contenders import HttpsContender, HttpsTask, version_of

# The PEM of a bind line holds chain and key in one file. `http-reuse always` lets connections to backends be shared by
# all clients, as mfalb and nginx share theirs.
_CONFIG = """
global
    nbthread 1
    maxconn 4096
    log stdout format raw local0 info
    pidfile {run_dir}/haproxy.pid
    ssl-default-bind-options ssl-min-ver TLSv1.2
    stats socket {run_dir}/haproxy.sock mode 600
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 60s
    timeout server 120s
    timeout http-request 10s
frontend clients
    bind {host}:{plain_port}
    bind {host}:{tls_port} ssl crt {pem}
    option forwardfor
    default_backend servers
backend servers
    balance roundrobin
    http-reuse always
    cookie SERVERID insert indirect nocache
    option httpchk GET /
{servers}
"""


def https(task: HttpsTask) -> HttpsContender:
    """A balancer with affinity cookies and HTTP probes, not yet started."""
    plain_port, tls_port = free_tcp_port(), free_tcp_port()
    run_dir = task.run_dir / "haproxy"
    run_dir.mkdir()
    pem = run_dir / "server.pem"
    pem.touch(mode=0o600)
    pem.write_text(task.cert.read_text("ascii") + task.key.read_text("ascii"), "ascii")
    servers = "\n".join(
        f"    server backend{number} {LOOPBACK}:{port} cookie b{number} check inter 5s"
        for number, port in enumerate(task.backend_ports)
    )
    values = {"plain_port": plain_port, "tls_port": tls_port, "pem": pem, "servers": servers}
    path = run_dir / "haproxy.cfg"
    path.write_text(_CONFIG.format(run_dir=run_dir, host=LOOPBACK, **values), "utf-8")
    program = Program(
        "haproxy",
        ["haproxy", "-db", "-f", str(path)],
        run_dir,
        ready=lambda _: (run_dir / "haproxy.sock").exists(),
        launch=task.launch,
    )
    return HttpsContender("haproxy", version_of("haproxy", "-v"), program, plain_port, tls_port)
