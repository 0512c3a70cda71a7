"""What a pool says of balancing has to make sense for its algorithm, its protocol and its backends."""

import pytest
from unit.balancer.config.config_folder import Folder
from unit.balancer.config.radius_services import ALL

WEB = """\
listeners:
  - {name: web, protocol: http, bind: ["127.0.0.1:8080"], routes: [{pool: web}]}
pools:
  web:
    health_check: {type: http}
    backends:
      - {name: a, address: "10.0.0.1:80"MORE_A}
      - {name: b, address: "10.0.0.2:80"MORE_B}
    MORE
"""
RADIUS = """\
listeners:
  - name: r
    protocol: radius
    bind: ["127.0.0.1:1812"]
    clients: [{name: c, network: 10.0.0.0/8, secret_env: SECRET}]
    pool: r
pools:
  r:
    backends: [{name: a, address: "10.0.0.1:1812", secret_env: SECRET, require_message_authenticator: true}]
    health_check: {type: radius}
    affinity: {preset: radius_challenge}
    MORE
"""
HTTP_KEYS = "source, header, cookie, path, query"
RADIUS_KEYS = "user_name, calling_station_id, client"


def web(more: str = "", *, a: str = "", b: str = "") -> str:
    return WEB.replace("MORE_A", a).replace("MORE_B", b).replace("MORE", more)


def radius(more: str) -> str:
    return RADIUS.replace("MORE", more)


@pytest.fixture(autouse=True)
def secrets(folder: Folder) -> None:
    folder.environment["SECRET"] = "s" * 16
    folder.write("keys", "A" * 43 + "=")


@pytest.mark.parametrize(
    "text",
    [
        web(),
        web("algorithm: least_connections\n    slow_start: 30s\n    panic_threshold: 0.5", b=", backup: true"),
        web("algorithm: power_of_two\n    panic_threshold: 1", b=", weight: 0"),
        *(web(f"algorithm: hash\n    hash: {{key: {key}}}") for key in ("source", "path")),
        *(web(f"algorithm: hash\n    hash: {{key: {key}, name: X-Id}}") for key in ("header", "cookie", "query")),
        *(radius(f"algorithm: hash\n    hash: {{key: {key}, load_factor: 2}}") for key in RADIUS_KEYS.split(", ")),
    ],
)
def test_what_makes_sense_has_no_findings(folder: Folder, text: str) -> None:
    assert folder.findings(text) == []


@pytest.mark.parametrize(
    ("marked", "message"),
    [
        (
            web(a=", »backup: true", b=", backup: true"),
            "backup: all backends of pool 'web' are, but of whom? Remove it from one",
        ),
        (
            web(a=", backup: true", b=", weight: »0"),
            (
                "weight: none but backups would take new work in pool 'web', since 0 is for pinned work only; write 1 "
                "or more at one"
            ),
        ),
        (
            web(a=", weight: »0", b=", weight: 0"),
            (
                "weight: none but backups would take new work in pool 'web', since 0 is for pinned work only; write 1 "
                "or more at one"
            ),
        ),
        (
            web("algorithm: »hash"),
            f"algorithm: hash needs to know of what; add hash: {{key: one of {HTTP_KEYS}}}",
        ),
        (
            radius("algorithm: »hash"),
            f"algorithm: hash needs to know of what; add hash: {{key: one of {RADIUS_KEYS}}}",
        ),
        (
            web("»hash: {key: source}"),
            "hash: round_robin makes none; write algorithm: hash, or remove it",
        ),
        (
            web("algorithm: hash\n    hash: {key: »user_name}"),
            f"key: pool 'web' takes HTTP, which has no user_name; write one of {HTTP_KEYS}",
        ),
        (
            web("algorithm: hash\n    hash: {key: »path}").replace("protocol: http", "protocol: tcp"),
            "key: pool 'web' takes TCP, which has no path; write source",
        ),
        (
            radius("algorithm: hash\n    hash: {key: »cookie, name: sid}"),
            f"key: pool 'r' takes RADIUS, which has no cookie; write one of {RADIUS_KEYS}",
        ),
        (
            web(
                "algorithm: hash\n    hash: {key: cookie, name: »mfalb}\n    affinity: {type: cookie}\n"
                "pins: {cookie_keys_file: keys}"
            ),
            (
                "name: 'mfalb' is the balancer's own cookie, which names a backend already; choose another or remove "
                "'hash'"
            ),
        ),
        (
            web("algorithm: hash\n    hash: {key: source}\n    »slow_start: 10s"),
            "slow_start: with algorithm hash each step would move keys from server to server; remove it",
        ),
        (
            web("»panic_threshold: 0.5").replace("    health_check: {type: http}\n", ""),
            (
                "panic_threshold: pool 'web' has no health check, so nobody is ever down in it; remove it or add a "
                "health_check"
            ),
        ),
    ],
)
def test_what_makes_no_sense_is_an_error_where_it_stands(folder: Folder, marked: str, message: str) -> None:
    before, _, after = marked.partition("»")
    position = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    errors = [finding for finding in folder.findings(before + after) if " error: " in finding]
    assert errors == [f"{position}: error: {message}"]


def test_a_slow_start_that_no_check_will_ever_begin_is_warned_of(folder: Folder) -> None:
    text = web("slow_start: 10s").replace("    health_check: {type: http}\n", "")
    warning = "warning: slow_start: pool 'web' has no health check, so nobody is ever seen to come up in it"
    assert f"8:5: {warning}" in folder.findings(text)
    assert folder.findings(web("slow_start: 10s")) == []


@pytest.mark.parametrize(
    "more", ["algorithm: round_robin", "hash: {key: client}", "slow_start: 10s", "panic_threshold: 0.5"]
)
def test_nothing_is_balanced_in_a_pool_of_nases(folder: Folder, more: str) -> None:
    assert ALL.endswith("\n")
    key = more.partition(":")[0]
    folder.expect(f"{ALL}    »{more}\n", f"error: {key}: a request names its NAS, and nothing is balanced; remove it")


def test_no_nas_is_the_backup_of_another(folder: Folder) -> None:
    nas = 'address: "10.0.5.1:3799", '
    assert nas in ALL
    folder.expect(
        ALL.replace(nas, f"{nas}»backup: true, "),
        "error: backup: a request names its NAS, and nothing is balanced; remove it",
    )
