"""Clients' certificates: who is let in, what backends are told, and that nobody else can tell it them."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from programs.balancer import Balancer
from programs.certificates import Authority, CertificateFiles
from programs.http_backend import HttpBackend
from programs.http_pool import Front, Responses, http_pool, new_front
from programs.process import wait_until
from programs.tls_clients import SClient

NAMES = ("www.example.test", "127.0.0.1")
IDENTITY = (
    "x-ssl-client-verify",
    "x-ssl-client-cert",
    "x-ssl-client-s-dn",
    "x-ssl-client-i-dn",
    "x-ssl-client-serial",
    "x-ssl-client-sha256",
)


@dataclass(frozen=True)
class Site:
    """Three listeners before one backend: certificates are required, optional, and not asked for (plain HTTP)."""

    balancer: Balancer
    required: Front
    optional: Front
    plain: Front
    clients: Authority
    strangers: Authority
    run_dir: Path

    def issue(self, name: str) -> CertificateFiles:
        return self.clients.issue(name, name)

    def ask(self, front: Front, shown: CertificateFiles | None = None, **headers: str) -> list[tuple[str, str]]:
        """The fields about certificates that the backend got, with their names in lower case."""
        connection: http.client.HTTPConnection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=10)
        if front.certificate is not None:
            context = ssl.create_default_context(cafile=str(front.certificate.ca))
            if shown is not None:
                context.load_cert_chain(shown.cert, shown.key)
            connection = http.client.HTTPSConnection("127.0.0.1", front.port, timeout=10, context=context)
        try:
            connection.request("GET", "/echo", headers={name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            assert response.status == 200
            seen = json.loads(response.read())
        finally:
            connection.close()
        return [(name.lower(), text) for name, text in seen["headers"] if "ssl" in name.lower()]

    def reloads(self) -> float:
        return self.balancer.metrics().total("mfalb_tls_reloads_total", role="listener", result="ok")


def asked(front: Front, clients: Authority, mode: str) -> dict[str, Any]:
    table = front.listener(mode, [{"pool": "web"}])
    revoked = clients.ca.parent / "crl.pem"
    table["tls"]["client_certificates"] = {"mode": mode, "ca": str(clients.ca), "crl": str(revoked)}
    return table


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    server = Authority(tmp_path / "ca").issue("server", "server", *NAMES)
    clients = Authority(tmp_path / "clients", "the clients' authority")
    strangers = Authority(tmp_path / "strangers", "a stranger's authority")
    clients.revoke()
    required, optional, plain = new_front(server), new_front(server), new_front()
    with ExitStack() as stack:
        backend = stack.enter_context(HttpBackend("b1", tmp_path / "b1"))
        config = {
            "listeners": [
                asked(required, clients, "required"),
                asked(optional, clients, "optional"),
                plain.listener("plain", [{"pool": "web"}], accept=["underscores"]),
            ],
            "pools": {"web": http_pool(backend.address)},
            "tls": {"file_check_interval": "250ms"},
        }
        balancer = stack.enter_context(Balancer(config, tmp_path / "mfalb"))
        yield Site(balancer, required, optional, plain, clients, strangers, tmp_path)


def is_refused(site: Site, front: Front, shown: CertificateFiles | None) -> bool:
    """Whether the connection ends without an answer. (In TLS 1.3 a client notices when it reads.)"""
    try:
        site.ask(front, shown)
    except (ssl.SSLError, ConnectionError, http.client.BadStatusLine):
        return True
    return False


def test_a_backend_is_told_whose_certificate_it_is(site: Site) -> None:
    alice = site.issue("alice")
    certificate = x509.load_pem_x509_certificate(alice.cert.read_bytes())
    for front in (site.required, site.optional):
        told = dict(site.ask(front, alice))
        assert unquote(told.pop("x-ssl-client-cert")).encode() == certificate.public_bytes(Encoding.PEM)
        assert told == {
            "x-ssl-client-verify": "SUCCESS",
            "x-ssl-client-s-dn": "CN=alice",
            "x-ssl-client-i-dn": "CN=the clients' authority",
            "x-ssl-client-serial": f"{certificate.serial_number:X}",
            "x-ssl-client-sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        }


def test_without_one_nobody_is_let_in_where_it_is_required(site: Site) -> None:
    assert is_refused(site, site.required, None)
    missing = {"listener": "required", "result": "client_certificate_missing"}
    assert site.balancer.metrics().total("mfalb_tls_handshakes_total", **missing) == 1
    assert site.ask(site.optional) == [("x-ssl-client-verify", "NONE")]


def test_a_stranger_s_certificate_lets_nobody_in(site: Site) -> None:
    eve = site.strangers.issue("eve", "alice")
    assert is_refused(site, site.required, eve)
    assert is_refused(site, site.optional, eve)
    metrics = site.balancer.metrics()
    for listener in ("required", "optional"):
        refused = {"listener": listener, "result": "client_certificate_refused"}
        assert metrics.total("mfalb_tls_handshakes_total", **refused) == 1
        assert f'refused listener={listener} reason="unable to get local issuer certificate"' in site.balancer.log()


def test_what_clients_claim_of_certificates_never_passes_on_any_listener(site: Site) -> None:
    claims = {name.replace("-", "_"): "forged" for name in IDENTITY}
    assert site.ask(site.plain, None, **claims) == []
    assert site.ask(site.optional, None, **claims) == [("x-ssl-client-verify", "NONE")]
    told = site.ask(site.required, site.issue("alice"), **claims)
    assert sorted(name for name, _ in told) == sorted(IDENTITY)
    assert "forged" not in dict(told).values()


@pytest.mark.parametrize("name", ["X_SSL_Client_Verify", "x-ssl_client-s-dn"])
def test_a_claim_in_disguise_is_refused_even_where_underscores_are_accepted(site: Site, name: str) -> None:
    answer = site.plain.say(f"GET / HTTP/1.1\r\nHost: a\r\n{name}: SUCCESS\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert site.plain.get("/echo")[0] == 200


def test_claims_behind_a_body_and_named_by_connection_do_not_pass_either(site: Site) -> None:
    with site.plain.open() as client:
        client.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: x-ssl-client-verify\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nok\r\n0\r\nX-SSL-Client-Verify: SUCCESS\r\nX-Other: kept\r\n\r\n"
        )
        seen = json.loads(Responses(client).next("POST").body)
    assert [name for name, _ in seen["headers"] if "ssl" in name.lower()] == []


def test_our_lines_stay_though_connection_names_them(site: Site) -> None:
    told = site.ask(site.required, site.issue("alice"), Connection="keep-alive, X-SSL-Client-Verify, X-SSL-Client-S-DN")
    assert dict(told)["x-ssl-client-verify"] == "SUCCESS"
    assert dict(told)["x-ssl-client-s-dn"] == "CN=alice"


def test_whoever_is_revoked_is_out_after_the_list_has_changed_also_with_a_session(site: Site) -> None:
    alice, bob = site.issue("alice"), site.issue("bob")
    client, session = SClient(site.run_dir / "ca" / "ca.pem"), site.run_dir / "session"
    for version in ("-tls1_2", "-tls1_3"):
        of_alice = client.shows(alice)
        assert of_alice.begin(site.required.port, session, version).is_answered
        resumed = of_alice.resume(site.required.port, session, version)
        assert resumed.is_resumed
        assert resumed.is_answered
        before = site.reloads()
        site.clients.revoke(alice)
        wait_until(lambda before=before: site.reloads() >= before + 2, "both listeners' reloads")  # type: ignore[misc] # binds this turn's
        assert not of_alice.resume(site.required.port, session, version).is_answered
        assert client.shows(bob).ask(site.required.port, version).is_answered
        site.clients.revoke()
        wait_until(lambda before=before: site.reloads() >= before + 4, "both listeners' reloads")  # type: ignore[misc] # binds this turn's


def test_clients_are_told_whose_certificates_are_asked_for(site: Site) -> None:
    shown = SClient(site.run_dir / "ca" / "ca.pem").ask(site.optional.port)
    assert "Acceptable client certificate CA names\nCN = the clients' authority\n" in shown.text


def test_a_client_that_speaks_http_2_only_is_served_without_alpn(site: Site) -> None:
    shown = SClient(site.run_dir / "ca" / "ca.pem").ask(site.optional.port, "-alpn", "h2")
    assert "No ALPN negotiated" in shown.text
    assert shown.is_answered
