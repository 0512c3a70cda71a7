"""nginx: round robin for HTTP, and for UDP datagrams it does not understand.

With `proxy_requests 1` each datagram is balanced by itself; without, nginx would pin each client socket to a backend.
It cannot change a packet, so its clients and backends share one secret: here the backends'.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from programs.ports import LOOPBACK, free_tcp_port, free_udp_port
from programs.process import Launch, Program

from contenders import HttpsContender, HttpsTask, RadiusContender, RadiusTask, version_of

_STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
_HEAD = """
{modules}
{user}
daemon off;
worker_processes 1;
pid {run_dir}/nginx.pid;
error_log stderr warn;
events {{
    worker_connections 8192;
}}
"""
_STREAM = """
stream {{
    log_format access '$remote_addr $time_iso8601 $upstream_addr $bytes_sent $session_time';
    access_log {run_dir}/access.log access buffer=64k flush=1s;
    upstream backends {{
{servers}
    }}
    server {{
        listen {host}:{port} udp rcvbuf=4m;  # the kernel's default loses datagrams of a burst of 1024
        proxy_pass backends;
        proxy_requests 1;
        proxy_responses 1;
        proxy_timeout 5s;
    }}
}}
"""
_HTTP = """
http {{
    access_log {run_dir}/access.log combined buffer=64k flush=1s;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    client_max_body_size 0;
    proxy_request_buffering off;  # uploads go on as they come, as with the others
    proxy_max_temp_file_size 0;  # and so do downloads: no slow client's answer is stored on disk
    keepalive_requests 1000000000;
    upstream backends {{
{servers}
        keepalive 512;  # as many as clients have at most: fewer, and it opens new ones all the time
        keepalive_requests 1000000000;
    }}
    server {{
        listen {host}:{plain_port};
        listen {host}:{tls_port} ssl;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{
            proxy_pass http://backends;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""


def nginx_program(name: str, config: str, run_dir: Path, launch: Launch) -> Program:
    """Nginx with a configuration, ready when it has written its pid file (after its sockets are open)."""
    run_dir.mkdir(exist_ok=True)
    path = run_dir / "nginx.conf"
    # As root its worker would become www-data, which cannot read a run directory that is root's alone.
    user = "user root;" if os.geteuid() == 0 else ""
    modules = f"load_module {_STREAM_MODULE};" if "stream {" in config and _STREAM_MODULE.exists() else ""
    path.write_text(_HEAD.format(modules=modules, user=user, run_dir=run_dir) + config, "utf-8")
    return Program(
        name,
        ["nginx", "-p", str(run_dir), "-e", "stderr", "-c", str(path)],
        run_dir,
        ready=lambda _: (run_dir / "nginx.pid").exists(),
        launch=launch,
    )


def _servers(ports: Iterable[int]) -> str:
    return "\n".join(f"        server {LOOPBACK}:{port};" for port in ports)


def radius(task: RadiusTask) -> RadiusContender:
    """A stream server that balances each datagram, not yet started."""
    port, run_dir = free_udp_port(), task.run_dir / "nginx"
    config = _STREAM.format(run_dir=run_dir, servers=_servers(task.backend_ports), host=LOOPBACK, port=port)
    program = nginx_program("nginx", config, run_dir, task.launch)
    return RadiusContender("nginx", version_of("nginx", "-v"), program, port)


def https(task: HttpsTask) -> HttpsContender:
    """A reverse proxy with kept-alive backends and round robin, not yet started."""
    plain_port, tls_port, run_dir = free_tcp_port(), free_tcp_port(), task.run_dir / "nginx"
    values = {"plain_port": plain_port, "tls_port": tls_port, "cert": task.cert, "key": task.key}
    config = _HTTP.format(run_dir=run_dir, servers=_servers(task.backend_ports), host=LOOPBACK, **values)
    program = nginx_program("nginx", config, run_dir, task.launch)
    return HttpsContender("nginx", version_of("nginx", "-v"), program, plain_port, tls_port)
