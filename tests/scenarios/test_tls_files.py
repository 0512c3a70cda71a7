"""Certificates are exchanged under a running balancer: nobody is cut off, and nobody has to be told."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from programs.balancer import Balancer
from programs.certificates import Authority, CertificateFiles
from programs.http_backend import HttpBackend
from programs.http_pool import Front, Responses, http_pool, new_front
from programs.process import wait_until
from programs.tls_clients import SClient
from unit.wire.client_hellos import from_openssl

NAMES = ("www.example.test", "127.0.0.1")
REQUEST = b"GET /echo HTTP/1.1\r\nHost: www.example.test\r\n\r\n"
DEADLINE_S = 10


@dataclass
class Site:
    """A balancer that looks at its files four times a second. Its pair is mounted as Kubernetes mounts a secret."""

    balancer: Balancer
    front: Front
    authority: Authority
    mount: Path
    count: int = 1

    def turn(self, issued: CertificateFiles) -> None:
        """A new version of the secret, by one rename, as kubelet does it; the former folder goes."""
        self.count += 1
        put_version(self.mount, f"..{self.count}", issued)
        (self.mount / "..data_tmp").symlink_to(f"..{self.count}")
        (self.mount / "..data_tmp").rename(self.mount / "..data")
        shutil.rmtree(self.mount / f"..{self.count - 1}")

    def reloads(self, result: str) -> float:
        return self.balancer.metrics().total("mfalb_tls_reloads_total", role="listener", name="web", result=result)

    def expiry(self) -> float:
        return self.balancer.metrics().total(
            "mfalb_tls_certificate_expiry_timestamp_seconds", role="listener", certificate=str(self.mount / "tls.crt")
        )

    def subject(self) -> str:
        return SClient(self.authority.ca).ask(self.front.port).subject


def put_version(mount: Path, folder: str, issued: CertificateFiles) -> None:
    (mount / folder).mkdir(parents=True)
    shutil.copy(issued.cert, mount / folder / "tls.crt")
    shutil.copy(issued.key, mount / folder / "tls.key")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    authority, mount = Authority(tmp_path / "ca"), tmp_path / "mount"
    put_version(mount, "..1", authority.issue("v1", "version 1", *NAMES))
    (mount / "..data").symlink_to("..1")
    for name in ("tls.crt", "tls.key"):
        (mount / name).symlink_to(f"..data/{name}")
    front = new_front(CertificateFiles(authority.ca, mount / "tls.crt", mount / "tls.key"))
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", tmp_path / "b1"))
        config = {
            "listeners": [front.listener("web", [{"pool": "web"}])],
            "pools": {"web": http_pool(backend.address)},
            "tls": {"file_check_interval": "250ms"},
        }
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb"))
        yield Site(balancer, front, authority, mount)


def ask(client: socket.socket) -> int:
    client.sendall(REQUEST)
    return Responses(client).next().status


def test_a_new_certificate_is_shown_and_connections_go_on(site: Site) -> None:
    with site.front.open() as client:
        assert ask(client) == 200
        assert site.subject() == "CN = version 1"
        issued = site.authority.issue("v2", "version 2", *NAMES)
        site.turn(issued)
        wait_until(lambda: site.reloads("ok") == 1, "the reload")
        assert site.subject() == "CN = version 2"
        end = x509.load_pem_x509_certificate(issued.cert.read_bytes()).not_valid_after_utc
        assert site.expiry() == end.timestamp()
        assert ask(client) == 200, "on the connection from before"


def test_certificates_turn_under_load_and_not_one_request_fails(site: Site) -> None:
    """Clients that connect anew all the time, and clients that stay; none sees anything but answers."""
    is_over = threading.Event()
    seen: Counter[str] = Counter()

    def newcomer() -> None:
        while not is_over.is_set():
            with site.front.open() as client:
                assert isinstance(client, ssl.SSLSocket)
                shown = client.getpeercert()
                assert shown is not None
                assert ask(client) == 200
                seen[str(shown["subject"])] += 1

    def regular() -> None:
        with site.front.open() as client:
            while not is_over.is_set():
                assert ask(client) == 200
                seen["regular"] += 1

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(work) for work in (newcomer, newcomer, newcomer, regular)]
        try:
            for version in (2, 3, 4):
                site.turn(site.authority.issue(f"v{version}", f"version {version}", *NAMES))
                wait_until(lambda version=version: site.reloads("ok") == version - 1, "the reload")  # type: ignore[misc] # binds this turn's
                wait_until(lambda version=version: seen[f"((('commonName', 'version {version}'),),)"] > 0, "its use")  # type: ignore[misc] # binds this turn's
        finally:
            is_over.set()
        for one in running:
            one.result(DEADLINE_S)
    assert seen["regular"] > 0
    handshakes = site.balancer.metrics().total("mfalb_tls_handshakes_total", listener="web", result="failed")
    assert handshakes == 0


def test_a_pair_that_does_not_match_changes_nothing_and_is_told_of_once(site: Site) -> None:
    one, two = (site.authority.issue(f"v{number}", f"version {number}", *NAMES) for number in (2, 3))
    site.turn(CertificateFiles(one.ca, one.cert, two.key))
    wait_until(lambda: site.reloads("failed") == 1, "the failure")
    assert site.balancer.metrics().total("mfalb_tls_files_failing", name="web") == 1
    assert site.subject() == "CN = version 1"
    site.turn(two)
    wait_until(lambda: site.reloads("ok") == 1, "the reload")
    assert site.subject() == "CN = version 3"
    assert site.reloads("failed") == 1
    assert site.balancer.metrics().total("mfalb_tls_files_failing", name="web") == 0
    log = site.balancer.log()
    assert log.count("cannot be used") == 1
    assert "key values mismatch" in log
    assert two.key.read_text().splitlines()[1] not in log


def test_a_name_that_is_not_ascii_ends_its_handshake_and_leaves_no_traceback(site: Site) -> None:
    hello = from_openssl("www.example.test").replace(b"www.example.test", b"\xff\n\x1b[31mexample.x")
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", site.front.port), timeout=DEADLINE_S) as client:
            client.sendall(hello)
            assert client.recv(1) in (b"", b"\x15"), "an end, or an alert"
    wait_until(lambda: "not ASCII" in site.balancer.log(), "the line")
    assert site.balancer.log().count("not ASCII") == 1
    assert "\x1b" not in site.balancer.log()
    assert site.front.get("/echo")[0] == 200
