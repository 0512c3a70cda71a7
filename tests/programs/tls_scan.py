"""What TLS scanners say of a listener, and a well-configured nginx to compare it with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from programs.certificates import CertificateFiles
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Logged, Program

# In an environment of its own (make test sees to it): it wants an older cryptography than mfalb has
_SSLYZE: Final = Path(__file__).parents[2] / ".venv/sslyze/bin/sslyze"
_TIMEOUT_S: Final = 60
_VERSIONS: Final = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3")

_NGINX: Final = """
daemon off;
pid {run_dir}/nginx.pid;
error_log stderr notice;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {run_dir}/body;
    proxy_temp_path {run_dir}/proxy;
    fastcgi_temp_path {run_dir}/fastcgi;
    uwsgi_temp_path {run_dir}/uwsgi;
    scgi_temp_path {run_dir}/scgi;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305;
    ssl_prefer_server_ciphers on;
    ssl_session_cache shared:tls:1m;
    server {{
        listen {host}:{port} ssl;
        {certificates}
        {clients}
        location / {{ return 200 "ok $ssl_client_s_dn"; }}
    }}
}}
"""


class NginxTls(Program):
    """nginx with the suites that Mozilla's "intermediate" profile names, those with DHE aside.

    With `client_ca` clients have to show a certificate of that authority; the answer says whose it is.
    """

    def __init__(self, run_dir: Path, *pairs: CertificateFiles, client_ca: Path | None = None) -> None:
        self.port: Final = free_tcp_port()
        self._pairs = pairs
        self._clients = f"ssl_client_certificate {client_ca}; ssl_verify_client on;" if client_ca is not None else ""
        configuration = run_dir / "nginx.conf"
        argv = ["nginx", "-p", str(run_dir), "-c", str(configuration)]
        super().__init__("nginx", argv, run_dir, ready=Logged("start worker process"))

    def start(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        certificates = " ".join(f"ssl_certificate {pair.cert}; ssl_certificate_key {pair.key};" for pair in self._pairs)
        text = _NGINX.format(
            run_dir=self.run_dir, host=LOOPBACK, port=self.port, certificates=certificates, clients=self._clients
        )
        (self.run_dir / "nginx.conf").write_text(text)
        super().start()


def findings_of(ports: Sequence[int], directory: Path) -> list[dict[str, str]]:
    """What testssl.sh finds at each port, all asked at the same time: severities by its names of findings.

    Protocols, classes of suites, and forward secrecy: ten seconds. Everything it can do takes minutes.
    """
    told = [directory / f"testssl-{port}.json" for port in ports]
    argv = ["testssl", "--quiet", "--warnings", "batch", "--nodns", "none", "--fast", "-p", "-s", "-f"]
    running = [
        subprocess.Popen(
            [*argv, "--jsonfile", str(out), f"{LOOPBACK}:{port}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        for port, out in zip(ports, told, strict=True)
    ]
    try:
        for one in running:
            one.wait(_TIMEOUT_S)
    finally:
        for one in running:
            one.kill()
            one.wait()
    return [{one["id"]: one["severity"] for one in json.loads(out.read_text())} for out in told]


@dataclass(frozen=True, slots=True)
class Scan:
    """What sslyze found: suites by version, curves, and its verdicts."""

    suites: dict[str, frozenset[str]]
    curves: frozenset[str]
    verdicts: dict[str, object]

    @classmethod
    def of(cls, port: int, out: Path) -> Scan:
        """Scans. Raises AssertionError when a part of the scan failed."""
        assert _SSLYZE.exists(), "sslyze is not there: make .venv/sslyze/.ready"
        argv = [str(_SSLYZE), f"{LOOPBACK}:{port}", "--mozilla_config", "disable", "--resum", "--early_data"]
        parts = ["--certinfo", "--elliptic_curves", "--compression", "--heartbleed", "--openssl_ccs", "--fallback"]
        parts += ["--robot", "--reneg", "--ems", "--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3"]
        done = subprocess.run(
            [*argv, *parts, "--json_out", str(out)], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        assert out.exists(), done.stdout + done.stderr
        return cls._read(json.loads(out.read_text())["server_scan_results"][0]["scan_result"])

    @classmethod
    def _read(cls, found: dict[str, Any]) -> Scan:
        done = {name: part["result"] for name, part in found.items() if part["status"] == "COMPLETED"}
        assert not [name for name, part in found.items() if part["status"].startswith("ERROR")]
        suites = {
            version: frozenset(
                one["cipher_suite"]["name"] for one in done[f"{version}_cipher_suites"]["accepted_cipher_suites"]
            )
            for version in _VERSIONS
        }
        verdicts = {
            "compression": done["tls_compression"]["supports_compression"],
            "ccs": done["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
            "fallback_scsv": done["tls_fallback_scsv"]["supports_fallback_scsv"],
            "heartbleed": done["heartbleed"]["is_vulnerable_to_heartbleed"],
            "robot": done["robot"]["robot_result"],
            "secure_renegotiation": done["session_renegotiation"]["supports_secure_renegotiation"],
            "renegotiation_dos": done["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"],
            "extended_master_secret": done["tls_extended_master_secret"]["supports_ems_extension"],
            "early_data": done["tls_1_3_early_data"]["supports_early_data"],
            "resumed_by_ticket": done["session_resumption"]["tls_ticket_resumption_result"],
        }
        curves = frozenset(one["name"] for one in done["elliptic_curves"]["supported_curves"])
        return cls(suites, curves, verdicts)
