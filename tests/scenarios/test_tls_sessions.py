"""A TLS session is resumed under whatever name it began, by whatever process has the ticket key. Asked by OpenSSL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from programs.balancer import Balancer
from programs.certificates import Authority, CertificateFiles
from programs.http_backend import OK, RawBackend, answering
from programs.http_pool import Front, http_pool, new_front
from programs.process import wait_until
from programs.tls_clients import SClient

VERSIONS = ["-tls1_2", "-tls1_3"]
NAMES = ["www.example.test", "portal.example.test", "unknown.example.test"]


@dataclass(frozen=True)
class Nodes:
    """Two balancers with one ticket key, and one that has none; each with two certificates for two names."""

    fronts: tuple[Front, Front, Front]
    balancers: tuple[Balancer, ...]
    client: SClient
    ticket_key: Path
    run_dir: Path

    def session(self, name: str) -> Path:
        return self.run_dir / f"session-{name}"


def pair(files: CertificateFiles) -> dict[str, str]:
    return {"cert": str(files.cert), "key": str(files.key)}


def config(front: Front, backend: str, tls: dict[str, Any]) -> dict[str, Any]:
    listener = front.listener("web", [{"pool": "web"}]) | {"tls": tls}
    return {
        "listeners": [listener],
        "pools": {"web": http_pool(backend)},
        "tls": {"file_check_interval": "250ms"},
    }


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    run_dir = tmp_path_factory.mktemp("sessions")
    authority = Authority(run_dir / "ca")
    www, portal = (authority.issue(name, name, name) for name in NAMES[:2])
    ticket_key = run_dir / "ticket.key"
    ticket_key.touch(mode=0o600)
    ticket_key.write_bytes(os.urandom(48))
    one, two, alone = (new_front(www) for _ in range(3))
    tls = {"certificates": [pair(www), pair(portal)]}
    shared = {**tls, "ticket_key": str(ticket_key)}
    with ExitStack() as stack:
        backend = stack.enter_context(RawBackend(answering(OK)))
        running = tuple(
            stack.enter_context(Balancer(config(front, backend.address, settings), run_dir / f"mfalb{front.port}"))
            for front, settings in ((one, shared), (two, shared), (alone, tls))
        )
        yield Nodes((one, two, alone), running, SClient(authority.ca), ticket_key, run_dir)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_a_session_is_resumed_whichever_certificate_it_began_with(nodes: Nodes, version: str, name: str) -> None:
    for front in nodes.fronts:
        options = (version, "-servername", name)
        first = nodes.client.begin(front.port, nodes.session("one"), *options)
        assert not first.is_resumed
        assert first.subject == f"CN = {name if name in NAMES[:2] else NAMES[0]}"
        again = nodes.client.resume(front.port, nodes.session("one"), *options)
        assert again.is_resumed
        assert again.is_answered, again.text


@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_is_resumed_by_another_process_with_the_key_only(nodes: Nodes, version: str) -> None:
    one, two, alone = nodes.fronts
    options = (version, "-servername", NAMES[1])
    nodes.client.begin(one.port, nodes.session("two"), *options)
    for front, is_resumed in ((two, True), (alone, False), (one, True)):
        shown = nodes.client.resume(front.port, nodes.session("two"), *options)
        assert shown.is_resumed is is_resumed
        assert shown.is_answered, shown.text


def test_a_new_ticket_key_is_taken_up_by_all_who_have_the_file(nodes: Nodes) -> None:
    one, two, _ = nodes.fronts
    nodes.client.begin(one.port, nodes.session("old"), "-servername", NAMES[0])
    before = [balancer.metrics().total("mfalb_tls_reloads_total", result="ok") for balancer in nodes.balancers[:2]]
    nodes.ticket_key.write_bytes(os.urandom(48))
    for balancer, count in zip(nodes.balancers, before, strict=False):
        wait_until(
            lambda balancer=balancer, count=count: (  # type: ignore[misc] # binds those of this turn
                balancer.metrics().total("mfalb_tls_reloads_total", result="ok") > count
            ),
            "the new key",
        )
    assert not nodes.client.resume(two.port, nodes.session("old"), "-servername", NAMES[0]).is_resumed
    nodes.client.begin(one.port, nodes.session("new"), "-servername", NAMES[0])
    assert nodes.client.resume(two.port, nodes.session("new"), "-servername", NAMES[0]).is_resumed


def test_neither_the_key_nor_what_is_made_from_it_is_in_the_log(nodes: Nodes) -> None:
    for balancer in nodes.balancers:
        assert nodes.ticket_key.read_bytes().hex() not in balancer.log()
        assert "resumed by the process only" not in balancer.log(), "this Python's OpenSSL can be given keys"
