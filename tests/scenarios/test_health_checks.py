"""Promise: checks see what a server shows, on every way to it, and say no more than they should."""

from __future__ import annotations

import gzip
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer, write_secret
from programs.certificates import CertificateFiles, make_certificate
from programs.haproxy import Link, haproxy
from programs.http_backend import HttpBackend, RawBackend, RawPeer, Script
from programs.http_pool import http_pool, new_front
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Program, wait_until
from programs.radsec_pool import make_trust, pool_of, radsec_listener, tls_backends, upstream_tls
from programs.tls_site import Site, tls_sites

from mfalb.wire.proxy_protocol import SIGNATURE

QUICK = {"interval": "100ms", "timeout": "1s", "rise": 1, "fall": 2}
NEVER = {"interval": "1h", "timeout": "5s", "rise": 1, "fall": 1}
WAYS = ["http", "https", "http, v1", "http, v2", "https, v1", "https, v2", "through HAProxy, v1", "through HAProxy, v2"]
PASSWORD = "a-probe's-password-é"
USER = "contoso\\probe"
CREDENTIALS = b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@dataclass(frozen=True)
class Sites:
    """nginx on each way; what it serves to each is a file of its own."""

    balancer: Balancer
    nginx: Program
    haproxy: Program
    files: Path

    def show(self, way: str, text: str | None) -> None:
        path = self.files / str(WAYS.index(way))
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").rename(path)

    def wait(self, way: str, health: str, result: str) -> dict[str, Any]:
        def seen() -> dict[str, Any]:
            return self.balancer.backend(f"p{WAYS.index(way)}")

        wait_until(
            lambda: seen()["health"] == health and seen()["last_check"]["result"] == result, f"{health} by {result}"
        )
        return seen()


