"""Promise: what vendors hide with the shared secret arrives readable, although client's and server's secrets differ.

FreeRADIUS hides it, radclient reveals it, and neither knows of the balancer between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.freeradius import FreeRadius, attribute_server
from programs.ports import LOOPBACK
from programs.process import wait_until
from programs.radclient import Answer, Target, send
from programs.radius_pool import RadiusPool, radius_pool

HIDDEN = {
    "Tunnel-Password:1": '"a tunnel of the first tag"',
    "Tunnel-Password:2": '"a tunnel"',
    "MS-CHAP-MPPE-Keys": "0x" + bytes(range(24)).hex(),
    "MS-MPPE-Send-Key": "0x" + bytes(range(32)).hex(),
    "MS-MPPE-Recv-Key": "0x" + bytes(range(32, 64)).hex(),
    "Aruba-MPSK-Passphrase": "0x" + b"a pass phrase of a station".hex(),
    "LCS-IKEv2-Local-Password:0": '"lancom local"',
    "LCS-IKEv2-Remote-Password:3": '"lancom remote"',
    "ERX-LI-Action": "on",
    "ERX-Med-Ip-Address": "192.0.2.7",
    "Alc-APN-Password": '"the password of an access point"',
    "ALU-AAA-Key-2": "0x" + bytes(range(16)).hex(),
    "3GPP2-MN-HA-Shared-Key": '"shared by the home agent"',
    "Motorola-WiMAX-MIP-KEY": '"mobile ip"',
    "Extreme-Libsip-Patron-Info": "0x" + b"patron".hex(),
    "WiMAX-MSK": "0x" + bytes(range(64)).hex(),
    "WiMAX-hDHCP-DHCP-RK": '"nested in another attribute"',
    "Ascend-Send-Secret": '"ascend secret 16"',
    "Lucent-Receive-Secret": '"lucent secret 16"',
}
CLEAR = {
    "Class": "0x" + b"left alone".hex(),
    "Cisco-AVPair": '"shell:priv-lvl=15"',
    "WiMAX-BS-Location": "0x0102",
    "Reply-Message": '"welcome"',
}
UNHANDLED = ("X-Ascend-Send-Secret", "X-Ascend-Receive-Secret")
CASES = {
    "all": "\n".join(f"&reply:{name} += {value}" for name, value in (HIDDEN | CLEAR).items()),
    "one unhandled": f'&reply:{UNHANDLED[0]} := "old ascend secret"',
    "two unhandled": "\n".join(f'&reply:{name} := "old ascend secret"' for name in UNHANDLED),
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FreeRadius]:
    cases = {case: f"update {{\n{assignments}\n}}" for case, assignments in CASES.items()}
    with attribute_server("vendors", tmp_path, "towards-the-server-0", cases) as running:
        yield running


@pytest.fixture
def pool(server: FreeRadius, tmp_path: Path) -> RadiusPool:
    return radius_pool([server], tmp_path)


@pytest.fixture
def balancer(pool: RadiusPool, tmp_path: Path) -> Iterator[Balancer]:
    hidden = tuple(value.strip('"') for value in HIDDEN.values() if len(value) > len("192.0.2.7"))
    with Balancer(pool.config, tmp_path / "mfalb", secrets=(*pool.secrets, *hidden)) as running:
        yield running


def accepted(port: int, secret: str, case: str) -> Answer:
    request = [("User-Name", "alice"), ("User-Password", "any"), ("NAS-Identifier", case)]
    (answer,) = send(Target(LOOPBACK, port, secret), [request])
    assert answer is not None
    assert answer.code == "Access-Accept"
    return answer


def test_b7_what_every_vendor_hides_reads_the_same_through_the_balancer_as_from_the_server(
    balancer: Balancer, pool: RadiusPool, server: FreeRadius
) -> None:
    assert pool.client_secret != server.secret
    direct = accepted(server.port, server.secret, "all").attributes
    through = accepted(pool.port, pool.client_secret, "all").attributes
    expected = {name: value.strip('"') for name, value in (HIDDEN | CLEAR).items()}
    assert {name: direct.get(name) for name in expected} == expected, "what the server itself says"
    assert {name: through.get(name) for name in expected} == expected
    assert balancer.metrics().total("mfalb_listener_answers_total", answer="accept") == 1


def test_what_is_known_and_not_handled_is_counted_each_time_and_logged_once(
    balancer: Balancer, pool: RadiusPool
) -> None:
    for _ in range(3):
        accepted(pool.port, pool.client_secret, "one unhandled")
    wait_until(lambda: UNHANDLED[0] in balancer.log(), "the first attribute in the log")
    accepted(pool.port, pool.client_secret, "two unhandled")
    wait_until(lambda: UNHANDLED[1] in balancer.log(), "the second attribute in the log")
    assert [balancer.log().count(name) for name in UNHANDLED] == [1, 1]
    metrics, name = balancer.metrics(), "mfalb_radius_unhandled_hidden_attributes_total"
    assert [metrics.total(name, listener="radius", attribute=attribute) for attribute in UNHANDLED] == [4, 1]
