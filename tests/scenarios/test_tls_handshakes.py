"""Whoever begins a handshake and says nothing more is let go in time, with and without a PROXY header before it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from programs.balancer import Balancer
from programs.certificates import CertificateFiles
from programs.http_backend import OK, RawBackend, answering
from programs.http_pool import Front, http_pool, new_front
from programs.ports import LOOPBACK
from unit.wire.client_hellos import from_openssl

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n"
LIMITS = {"handshake_timeout": "500ms", "header_timeout": "5s"}


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory, certificate: CertificateFiles) -> Iterator[dict[str, Front]]:
    direct, proxied = new_front(certificate), new_front(certificate)
    behind = {"proxy_protocol": {"from": [f"{LOOPBACK}/32"]}}
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(answering(OK)))
        config = {
            "listeners": [
                direct.listener("direct", [{"pool": "web"}], limits=LIMITS),
                proxied.listener("proxied", [{"pool": "web"}], limits=LIMITS, **behind),
            ],
            "pools": {"web": http_pool(backend.address)},
        }
        stack.enter_context(Balancer(config, tmp_path_factory.mktemp("handshakes")))
        yield {"direct": direct, "proxied": proxied}


@pytest.mark.parametrize("listener", ["direct", "proxied"])
@pytest.mark.parametrize("said", [b"", from_openssl(None)[:20], from_openssl(None)], ids=["nothing", "a part", "hello"])
def test_a_handshake_that_does_not_go_on_ends_in_time(fronts: dict[str, Front], listener: str, said: bytes) -> None:
    opening = HEADER if listener == "proxied" else b""
    with socket.create_connection((LOOPBACK, fronts[listener].port), timeout=10) as client:
        begun_at = time.monotonic()
        client.sendall(opening + said)
        try:
            while client.recv(65_536):
                pass
        except ConnectionResetError:
            pass  # an end, too
        assert 0.4 < time.monotonic() - begun_at < 4
    if listener == "direct":
        assert fronts[listener].get("/") == (200, b"ok")
