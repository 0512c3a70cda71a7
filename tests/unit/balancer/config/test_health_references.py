from __future__ import annotations

import pytest
from unit.balancer.config.config_folder import LISTENERS, Folder

BACKENDS = "{name: a, address: '10.0.0.1:80'}, {name: b, address: '10.0.0.2:80'}"
WEB = f"{LISTENERS}pools:\n  web:\n    backends: [{BACKENDS}]\n"
RADIUS = """\
listeners:
  - name: r
    protocol: radius
    bind: ["127.0.0.1:1812"]
    clients: [{name: c, network: 10.0.0.0/8, secret_env: S}]
    pool: r
pools:
  r:
    backends: [{name: a, address: "10.0.0.1:1812", secret_env: S, require_message_authenticator: true}]
    affinity: {preset: radius_challenge}
"""


@pytest.fixture(autouse=True)
def secrets(folder: Folder) -> None:
    folder.environment.update(S="s" * 16, P="geheim")


def test_a_body_that_cannot_be_read_is_an_error(folder: Folder) -> None:
    missing = folder.path / "gone.json"
    folder.expect(
        WEB + "    health_check: {type: http, method: POST, body_file: »gone.json}\n",
        f"error: body_file: cannot read '{missing}': no such file or directory",
    )


@pytest.mark.parametrize("kind", ["http", "sdk"])
def test_a_password_that_travels_in_clear_is_a_warning(folder: Folder, kind: str) -> None:
    check = f"    health_check: {{type: {kind}, user: »probe, password_env: P}}\n"
    folder.expect(
        WEB + check,
        "warning: user: pool 'web' has no upstream_tls, so the password of 'probe' can be read on its way to the "
        "servers",
    )
    assert folder.findings(WEB + check.replace("»", "") + "    upstream_tls: {}\n") == []


@pytest.mark.parametrize("kind", ["http", "sdk"])
def test_radius_is_checked_by_neither_http_nor_sdk(folder: Folder, kind: str) -> None:
    folder.expect(
        RADIUS + f"    health_check: {{type: »{kind}}}\n",
        f"error: type: pool 'r' takes RADIUS, which {kind} cannot check; write radius",
    )


def test_passive_checks_are_for_http_and_tcp(folder: Folder) -> None:
    folder.expect(
        RADIUS + "    health_check: {type: radius}\n    »passive_check: {}\n",
        "error: passive_check: pool 'r' takes RADIUS, where the health_check of type radius looks at the traffic "
        "itself; remove it",
    )


@pytest.mark.parametrize(
    ("backends", "rule", "whom"),
    [
        ("{name: a, address: '10.0.0.1:80'}", "{}", "its only backend"),
        (
            BACKENDS,
            "{ejection_limit: 0.4}",
            "any of its 2 backends",
        ),
    ],
)
def test_a_rule_that_never_ejects_anybody_is_a_warning(folder: Folder, backends: str, rule: str, whom: str) -> None:
    folder.expect(
        f"{LISTENERS}pools:\n  web:\n    backends: [{backends}]\n    »passive_check: {rule}\n",
        f"warning: passive_check: within its limits pool 'web' never ejects {whom}",
    )


def test_a_pool_whose_traffic_is_watched_needs_no_probes(folder: Folder) -> None:
    assert folder.findings(WEB + "    passive_check: {}\n    slow_start: 10s\n    panic_threshold: 0.5\n") == []
    assert len(folder.findings(WEB)) == 1
