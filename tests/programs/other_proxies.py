"""HAProxy and nginx as HTTP reverse proxies, configured as strictly as they are by default."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program

_HAPROXY: Final = """
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout http-request 1s
    timeout server 5s
listen l
    bind {host}:{port}
    http-reuse never
    server s {host}:{to}
"""
_NGINX: Final = """
{user}
daemon off;
worker_processes 1;
pid {run_dir}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    client_header_timeout 1s;
    client_body_timeout 1s;
    server {{
        listen {host}:{port};
        location / {{
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_set_header Host $host;
            proxy_set_header Connection "";
            proxy_pass http://{host}:{to};
        }}
    }}
}}
"""


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), 1):
        return True
    return False


def haproxy_before(to: int, run_dir: Path) -> tuple[int, Program]:
    """The port of an HAProxy before this port, and its program."""
    run_dir.mkdir(parents=True, exist_ok=True)
    port, path = free_tcp_port(), run_dir / "haproxy.cfg"
    path.write_text(_HAPROXY.format(host=LOOPBACK, port=port, to=to), "utf-8")
    argv = ["haproxy", "-db", "-f", str(path)]
    return port, Program("haproxy", argv, run_dir, ready=lambda _: is_listening(port), launch=Launch(grace_s=2.0))


def nginx_before(to: int, run_dir: Path) -> tuple[int, Program]:
    """The port of an nginx before this port, and its program."""
    run_dir.mkdir(parents=True, exist_ok=True)
    port, path = free_tcp_port(), run_dir / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # a worker of another user could not read the run directory
    path.write_text(_NGINX.format(user=user, run_dir=run_dir, host=LOOPBACK, port=port, to=to), "utf-8")
    argv = ["nginx", "-p", str(run_dir), "-e", "stderr", "-c", str(path)]
    return port, Program("nginx", argv, run_dir, ready=lambda _: is_listening(port), launch=Launch(grace_s=2.0))
