"""TLS passes through unread: routed by the name that a client asks for, with its own certificate, to nginx servers."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles, make_certificate
from programs.http_pool import http_pool, read_all
from programs.ports import LOOPBACK, free_tcp_port
from programs.process import find_program, wait_until
from programs.tcp_pool import TcpFront, new_tcp_front
from programs.tls_site import Site, tls_sites, told

ADFS, OTHER, ANY = "adfs.contoso.com", "sdk.contoso.com", "any.contoso.com"


@dataclass(frozen=True, slots=True)
class Passthrough:
    """The balancer before nginx, and what a client needs."""

    balancer: Balancer
    front: TcpFront
    certificate: CertificateFiles
    client: CertificateFiles

    def ask(self, server_name: str | None, *, is_signing_in: bool = False) -> dict[str, str]:
        """What the server says that the connection reaches."""
        pair = self.client if is_signing_in else None
        with self.front.open_tls(server_name, self.certificate, pair) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return told(read_all(client))


@pytest.fixture(scope="module")
def passthrough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passthrough]:
    run_dir = tmp_path_factory.mktemp("passthrough")
    certificate = make_certificate(run_dir / "tls", ADFS, "*.contoso.com", "*.deep.contoso.com", LOOPBACK)
    client = make_certificate(run_dir / "client", "adfs-proxy-1")
    sites = [Site(name, certificate, client.ca) for name in ("adfs1", "adfs2", "other", "any")]
    front = new_tcp_front()
    config = {
        "listeners": [
            front.listener(
                [
                    {"sni": ADFS, "pool": "adfs"},
                    {"sni": "*.contoso.com", "pool": "any"},
                    {"sni": OTHER, "pool": "other"},
                    {"sni": "closed.contoso.com", "pool": "closed"},
                ]
            )
        ],
        "pools": {
            "adfs": http_pool(sites[0].address, sites[1].address),
            "other": http_pool(sites[2].address),
            "any": http_pool(sites[3].address),
            "closed": http_pool(f"{LOOPBACK}:{free_tcp_port()}"),
        },
        "log": {"format": "text"},
    }
    with tls_sites(run_dir / "nginx", sites), Balancer(config, run_dir / "balancer") as balancer:
        yield Passthrough(balancer, front, certificate, client)


def last_line(passthrough: Passthrough, *words: str) -> str:
    """The access log's line that has these words, once it is there."""
    wait_until(lambda: any(all(word in line for word in words) for line in lines(passthrough)), f"a line with {words}")
    return next(line for line in reversed(lines(passthrough)) if all(word in line for word in words))


def drops(passthrough: Passthrough, reason: str) -> float:
    """How many connections were refused for this reason."""
    with suppress(KeyError):  # there is no such metric before the first one
        return passthrough.balancer.metrics().total("mfalb_listener_drops_total", reason=reason)
    return 0.0


def lines(passthrough: Passthrough) -> list[str]:
    return passthrough.balancer.log().splitlines()


def test_names_lead_to_their_pools_and_round_robin_goes_on_inside(passthrough: Passthrough) -> None:
    assert Counter(passthrough.ask(ADFS)["server"] for _ in range(6)) == {"adfs1": 3, "adfs2": 3}
    assert passthrough.ask(OTHER)["server"] == "other"
    assert passthrough.ask(ANY)["server"] == "any"
    assert passthrough.ask(ANY)["sni"] == ANY


def test_letter_case_of_a_name_does_not_matter(passthrough: Passthrough) -> None:
    assert passthrough.ask("SDK.Contoso.COM")["server"] == "other"


def test_the_servers_see_the_clients_own_certificate(passthrough: Passthrough) -> None:
    assert passthrough.ask(ADFS, is_signing_in=True)["client"] == "CN=adfs-proxy-1"
    assert passthrough.ask(ADFS)["client"] == ""


def test_tls_ends_at_the_server_so_the_client_sees_its_certificate(passthrough: Passthrough) -> None:
    with passthrough.front.open_tls(ADFS, passthrough.certificate) as client:
        expected = ssl.PEM_cert_to_DER_cert(passthrough.certificate.cert.read_text())
        assert client.getpeercert(binary_form=True) == expected


