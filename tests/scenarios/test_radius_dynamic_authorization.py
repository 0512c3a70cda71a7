"""Promise: what a server asks of a session reaches the NAS that holds it, or the server is told at once why not.

The servers that ask are radclient, the NASes are made of pyrad; both discard what is not signed right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.ports import LOOPBACK, free_udp_port
from programs.pyrad_nas import PyradNas
from programs.radclient import Answer, Target, send
from programs.radius_services import CLIENT_SECRET, Services
from pyrad.packet import CoARequest, DisconnectRequest

from mfalb.wire import radius

GATE1 = ("NAS-IP-Address", "10.0.5.1")
GATE2 = ("NAS-Identifier", "gate2")
GONE = ("NAS-Identifier", "gone")
BUSY = ("NAS-Identifier", "busy")


@dataclass
class Site:
    """Three NASes behind the balancer, and one whose port nobody listens at."""

    balancer: Balancer
    port: int
    gate1: PyradNas
    gate2: PyradNas
    busy: PyradNas

    def ask(self, kind: str, *attributes: tuple[str, str], secret: str = CLIENT_SECRET) -> Answer | None:
        target = Target(LOOPBACK, self.port, secret, timeout_s=2, tries=1)
        (answer,) = send(target, [attributes], kind=kind)
        return answer

    def answers(self, answer: str) -> float:
        return self.balancer.metrics().total("mfalb_listener_answers_total", answer=answer)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Services(tmp_path)
    with ExitStack() as running:
        gate1, gate2, busy = (
            running.enter_context(PyradNas(name, f"towards-{name}-0123456789", cause))
            for name, cause in (("gate1", None), ("gate2", None), ("busy", 506))
        )
        called: dict[str, dict[str, object]] = {
            "gate1": {"addresses": ["10.0.5.1", "2001:db8::1"]},
            "gate2": {"identifiers": ["gate2"], "addresses": ["10.0.5.2"]},
            "busy": {"identifiers": ["busy"]},
        }
        backends = [
            {"name": nas.name, "address": nas.address, "secret": nas.secret, "nas": called[nas.name]}
            for nas in (gate1, gate2, busy)
        ]
        gone = {"name": "gone", "address": f"{LOOPBACK}:{free_udp_port()}", "secret": "towards-gone-0123456789"}
        made.add("dynamic_authorization", [*backends, gone | {"nas": {"identifiers": ["gone"]}}], {}, client="server")
        balancer = running.enter_context(Balancer(made.config, tmp_path / "mfalb", secrets=made.secrets))
        yield Site(balancer, made.ports["dynamic_authorization"], gate1, gate2, busy)


@pytest.mark.parametrize(
    ("kind", "code", "ack"),
    [("coa", CoARequest, "CoA-ACK"), ("disconnect", DisconnectRequest, "Disconnect-ACK")],
)
def test_f1_a_request_reaches_the_nas_it_names_with_every_attribute_and_its_answer_comes_back(
    site: Site, kind: str, code: int, ack: str
) -> None:
    more = (
        ("Proxy-State", "first"),
        ("State", "a state"),
        ("Class", "a class"),
        ("Cisco-AVPair", "subscriber:command=reauthenticate"),
        ("Proxy-State", "second"),
    )
    answers = [site.ask(kind, ("User-Name", "alice"), nas, *more) for nas in (GATE1, GATE2)]
    assert [answer.code if answer else None for answer in answers] == [ack, ack]
    for nas in (site.gate1, site.gate2):
        (request,) = nas.requests
        assert request.code == code
        assert nas.refused == 0
        attributes = radius.read_untrusted(request.raw_packet).attributes()
        assert [kind for kind, _ in attributes] == [80, 1, 4 if nas is site.gate1 else 32, 33, 24, 25, 26, 33]
        passing = [value for kind, value in attributes if kind in {24, 25, 33}]
        assert passing == [b"first", b"a state", b"a class", b"second"]
    assert site.busy.requests == []
    assert site.answers("ack") == 2
    proxy_states = [value for name, value in answers[0].pairs if name == "Proxy-State"] if answers[0] else []
    assert proxy_states == ["0x6669727374", "0x7365636f6e64"]


def test_f1_the_no_of_a_nas_comes_back_with_its_reason(site: Site) -> None:
    answer = site.ask("coa", BUSY)
    assert answer is not None
    assert (answer.code, answer.attributes["Error-Cause"]) == ("CoA-NAK", "Resources-Unavailable")
    assert (site.answers("nak"), len(site.busy.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("named", "cause"),
    [
        ([], "Missing-Attribute"),
        ([GATE1, ("NAS-Identifier", "gate2")], "NAS-Identification-Mismatch"),
        ([("NAS-IPv6-Address", "2001:db8::2"), GATE1], "NAS-Identification-Mismatch"),
        ([("NAS-Identifier", "gate9")], "Proxy-Request-Not-Routable"),
        ([GONE], "Proxy-Processing-Error"),
    ],
)
@pytest.mark.parametrize(("kind", "nak"), [("coa", "CoA-NAK"), ("disconnect", "Disconnect-NAK")])
def test_f1_what_cannot_reach_a_nas_is_refused_at_once_and_says_why(
    site: Site, kind: str, nak: str, named: list[tuple[str, str]], cause: str
) -> None:
    answer = site.ask(kind, ("User-Name", "alice"), ("Proxy-State", "mine"), *named)
    assert answer is not None
    assert answer.code == nak
    assert answer.attributes["Error-Cause"] == cause
    assert answer.attributes["Proxy-State"] == "0x6d696e65"
    assert site.answers("not_routed") == 1
    assert [nas.requests for nas in (site.gate1, site.gate2, site.busy)] == [[], [], []]


def test_a8_a_request_signed_with_another_secret_is_met_with_silence(site: Site) -> None:
    assert site.ask("disconnect", GATE1, secret="nobody's secret") is None
    assert site.gate1.requests == []
    drops = site.balancer.metrics().total("mfalb_listener_drops_total", reason="bad_request_authenticator")
    assert drops == 1


def test_b7_a_password_that_freeradius_hid_is_hidden_anew_for_the_nas(site: Site) -> None:
    """radclient hides it in a CoA-Request, pyrad reveals it; mfalb is between, with another secret on each side."""
    answer = site.ask("coa", GATE1, ("Tunnel-Password:1", "open sesame"))
    assert answer is not None
    (request,) = site.gate1.requests
    value = radius.read_untrusted(request.raw_packet).first(radius.TUNNEL_PASSWORD) or b""
    assert value[:1] == b"\1"
    assert request.SaltDecrypt(value[1:]) == b"open sesame"
