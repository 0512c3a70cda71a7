"""nginx as the TLS servers behind a passthrough: each says who it is, what it was asked for, and who asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Program

_CONFIG = """
{user}
daemon off;
worker_processes 1;
pid {run_dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    client_max_body_size 0;
    ssl_protocols TLSv1.2 TLSv1.3;
{servers}
}}
"""
_SERVER = """
    server {{
        listen {host}:{port} {options};
        {tls}
        location / {{
            default_type text/plain;
            return 200 "{fields}";
        }}
        location /files/ {{ alias {run_dir}/files/; }}
    }}
"""
_FIELDS: Final = {
    "server": "{name}",
    "sni": "$ssl_server_name",
    "client": "$ssl_client_s_dn",
    "forwarded": "$http_x_forwarded_for",
    "peer": "$proxy_protocol_addr",
    "peer_port": "$proxy_protocol_port",
    "asked": "$proxy_protocol_server_addr",
    "asked_port": "$proxy_protocol_server_port",
    "connection": "$connection",
}


@dataclass(frozen=True, slots=True)
class Site:
    """One server of nginx. Without a certificate it speaks plain HTTP."""

    name: str
    certificate: CertificateFiles | None = None
    client_ca: Path | None = None
    takes_proxy_protocol: bool = False
    port: int = field(default_factory=free_tcp_port)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def text(self, run_dir: Path) -> str:
        """Its part of nginx's configuration."""
        options, tls = ["proxy_protocol"] if self.takes_proxy_protocol else [], ""
        if self.certificate is not None:
            options.append("ssl")
            tls = f"ssl_certificate {self.certificate.cert}; ssl_certificate_key {self.certificate.key};"
            if self.client_ca is not None:
                tls += f" ssl_client_certificate {self.client_ca}; ssl_verify_client optional;"
        fields = "".join(f"{key}={value}\\n" for key, value in _FIELDS.items()).replace("{name}", self.name)
        return _SERVER.format(
            host=LOOPBACK, port=self.port, options=" ".join(options), tls=tls, fields=fields, run_dir=run_dir
        )


def tls_sites(run_dir: Path, sites: Sequence[Site]) -> Program:
    """An nginx with these servers. What is in `files` of its run directory is served below /files/."""
    (run_dir / "files").mkdir(parents=True, exist_ok=True)
    # As root its worker would become www-data, which cannot read a run directory that is root's alone.
    user = "user root;" if os.geteuid() == 0 else ""
    servers = "".join(site.text(run_dir) for site in sites)
    path = run_dir / "nginx.conf"
    path.write_text(_CONFIG.format(user=user, run_dir=run_dir, servers=servers), "utf-8")
    return Program(
        "nginx",
        ["nginx", "-p", str(run_dir), "-e", "stderr", "-c", str(path)],
        run_dir,
        ready=lambda _: (run_dir / "nginx.pid").exists(),
        launch=Launch(grace_s=2.0),
    )


def told(page: bytes) -> dict[str, str]:
    """What a site said, by field."""
    lines = page.decode("latin-1").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)