@pytest.mark.parametrize("name", ["elsewhere.example", "a.deep.contoso.com", "contoso.com", None])
def test_a_name_without_a_route_is_refused_by_an_alert(passthrough: Passthrough, name: str | None) -> None:
    before = drops(passthrough, "no_route")
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        passthrough.ask(name)
    wait_until(lambda: drops(passthrough, "no_route") == before + 1, "the refusal to be counted")


def test_a_client_whose_servers_are_all_gone_is_told_by_an_alert(passthrough: Passthrough) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)internal.error"):
        passthrough.ask("closed.contoso.com")
    assert passthrough.balancer.metrics().total("mfalb_backend_failures_total", pool="closed") >= 1


@pytest.mark.parametrize("version", ["--tlsv1.2", "--tlsv1.3"])
def test_curl_gets_through(passthrough: Passthrough, version: str) -> None:
    argv = [find_program("curl"), "--silent", "--show-error", version, "--cacert", str(passthrough.certificate.ca)]
    argv += ["--resolve", f"{ADFS}:{passthrough.front.port}:{LOOPBACK}", f"https://{ADFS}:{passthrough.front.port}/"]
    said = subprocess.run(argv, check=True, capture_output=True, timeout=20).stdout
    assert told(said)["sni"] == ADFS


def test_openssl_gets_through_and_signs_in(passthrough: Passthrough) -> None:
    argv = [find_program("openssl"), "s_client", "-connect", f"{LOOPBACK}:{passthrough.front.port}"]
    argv += ["-servername", ADFS, "-CAfile", str(passthrough.certificate.ca), "-verify_return_error", "-quiet"]
    argv += ["-cert", str(passthrough.client.cert), "-key", str(passthrough.client.key)]
    asked = b"GET / HTTP/1.0\r\n\r\n"
    said = subprocess.run(argv, input=asked, check=False, capture_output=True, timeout=20).stdout
    assert told(said)["client"] == "CN=adfs-proxy-1"


def test_a_hello_that_comes_byte_by_byte_arrives(passthrough: Passthrough) -> None:
    context = ssl.create_default_context(cafile=str(passthrough.certificate.ca))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=ADFS)
    with passthrough.front.open() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            with suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                break
            for octet in outgoing.read():
                client.send(bytes((octet,)))
            incoming.write(client.recv(65_536))
        expected = ssl.PEM_cert_to_DER_cert(passthrough.certificate.cert.read_text())
        assert tls.getpeercert(binary_form=True) == expected


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\nHost: adfs.contoso.com\r\n\r\n", bytes(range(256)) * 40, b"\n"])
def test_what_is_no_tls_is_closed_and_counted(passthrough: Passthrough, words: bytes) -> None:
    before = drops(passthrough, "not_tls")
    with passthrough.front.open() as client:
        client.sendall(words)
        assert read_all(client) == b""
    wait_until(lambda: drops(passthrough, "not_tls") == before + 1, "the refusal to be counted")


def test_the_access_log_says_who_went_where_and_how_much_passed(passthrough: Passthrough) -> None:
    passthrough.ask(OTHER)
    line = last_line(passthrough, f"sni={OTHER}", "reason=-")
    for word in ("info tcp", "listener=tcp", f"client={LOOPBACK}", "pool=other", "backend=b1"):
        assert word in line
    fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
    assert int(fields["bytes_in"]) > 200
    assert int(fields["bytes_out"]) > 500
    assert float(fields["ms"]) > 0


def test_a_client_that_comes_and_goes_leaves_nothing_behind(passthrough: Passthrough) -> None:
    clients = [passthrough.front.open() for _ in range(50)]
    for number, client in enumerate(clients):
        if number % 2:
            client.sendall(b"\x16\x03\x01\x02")
        client.close()
    wait_until(
        lambda: passthrough.balancer.metrics().total("mfalb_listener_connections") == 0, "connections to be forgotten"
    )
    assert passthrough.balancer.metrics().total("mfalb_backend_active") == 0


def test_many_clients_at_once_each_reach_the_server_they_asked_for(passthrough: Passthrough) -> None:
    found: list[tuple[str, str]] = []

    def ask(name: str) -> None:
        found.extend([(name, passthrough.ask(name)["sni"]) for _ in range(5)])

    threads = [threading.Thread(target=ask, args=(name,)) for name in (ADFS, OTHER, ANY) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 60
    assert all(asked == reached for asked, reached in found)