def alone(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with these pools and a listener that leads to each."""
    routes = [{"path": f"/{name}", "pool": name} for name in config["pools"]]
    return {"listeners": [new_front().listener("web", routes)], **config}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[Sites]:
    run_dir = tmp_path_factory.mktemp("health")
    plain, tls = Site("plain"), Site("tls", certificate)
    told, told_tls = Site("told", takes_proxy_protocol=True), Site("told", certificate, takes_proxy_protocol=True)
    link = Link("checks", to=plain.port, bind="accept-proxy")
    ports = [plain.port, tls.port, told.port, told.port, told_tls.port, told_tls.port, link.port, link.port]
    pools = {}
    for number, (way, port) in enumerate(zip(WAYS, ports, strict=True)):
        more: dict[str, Any] = {"send_proxy": way[-2:]} if way[-2:] in ("v1", "v2") else {}
        if way.startswith("https"):
            more["upstream_tls"] = {"ca": str(certificate.ca)}
        check = {"type": "http", "path": f"/files/{number}", "expect_body": "all is well", **QUICK}
        pools[f"p{number}"] = http_pool(f"{LOOPBACK}:{port}", health_check=check, **more)
    with ExitStack() as stack:
        nginx = stack.enter_context(tls_sites(run_dir / "nginx", [plain, tls, told, told_tls]))
        between = stack.enter_context(haproxy(run_dir / "haproxy", [link], link))
        balancer = stack.enter_context(Balancer(alone({"pools": pools}), run_dir / "mfalb"))
        yield Sites(balancer, nginx, between, run_dir / "nginx" / "files")


@pytest.mark.parametrize("way", WAYS)
def test_a_server_is_up_while_its_page_says_what_it_should(sites: Sites, way: str) -> None:
    sites.wait(way, "down", "status 404")
    sites.show(way, "today all is well here")
    seen = sites.wait(way, "up", "status 200")
    assert seen["last_check"]["good"] is True
    assert 0 < seen["last_check"]["ms"] < 1000
    sites.show(way, "not so well")
    assert sites.wait(way, "down", "another body")["last_check"]["good"] is False
    sites.show(way, "all is well")
    sites.wait(way, "up", "status 200")
    labels = {"pool": f"p{WAYS.index(way)}", "backend": "b1"}
    assert 0 < sites.balancer.metrics().total("mfalb_backend_last_check_seconds", **labels) < 1
    assert "PROXY protocol" not in sites.nginx.log(), "nginx complains of headers that it cannot read"


# ------------------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("version", "header"),
    [
        ("v1", b"PROXY UNKNOWN\r\n"),
        ("v2", SIGNATURE + b"\x20\0\0\0"),
        (None, b""),
    ],
)
def test_a_tcp_check_says_what_every_connection_begins_with_and_no_more(
    tmp_path: Path, version: str | None, header: bytes
) -> None:
    ended: list[bytes] = []

    def listen(peer: RawPeer) -> None:
        peer.read_body(1000)
        ended.append(bytes(peer.received))

    more = {"send_proxy": version} if version else {}
    with RawBackend(listen) as backend:
        pools = {"p": http_pool(backend.address, health_check={"type": "tcp", **NEVER}, **more)}
        with Balancer(alone({"pools": pools}), tmp_path / "mfalb") as balancer:
            wait_until(lambda: len(ended) == 1, "the check to leave")
            assert balancer.backend("p")["last_check"]["result"] == "connected"
    assert ended == [header]


def answer(body: bytes = b"ok", *lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *lines, b"", body))


def test_the_whole_request_is_the_one_that_is_written_and_nobody_else_learns_the_password(tmp_path: Path) -> None:
    (tmp_path / "question.json").write_bytes(b'{"a":1}')

    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.read_body(7)
        peer.send(answer(b"ok", b"X-Ready: yes"))

    check = {
        "type": "http", "method": "POST", "path": "/a%2Fb?c=%41", "host": "mfa.contoso.com",
        "headers": {"Content-Type": "application/json", "User-Agent": "probe"},
        "body_file": str(tmp_path / "question.json"), "user": USER,
        "password_file": write_secret(tmp_path, "password", PASSWORD), "expect_header": {"name": "x-ready"}, **NEVER,
    }  # fmt: skip
    with RawBackend(script) as backend:
        config = alone({"pools": {"p": http_pool(backend.address, health_check=check)}, "log": {"level": "debug"}})
        with Balancer(config, tmp_path / "mfalb", secrets=[PASSWORD, CREDENTIALS]) as balancer:
            assert balancer.backend("p")["health"] == "up"
            pages = (balancer.get("/status") + balancer.get("/metrics")).decode()
            assert PASSWORD not in pages
            assert CREDENTIALS not in pages
    line, *rest = backend.received.partition(b"\r\n\r\n")[0].decode("ascii").split("\r\n")
    headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in rest)}
    assert line == "POST /a%2Fb?c=%41 HTTP/1.1"
    assert headers["host"] == "mfa.contoso.com"
    assert headers["authorization"] == f"Basic {CREDENTIALS}"
    assert (headers["content-type"], headers["user-agent"]) == ("application/json", "probe")
    assert (headers["accept-encoding"], headers["content-length"]) == ("identity", "7")
    assert backend.received.endswith(b'\r\n\r\n{"a":1}')


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_each_method_is_sent_as_it_is_called(tmp_path: Path, method: str) -> None:
    with HttpBackend("b1", tmp_path / "b1") as good, RawBackend(saying(answer(b""))) as raw:
        check = {"type": "http", "method": method, **NEVER}
        pools = {"p": http_pool(good.address, health_check=check), "raw": http_pool(raw.address, health_check=check)}
        with Balancer(alone({"pools": pools}), tmp_path / "mfalb") as balancer:
            assert balancer.backend("p")["health"] == balancer.backend("raw")["health"] == "up"
    assert raw.received.startswith(method.encode() + b" / HTTP/1.1\r\n")


# ------------------------------------------------------------------------------------ what is answered


def saying(data: bytes, end: Callable[[RawPeer], None] | None = None) -> Script:
    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(data)
        if end is not None:
            end(peer)
        else:
            peer.read_body(1)  # until the check closes

    return script


def endless(peer: RawPeer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(10_000):
        peer.send(b"1000\r\n" + b"ok, " * 1024 + b"\r\n")


def close(peer: RawPeer) -> None:
    peer.socket.close()


ANSWERS: dict[str, tuple[Script, str]] = {
    "good": (saying(answer()), "status 200"),
    "good, endless": (endless, "status 200"),
    "good, ended by its end": (saying(b"HTTP/1.0 200 OK\r\n\r\nok", close), "status 200"),
    "good, after an interim one": (saying(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer()), "status 200"),
    "another status": (saying(answer().replace(b"200", b"503")), "status 503"),
    "a redirect": (saying(answer(b"", b"Location: /ok").replace(b"200", b"302")), "status 302"),
    "too late in the body": (saying(answer(b" " * 100 + b"ok")), "another body"),
    "compressed": (saying(answer(gzip.compress(b"ok"), b"Content-Encoding: gzip")), "another body"),
    "cut off": (saying(answer(b" " * 30)[:-1], close), "answer not complete"),
    "nothing": (saying(b""), "timeout"),
    "half a head": (saying(b"HTTP/1.1 200 OK\r\nX: "), "timeout"),
    "half a body": (saying(answer(b"o" + b"k" * 30)[:-10]), "timeout"),
    "the end": (saying(b"", close), "connection closed"),
    "a reset": (saying(b"", RawPeer.reset), "Connection reset by peer"),
    "no HTTP": (saying(b"220 mail.example.test ESMTP\r\n"), "no HTTP"),
    "HTTP with a lie": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n"), "no HTTP"),
    "a very long head": (saying(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), "no HTTP"),
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """What was seen of servers with each of the answers, all at once."""
    check = {
        "type": "http", "expect_body": "ok", "body_limit": "100B", "interval": "1h", "timeout": "1500ms", "rise": 1,
        "fall": 1,
    }  # fmt: skip
    with ExitStack() as stack:
        backends = [stack.enter_context(RawBackend(script)) for script, _ in ANSWERS.values()]
        pools = {f"p{n}": http_pool(one.address, health_check=check) for n, one in enumerate(backends)}
        pools["gone"] = http_pool(f"{LOOPBACK}:{free_tcp_port()}", health_check=check)
        balancer = stack.enter_context(Balancer(alone({"pools": pools}), tmp_path_factory.mktemp("answered")))
        seen = {name: balancer.backend(f"p{n}") for n, name in enumerate(ANSWERS)}
        yield seen | {"gone": balancer.backend("gone")}


@pytest.mark.parametrize("name", ANSWERS)
def test_each_answer_is_judged_by_what_it_is(answered: dict[str, dict[str, Any]], name: str) -> None:
    expected = ANSWERS[name][1]
    assert answered[name]["last_check"]["result"] == expected
    assert answered[name]["health"] == ("up" if expected == "status 200" else "down")


def test_where_nobody_listens_the_system_s_word_is_told(answered: dict[str, dict[str, Any]]) -> None:
    assert answered["gone"]["last_check"]["result"] == "Connection refused"


# -------------------------------------------------------------------------------------------------- TLS


class StrictTls:
    """A TLS server that is hurt when a client leaves without a goodbye (RFC 8446 section 6.1)."""

    def __init__(self, certificate: CertificateFiles, said: bytes, *, reads_head: bool = True) -> None:
        self.ends: list[str] = []
        self._said = said
        self._reads_head = reads_head
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate.cert, certificate.key)

    def __call__(self, peer: RawPeer) -> None:
        secured = self._context.wrap_socket(peer.socket, server_side=True, suppress_ragged_eofs=False)
        peer.socket = secured
        try:
            if self._reads_head:
                peer.read_head()
            else:
                peer.read_body(1)
            peer.send(self._said)
            self.ends.append("goodbye" if secured.recv(1) == b"" else "more")
        except OSError as error:
            self.ends.append(type(error).__name__)
        secured.close()


@pytest.mark.parametrize(
    "said",
    [
        answer(),
        answer(b"ok", b"Connection: close"),
        answer().replace(b"200", b"503"),
        answer(b" " * 200_000),
        b"",
        b"what?\r\n\r\n",
    ],
    ids=["kept", "closing", "bad", "more than is read", "nothing", "no HTTP"],
)
def test_a_check_over_tls_says_goodbye_however_it_went(
    tmp_path: Path, certificate: CertificateFiles, said: bytes
) -> None:
    script = StrictTls(certificate, said)
    check = {"type": "http", "interval": "1h", "timeout": "1s"}
    with RawBackend(script) as backend:
        pool = http_pool(backend.address, health_check=check, upstream_tls={"ca": str(certificate.ca)})
        with Balancer(alone({"pools": {"p": pool}}), tmp_path / "mfalb"):
            wait_until(lambda: bool(script.ends), "the check to leave")
    assert script.ends == ["goodbye"]


def test_a_check_of_a_radsec_server_says_goodbye_too(tmp_path: Path) -> None:
    trust = make_trust(tmp_path / "trust")
    listener, _ = radsec_listener(trust)
    script = StrictTls(trust.server, b"this is no RADIUS packet", reads_head=False)
    check = {"type": "radius", "interval": "1s", "fast": True}
    with RawBackend(script) as backend:
        pool = pool_of(tls_backends({"r1": backend.port}), upstream_tls=upstream_tls(trust), health_check=check)
        with Balancer({"listeners": [listener], "pools": {"mfa": pool}}, tmp_path / "mfalb"):
            wait_until(lambda: bool(script.ends), "the check to leave")
    assert set(script.ends) == {"goodbye"}


def test_a_server_whom_nobody_vouches_for_or_with_another_name_is_down(
    tmp_path: Path, certificate: CertificateFiles
) -> None:
    impostor = make_certificate(tmp_path / "impostor", LOOPBACK)
    other = Site("other", impostor), Site("right", certificate)
    check = {"type": "http", **NEVER}
    trust = {"ca": str(certificate.ca)}
    pools = {
        "impostor": http_pool(other[0].address, health_check=check, upstream_tls=trust),
        "misnamed": http_pool(other[1].address, health_check=check, upstream_tls={**trust, "server_name": "a.test"}),
        "right": http_pool(other[1].address, health_check=check, upstream_tls=trust),
    }
    with tls_sites(tmp_path / "nginx", other), Balancer(alone({"pools": pools}), tmp_path / "mfalb") as balancer:
        seen = {name: balancer.backend(name) for name in pools}
    assert [one["health"] for one in seen.values()] == ["down", "down", "up"]
    assert seen["impostor"]["last_check"]["result"].startswith("TLS: ")
    assert "a.test" in seen["misnamed"]["last_check"]["result"]


# ---------------------------------------------------------------------------------------------- how often


def test_a_refusal_that_traffic_meets_brings_the_next_checks_at_once(tmp_path: Path) -> None:
    front = new_front()
    check = {"type": "http", "interval": "1h", "fast_interval": "50ms", "timeout": "1s", "rise": 2, "fall": 4}
    with HttpBackend("b1", tmp_path / "b1") as one, HttpBackend("b2", tmp_path / "b2") as two:
        pool = http_pool(one.address, two.address, health_check=check)
        config = {"listeners": [front.listener("web", [{"pool": "p"}])], "pools": {"p": pool}}
        with Balancer(config, tmp_path / "mfalb") as balancer:
            one.kill()
            assert {front.get("/")[0] for _ in range(2)} == {200}
            wait_until(lambda: balancer.backend("p", "b1")["health"] == "down", "three more checks")
            assert balancer.backend("p", "b1")["probes"] == {"sent": 4, "answered": 1, "lost": 3}
            assert balancer.backend("p", "b2")["probes"]["sent"] == 1, "nothing contradicts what is known of it"
