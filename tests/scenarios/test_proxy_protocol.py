"""Who a client is, told from proxy to proxy: HAProxy and curl before the balancer, nginx and HAProxy behind it."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.haproxy import Link, haproxy
from programs.http_pool import Front, http_pool, new_front, read_all
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import find_program, wait_until
from programs.tcp_pool import TcpFront, new_tcp_front
from programs.tls_site import Site, tls_sites, told

NAME = "www.example.test"
FAR, FAR_6 = "192.0.2.77", "2001:db8::77"
V1 = f"PROXY TCP4 {FAR} 198.51.100.1 40000 443\r\n".encode()
V2_6 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x27"
    + socket.inet_pton(socket.AF_INET6, FAR_6)
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + b"\x9c\x40\x01\xbb\x04\0\0"
)
ASK = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
V2_LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00"
HEADERS = {"v1": (V1, FAR), "v2 with a TLV": (V2_6, FAR_6), "local": (V2_LOCAL, LOOPBACK)}
FRONTS = ["web", "tls", "tcp"]


@dataclass(frozen=True, slots=True)
class Sites:
    """The balancer with listeners that expect headers (`web`, `tls`, `tcp`) and ones that do not, before nginx."""

    balancer: Balancer
    certificate: CertificateFiles
    web: Front
    tls: Front
    tcp: TcpFront
    outside: Front
    sending: dict[str, int]

    def port(self, name: str) -> int:
        return {"web": self.web.port, "tls": self.tls.port, "tcp": self.tcp.port}[name]

    def ask(self, port: int, opening: bytes = b"", *, is_tls: bool) -> dict[str, str]:
        """What the server says that is reached through this port, when a connection begins with `opening`."""
        with self.open(port, [opening], is_tls=is_tls) as client:
            client.sendall(ASK)
            return told(read_all(client))

    def open(self, port: int, openings: Iterable[bytes], *, is_tls: bool) -> socket.socket:
        """A connection that begins with these, each in a packet of its own, and with TLS behind them if so asked."""
        plain = socket.create_connection((LOOPBACK, port), 10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for opening in openings:
            plain.send(opening)
        if not is_tls:
            return plain
        context = ssl.create_default_context(cafile=str(self.certificate.ca))
        try:
            return context.wrap_socket(plain, server_hostname=NAME)
        except BaseException:
            plain.close()
            raise

    def drops(self, reason: str) -> float:
        with suppress(KeyError):  # there is no such metric before its first count
            return self.balancer.metrics().total("mfalb_listener_drops_total", reason=reason)
        return 0.0


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[Sites]:
    run_dir = tmp_path_factory.mktemp("proxy")
    plain, secure = Site("plain"), Site("secure", certificate)
    plain_p, secure_p = Site("plain", takes_proxy_protocol=True), Site("secure", certificate, takes_proxy_protocol=True)
    web, tls, outside, v1, v2, v2_tls = (
        new_front(certificate if is_tls else None) for is_tls in (False, True, False, False, False, False)
    )
    tcp, tcp_v1, tcp_v2 = (new_tcp_front() for _ in range(3))
    behind = Link("behind", to=plain_p.port, bind="accept-proxy", server="send-proxy-v2")
    through = new_tcp_front()
    inside = {"proxy_protocol": {"from": [f"{LOOPBACK}/32"]}, "limits": {"header_timeout": "1s"}}
    inside_tcp = {"proxy_protocol": {"from": [f"{LOOPBACK}/32"]}, "limits": {"hello_timeout": "1s"}}
    elsewhere = {"proxy_protocol": {"from": ["10.9.9.0/24"]}}
    upstream_tls = {"ca": str(certificate.ca), "server_name": NAME}
    config = {
        "listeners": [
            web.listener("web", [{"pool": "plain"}], **inside),
            tls.listener("tls", [{"pool": "plain"}], **inside),
            tcp.listener([{"sni": NAME, "pool": "to-v1"}], **inside_tcp),
            outside.listener("outside", [{"pool": "plain"}], **elsewhere),
            v1.listener("v1", [{"pool": "v1"}]),
            v2.listener("v2", [{"pool": "v2"}]),
            v2_tls.listener("v2-tls", [{"pool": "v2-tls"}]),
            tcp_v1.listener([{"sni": NAME, "pool": "to-v1"}]) | {"name": "tcp-v1"},
            tcp_v2.listener([{"pool": "to-v2"}]) | {"name": "tcp-v2"},
            through.listener([{"pool": "through"}]) | {"name": "through"},
        ],
        "pools": {
            "plain": http_pool(plain.address),
            "v1": http_pool(plain_p.address, send_proxy="v1"),
            "v2": http_pool(plain_p.address, send_proxy="v2"),
            "v2-tls": http_pool(secure_p.address, send_proxy="v2", upstream_tls=upstream_tls),
            "to-v1": http_pool(secure_p.address, send_proxy="v1"),
            "to-v2": http_pool(secure_p.address, send_proxy="v2"),
            "through": http_pool(f"{LOOPBACK}:{behind.port}", send_proxy="v1"),
        },
    }
    sending = {
        "http, v1": v1.port,
        "http, v2": v2.port,
        "http, v2 before TLS": v2_tls.port,
        "tcp, v1": tcp_v1.port,
        "tcp, v2": tcp_v2.port,
        "tcp, v1, through HAProxy": through.port,
    }
    with (
        tls_sites(run_dir / "nginx", [plain, secure, plain_p, secure_p]),
        haproxy(run_dir / "haproxy", [behind], behind),
        Balancer(config, run_dir / "balancer") as balancer,
    ):
        yield Sites(balancer, certificate, web, tls, tcp, outside, sending)


def client_told(said: dict[str, str]) -> str:
    """Who the server was told: by X-Forwarded-For, or by the header that it got itself."""
    return said["forwarded"] or said["peer"]


# ------------------------------------------------------------------------------------------------ accepted


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("header", HEADERS)
def test_the_address_in_the_header_is_the_clients(sites: Sites, front: str, header: str) -> None:
    opening, address = HEADERS[header]
    said = sites.ask(sites.port(front), opening, is_tls=front != "web")
    assert client_told(said) == address
    wait_until(lambda: f"listener={front} client={address} " in sites.balancer.log(), "the access log's line")


@pytest.mark.parametrize("front", FRONTS)
def test_a_header_that_comes_byte_by_byte_is_read(sites: Sites, front: str) -> None:
    pieces = [bytes((octet,)) for octet in V2_6]
    with sites.open(sites.port(front), pieces, is_tls=front != "web") as client:
        client.sendall(ASK)
        assert client_told(told(read_all(client))) == FAR_6


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("opening", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", V1[:-2] + b" x\r\n"])
def test_a_connection_without_the_header_that_is_due_is_closed_and_counted(
    sites: Sites, front: str, opening: bytes
) -> None:
    before = sites.drops("proxy_header")
    with socket.create_connection((LOOPBACK, sites.port(front)), 10) as client:
        client.sendall(opening)
        assert read_all(client) == b""
    assert sites.drops("proxy_header") == before + 1


@pytest.mark.parametrize("front", FRONTS)
def test_a_header_that_does_not_come_is_not_waited_for_for_long(sites: Sites, front: str) -> None:
    before = sites.drops("proxy_timeout")
    with socket.create_connection((LOOPBACK, sites.port(front)), 10) as client:
        client.sendall(V1[:20])
        assert read_all(client) == b""
    assert sites.drops("proxy_timeout") == before + 1


def test_who_is_not_a_named_proxy_is_taken_as_it_is_and_its_header_is_not_believed(sites: Sites) -> None:
    assert sites.ask(sites.outside.port, is_tls=False)["forwarded"] == LOOPBACK
    with sites.outside.open() as client:
        client.sendall(V1 + b"GET / HTTP/1.0\r\n\r\n")
        assert b" 400 " in read_all(client)


@pytest.mark.parametrize(("option", "front"), [("--haproxy-protocol", "web"), ("--haproxy-protocol", "tls")])
def test_curl_tells_who_it_is(sites: Sites, option: str, front: str) -> None:
    scheme = "http" if front == "web" else "https"
    argv = [find_program("curl"), "--silent", "--show-error", option, "--cacert", str(sites.certificate.ca)]
    argv += ["--resolve", f"{NAME}:{sites.port(front)}:{LOOPBACK}", f"{scheme}://{NAME}:{sites.port(front)}/"]
    said = subprocess.run(argv, check=True, capture_output=True, timeout=20).stdout
    assert told(said)["forwarded"] == LOOPBACK


@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"])
@pytest.mark.parametrize("front", FRONTS)
def test_haproxy_before_the_balancer_tells_who_asks(sites: Sites, tmp_path: Path, version: str, front: str) -> None:
    # HAProxy itself is told by the test, so that the address is one that no connection here has
    link = Link(front, to=sites.port(front), bind="accept-proxy", server=version)
    with haproxy(tmp_path, [link], link):
        said = sites.ask(link.port, V1, is_tls=front != "web")
    assert client_told(said) == FAR


# ---------------------------------------------------------------------------------------------------- sent


@pytest.mark.parametrize(
    "way",
    ["http, v1", "http, v2", "http, v2 before TLS", "tcp, v1", "tcp, v2", "tcp, v1, through HAProxy"],
)
def test_servers_are_told_who_asks_and_what_was_asked(sites: Sites, way: str) -> None:
    port = sites.sending[way]
    is_tls = way in ("tcp, v1", "tcp, v2")
    with sites.open(port, [], is_tls=is_tls) as client:
        own = str(client.getsockname()[1])
        client.sendall(ASK)
        said = told(read_all(client))
    assert (said["peer"], said["peer_port"]) == (LOOPBACK, own)
    assert (said["asked"], said["asked_port"]) == (LOOPBACK, str(port))


def test_what_a_proxy_told_is_told_on(sites: Sites) -> None:
    said = sites.ask(sites.tcp.port, V1, is_tls=True)
    assert (said["peer"], said["peer_port"]) == (FAR, "40000")
    assert (said["asked"], said["asked_port"]) == ("198.51.100.1", "443")
    said = sites.ask(sites.tcp.port, V2_6, is_tls=True)
    assert (said["peer"], said["asked"]) == (FAR_6, "2001:db8::1")


@pytest.mark.parametrize("way", ["http, v1", "http, v2 before TLS"])
def test_a_connection_that_told_a_client_serves_no_other(sites: Sites, way: str) -> None:
    clients = [http.client.HTTPConnection(LOOPBACK, sites.sending[way], timeout=10) for _ in range(3)]
    used: dict[str, set[tuple[str, str]]] = {}
    for _ in range(3):
        for client in clients:
            client.request("GET", "/")
            said = told(client.getresponse().read())
            own = str(client.sock.getsockname()[1])
            assert said["peer_port"] == own
            used.setdefault(said["connection"], set()).add((said["peer"], said["peer_port"]))
    for client in clients:
        client.close()
    assert len(used) == 3, "a client's connection is used again for its own requests"
    assert all(len(peers) == 1 for peers in used.values())


def test_stopping_lets_go_of_those_who_have_told_nothing_yet(tmp_path: Path) -> None:
    front = new_tcp_front()
    config = {
        "listeners": [front.listener([{"pool": "p"}], proxy_protocol={"from": [LOOPBACK]})],
        "pools": {"p": http_pool(f"{LOOPBACK}:{free_tcp_port()}")},
    }
    with Balancer(config, tmp_path) as balancer, front.open() as client:
        client.sendall(V1[:10])
        balancer.assert_clean(balancer.stop())
        assert read_all(client) == b""


def test_headers_not_sent_count_as_connections(tmp_path: Path) -> None:
    front = new_tcp_front()
    listener = front.listener([{"pool": "p"}], proxy_protocol={"from": [LOOPBACK]}, limits={"connections": 3})
    config = {"listeners": [listener], "pools": {"p": http_pool(f"{LOOPBACK}:{free_tcp_port()}")}}
    with Balancer(config, tmp_path) as balancer:
        waiting = [front.open() for _ in range(3)]
        with front.open() as late:
            assert read_all(late) == b""
        assert balancer.metrics().total("mfalb_listener_drops_total", reason="connection_limit") == 1
        for client in waiting:
            client.close()
