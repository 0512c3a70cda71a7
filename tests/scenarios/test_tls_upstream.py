"""Towards backends: the balancer signs in with its own certificate, and believes theirs by the name it is told."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from programs.balancer import Balancer
from programs.certificates import Authority, CertificateFiles
from programs.http_backend import RawBackend, RawPeer
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.tls_scan import NginxTls


def signed_in(server: CertificateFiles, client_ca: Path) -> Callable[[RawPeer], None]:
    """A server, such as IIS before the Web Service SDK, that lets in who shows a certificate and says who that was."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(client_ca))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.cert, server.key)

    def script(peer: RawPeer) -> None:
        with context.wrap_socket(peer.socket, server_side=True) as secure:
            while secure.recv(65_536):
                shown = secure.getpeercert()
                assert shown is not None
                name = dict(field for entry in shown["subject"] for field in entry)["commonName"]  # type: ignore[misc]
                body = str(name).encode()
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    return script


@contextmanager
def site(run_dir: Path, backend: RawBackend, **upstream_tls: Any) -> Iterator[tuple[Balancer, Front]]:
    front = new_front()
    config = {
        "listeners": [front.listener("web", [{"pool": "sdk"}])],
        "pools": {"sdk": http_pool(backend.address, upstream_tls=upstream_tls)},
        "tls": {"file_check_interval": "250ms"},
    }
    with Balancer(config, run_dir / "mfalb") as balancer:
        yield balancer, front


def test_the_balancer_signs_in_at_a_backend_and_renews_its_certificate_while_it_runs(tmp_path: Path) -> None:
    servers, clients = Authority(tmp_path / "servers"), Authority(tmp_path / "clients", "the clients' authority")
    server, ours = servers.issue("server", "mfa1", "127.0.0.1"), clients.issue("ours", "balancer 2026")
    with (
        RawBackend(signed_in(server, clients.ca)) as backend,
        site(tmp_path, backend, ca=str(servers.ca), cert=str(ours.cert), key=str(ours.key)) as (balancer, front),
    ):
        assert front.get("/") == (200, b"balancer 2026")
        clients.issue("ours", "balancer 2027")
        wait_until(
            lambda: balancer.metrics().total("mfalb_tls_reloads_total", role="pool", result="ok") == 1, "the reload"
        )
        backend.forget()  # connections from before stay what they are
        assert front.get("/") == (200, b"balancer 2027")


def test_nginx_lets_the_balancer_in_by_its_certificate_and_finds_it_well(tmp_path: Path) -> None:
    servers, clients = Authority(tmp_path / "servers"), Authority(tmp_path / "clients", "the clients' authority")
    server, ours = servers.issue("server", "mfa1", "127.0.0.1"), clients.issue("ours", "balancer")
    shown = {"cert": str(ours.cert), "key": str(ours.key)}
    front = new_front()
    with NginxTls(tmp_path / "nginx", server, client_ca=clients.ca) as nginx:
        pool = http_pool(
            f"{LOOPBACK}:{nginx.port}",
            upstream_tls={"ca": str(servers.ca), **shown},
            health_check={"type": "http", "path": "/", "interval": "100ms", "rise": 1},
        )
        config = {"listeners": [front.listener("web", [{"pool": "sdk"}])], "pools": {"sdk": pool}}
        with Balancer(config, tmp_path / "mfalb") as balancer:
            assert front.get("/") == (200, b"ok CN=balancer")
            assert balancer.metrics().total("mfalb_backend_up", pool="sdk") == 1
            expiry = balancer.metrics().total("mfalb_tls_certificate_expiry_timestamp_seconds", role="pool")
            end = x509.load_pem_x509_certificate(ours.cert.read_bytes()).not_valid_after_utc
            assert expiry == end.timestamp()


def test_without_a_certificate_that_the_backend_believes_there_is_no_answer(tmp_path: Path) -> None:
    servers, clients = Authority(tmp_path / "servers"), Authority(tmp_path / "clients", "the clients' authority")
    server, strange = servers.issue("server", "mfa1", "127.0.0.1"), servers.issue("strange", "somebody")
    with RawBackend(signed_in(server, clients.ca)) as backend:
        for name, shown in (("none", {}), ("strange", {"cert": str(strange.cert), "key": str(strange.key)})):
            with site(tmp_path / name, backend, ca=str(servers.ca), **shown) as (_, front):
                assert front.get("/")[0] == 502


def test_the_name_that_counts_may_be_another_than_the_one_asked_for(tmp_path: Path) -> None:
    """IIS picks the site by SNI, and each server has a certificate of its own name."""
    servers = Authority(tmp_path / "servers")
    server = servers.issue("server", "mfa1", "mfa1.contoso.test")
    ours = servers.issue("ours", "balancer")
    shown = {"ca": str(servers.ca), "cert": str(ours.cert), "key": str(ours.key)}
    with RawBackend(signed_in(server, servers.ca)) as backend:
        for verify_name, status in (("mfa1.contoso.test", 200), ("mfa2.contoso.test", 502)):
            names = {"server_name": "mfaapp.contoso.test", "verify_name": verify_name}
            with site(tmp_path / verify_name, backend, **shown, **names) as (balancer, front):
                assert front.get("/")[0] == status
                assert ("CERTIFICATE_VERIFY_FAILED" in balancer.log()) is (status != 200)
