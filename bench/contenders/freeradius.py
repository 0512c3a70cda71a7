"""FreeRADIUS as a proxy: full RADIUS, a load-balance pool with Status-Server checks."""

from __future__ import annotations

from programs.ports import LOOPBACK, free_udp_port
from programs.process import Logged, Program

from contenders import RadiusContender, RadiusTask, version_of

_HOME = """
home_server backend{number} {{
    type = auth
    ipaddr = {host}
    port = {port}
    secret = {secret}
    status_check = status-server
    max_outstanding = 65536
}}
"""
_CONFIG = """
name = bench
libdir = /usr/lib/freeradius
raddbdir = {run_dir}
run_dir = {run_dir}
logdir = {run_dir}
pidfile = {run_dir}/freeradius.pid
max_requests = 262144
proxy_requests = yes
log {{
    destination = stdout
    auth = yes
}}
security {{
    status_server = yes
}}
client loopback {{
    ipaddr = {host}
    secret = {secret}
}}
thread pool {{
    start_servers = 2
    max_servers = 4
    max_queue_size = 65536
}}
proxy server {{
}}
{homes}
home_server_pool backends {{
    type = load-balance
{names}
}}
realm backends {{
    auth_pool = backends
}}
modules {{
}}
server default {{
    listen {{
        type = auth
        ipaddr = {host}
        port = {port}
        # The kernel's default loses datagrams of a burst of 1024.
        recv_buff = 4194304
    }}
    authorize {{
        update control {{
            Proxy-To-Realm := "backends"
        }}
    }}
}}
"""


def radius(task: RadiusTask) -> RadiusContender:
    """A proxy with both backends in one pool, not yet started."""
    port, backends = free_udp_port(), list(enumerate(task.backend_ports))
    run_dir = task.run_dir / "freeradius"
    run_dir.mkdir()
    homes = "".join(
        _HOME.format(number=number, host=LOOPBACK, port=backend, secret=task.backend_secret)
        for number, backend in backends
    )
    names = "\n".join(f"    home_server = backend{number}" for number, _ in backends)
    values = {"run_dir": run_dir, "host": LOOPBACK, "port": port, "secret": task.client_secret}
    (run_dir / "radiusd.conf").write_text(_CONFIG.format(homes=homes, names=names, **values), "utf-8")
    program = Program(
        "freeradius",
        ["freeradius", "-f", "-P", "-l", "stdout", "-d", str(run_dir)],
        run_dir,
        ready=Logged("Ready to process requests"),
        launch=task.launch,
    )
    return RadiusContender("freeradius", version_of("freeradius", "-v"), program, port)
