"""Promise: the cloud talks to servers with its certificates only, serves activated ones, and forgets no epoch."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from programs.certificates import Authority, CertificateFiles
from programs.handset import Handsets
from programs.ports import LOOPBACK
from programs.radclient import Target, send
from programs.reference_service import ReferenceService

from mfalb.reference.config.cloud import CloudSettings
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, ClientTls, Endpoint, Method, User
from mfalb.wire.pfp_message import (
    PATH,
    ErrorId,
    PfpMode,
    PfpRequest,
    read_response_untrusted,
    request_xml,
)

CODE: Final = "activation-code-of-contoso"
SECRET: Final = "radius-secret"
WANTED: Final = PfpRequest("7", PfpMode.STANDARD, "alice", "+1 555 0101", "mfa1")


@dataclass
class Pki:
    """The cloud's certificate, a server's, and a stranger's."""

    cloud: CertificateFiles
    server: CertificateFiles
    stranger: CertificateFiles

    def settings(self, state: Path | None = None, *codes: str) -> CloudSettings:
        ca = str(self.server.ca)
        endpoint = Endpoint(LOOPBACK, 0, str(self.cloud.cert), str(self.cloud.key), ca)
        file = None if state is None else str(state)
        return CloudSettings(endpoint, 0.0, codes, file, handsets=Endpoint(LOOPBACK))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    folder = tmp_path_factory.mktemp("pki")
    ours = Authority(folder / "ours")
    stranger = Authority(folder / "other").issue("stranger", "mfa1", LOOPBACK)
    return Pki(ours.issue("cloud", "cloud", LOOPBACK), ours.issue("mfa1", "mfa1", LOOPBACK), stranger)


class Caller:
    """An MFA Server's side of the connection, by urllib."""

    def __init__(self, cloud: ReferenceService, ca: Path, certificate: CertificateFiles | None) -> None:
        self._url = f"https://{LOOPBACK}:{cloud.port('http')}"
        self._context = ssl.create_default_context(cafile=str(ca))
        if certificate is not None:
            self._context.load_cert_chain(str(certificate.cert), str(certificate.key))

    def post(self, path: str, body: bytes) -> bytes:
        request = Request(self._url + path, body, {"Content-Type": "application/octet-stream"})  # noqa: S310 - https
        with urlopen(request, timeout=30, context=self._context) as response:  # noqa: S310 - the same
            answer: bytes = response.read()
        return answer

    def json(self, path: str, table: dict[str, Any]) -> Any:
        return json.loads(self.post(path, json.dumps(table).encode()))


@contextmanager
def running(settings: CloudSettings, run_dir: Path, name: str = "cloud") -> Iterator[ReferenceService]:
    with ReferenceService(name, "cloud_service", settings, run_dir) as cloud:
        yield cloud


def activation(server: str, **more: str) -> dict[str, Any]:
    address = {"kind": "domain_joined", "rpc_address": f"{server}:4443"}
    return {"server": server, "group": "contoso", "activation_code": CODE, **address, **more}


def test_who_shows_no_certificate_or_a_strangers_is_not_talked_to(pki: Pki, tmp_path: Path) -> None:
    with running(pki.settings(), tmp_path) as cloud:
        for shown in (None, pki.stranger):
            with pytest.raises((URLError, ssl.SSLError, ConnectionError)):
                Caller(cloud, pki.cloud.ca, shown).post(PATH, request_xml(WANTED))
        answer = read_response_untrusted(Caller(cloud, pki.cloud.ca, pki.server).post(PATH, request_xml(WANTED)))
        assert answer.is_authenticated
        handsets = Handsets(cloud.port("handsets"))
        assert handsets.counters()["calls"] == {"alice": 1}, "only the one that was let in has rung"
        with pytest.raises(HTTPError, match="404"):
            Caller(cloud, pki.cloud.ca, pki.server).post("/outbox.json", b"")


def test_only_activated_servers_are_served_where_there_are_activation_codes(pki: Pki, tmp_path: Path) -> None:
    with running(pki.settings(None, CODE), tmp_path) as cloud:
        server = Caller(cloud, pki.cloud.ca, pki.server)
        refused = read_response_untrusted(server.post(PATH, request_xml(WANTED)))
        assert (refused.is_success, refused.error_id) == (False, ErrorId.NOT_ACTIVATED)
        key = server.json("/activation", activation("mfa1"))["license_key"]
        licensed = replace(WANTED, license_key=key)
        assert read_response_untrusted(server.post(PATH, request_xml(licensed))).is_authenticated
        with pytest.raises(HTTPError, match="403"):
            server.json("/activation", activation("mfa2", activation_code="guessed"))
        assert Handsets(cloud.port("handsets")).counters()["calls"] == {"alice": 1}
        assert not [secret for secret in (CODE, key) if secret in cloud.err_path.read_text()]


def test_a_promotion_outlives_a_cloud_that_is_killed_in_the_next_moment(pki: Pki, tmp_path: Path) -> None:
    settings = pki.settings(tmp_path / "groups.json", CODE)
    with running(settings, tmp_path, "before") as cloud:
        server = Caller(cloud, pki.cloud.ca, pki.server)
        keys = [server.json("/activation", activation(name))["license_key"] for name in ("mfa1", "mfa2")]
        server.json("/groups/promotion", {"group": "contoso", "server": "mfa2", "epoch": 2})
        cloud.kill()
    with running(settings, tmp_path, "after") as cloud:
        server = Caller(cloud, pki.cloud.ca, pki.server)
        back = server.json("/activation", activation("mfa1"))
        assert (back["role"], back["epoch"], back["master_rpc"]) == ("slave", 2, "mfa2:4443")
        assert back["license_key"] == keys[0]
        with pytest.raises(HTTPError, match="409"):
            server.json("/groups/promotion", {"group": "contoso", "server": "mfa1", "epoch": 2})


@pytest.mark.parametrize(("shown", "code"), [("server", "Access-Accept"), ("stranger", "Access-Reject")])
def test_an_mfa_server_signs_in_through_a_cloud_that_asks_for_its_certificate(
    pki: Pki, tmp_path: Path, shown: str, code: str
) -> None:
    with running(pki.settings(), tmp_path) as cloud:
        files = pki.server if shown == "server" else pki.stranger
        tls = ClientTls(str(pki.cloud.ca), str(files.cert), str(files.key))
        radius = RadiusSettings(Endpoint(LOOPBACK), "127.0.0.0/8", SECRET)
        users = (User("alice", "password-of-alice", "+1 555 0101", Method.PHONE_CALL),)
        url = f"https://{LOOPBACK}:{cloud.port('http')}"
        account = Account("CONTOSO\\svc-mfa", "a-service-password")
        settings = MfaServerSettings("mfa1", url, Endpoint(LOOPBACK), radius, account, users, cloud_tls=tls)
        with ReferenceService("mfa1", "mfa_server", settings, tmp_path) as server:
            target = Target(LOOPBACK, server.port("radius"), SECRET, timeout_s=20.0)
            (answer,) = send(target, [[("User-Name", "alice"), ("User-Password", "password-of-alice")]])
            assert answer is not None
            assert answer.code == code
