import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.balancer.config.config_folder import LISTENERS, Folder

from mfalb.balancer.config.health_models import (
    CheckMethod,
    CheckTiming,
    ExpectedHeader,
    Failure,
    HttpCheck,
    PassiveCheck,
    SdkCheck,
)

BACKENDS = "{name: a, address: '10.0.0.1:80'}, {name: b, address: '10.0.0.2:80'}"
HEAD = f"{LISTENERS}pools:\n  web:\n    backends: [{BACKENDS}]\n"
OURS = "is written by the check itself; remove it (for a Host write 'host')"
NO_NAMESPACE = "is no namespace; write a URI of 1 to 200 characters"


def test_all_of_an_http_check_is_read(folder: Folder) -> None:
    folder.write("question.json", "{}")
    folder.environment["P"] = "pw"
    text = (
        "    health_check: {type: http, method: POST, path: /x, host: mfa.contoso.com, headers: {X-Probe: a b}, "
        "body_file: question.json, expect_status: [200, 204], expect_header: {name: X-Ready, value: 'yes'}, "
        "expect_body: ok, body_limit: 1KiB, user: probe, password_env: P, interval: 9s, fast_interval: 1s, "
        "down_interval: 20s, timeout: 2s, rise: 1, fall: 2}\n    upstream_tls: {}\n"
    )
    config, findings = folder.read(HEAD + text)
    assert findings == []
    assert config is not None
    check = config.pools["web"].health_check
    assert isinstance(check, HttpCheck)
    assert (check.method, check.headers) == (CheckMethod.POST, {"X-Probe": "a b"})
    assert check.body_file == folder.path / "question.json"
    assert check.expect_header == ExpectedHeader(name="X-Ready", value="yes")
    assert (check.user, check.password and check.password.reveal()) == ("probe", b"pw")
    assert (check.interval_s, check.fast_interval_s, check.down_interval_s, check.body_limit) == (9, 1, 20, 1024)


def test_an_sdk_check_and_a_passive_check_need_no_more_than_their_type(folder: Folder) -> None:
    config, findings = folder.read(HEAD + "    health_check: {type: sdk}\n    passive_check: {}\n")
    assert findings == []
    assert config is not None
    check, passive = config.pools["web"].health_check, config.pools["web"].passive_check
    assert isinstance(check, SdkCheck)
    assert check.check_master
    assert check.path == "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
    assert passive == PassiveCheck()
    assert passive is not None
    assert (passive.consecutive_failures, passive.failures, passive.failure_status) == (
        5,
        (Failure.REFUSED, Failure.RESET, Failure.TIMEOUT, Failure.GARBAGE),
        (502, 503, 504),
    )


CASES = {
    "health_check: {type: http, method: »PUT}": "method: 'PUT' is not one of GET, HEAD, OPTIONS, POST",
    "health_check: {type: http, headers: {»Host: a}}": f"'Host' {OURS}",
    "health_check: {type: http, headers: {»content-Length: '3'}}": f"'content-Length' {OURS}",
    "health_check: {type: http, headers: {»authorization: Basic eDp5}}": (
        "Authorization is a secret, which has no place here; write 'user' and 'password_file'"
    ),
    "health_check: {type: http, headers: {»'X Y': a}}": (
        "'X Y' names no header; use 1 to 64 letters, digits, '_' or '-'"
    ),
    'health_check: {type: http, headers: {X: »"a\\r\\nY: b"}}': (
        "X: 'a\\r\\nY: b' is no header's value; use printable ASCII without blanks at its ends"
    ),
    "health_check: »{type: http, body_file: x}": (
        "health_check: body_file: GET has no body; write method: POST, or remove it"
    ),
    "health_check: »{type: http, method: HEAD, expect_body: x}": (
        "health_check: expect_body: an answer to HEAD has no body; write another method, or remove it"
    ),
    "health_check: {type: http, expect_body: »''}": "expect_body: may not be empty",
    "health_check: {type: http, body_limit: »2MiB}": "body_limit: 2MiB is more than a check needs; write at most 1MiB",
    "health_check: {type: sdk, namespace: »'a b'}": f"namespace: 'a b' {NO_NAMESPACE}",
    "health_check: {type: sdk, namespace: »'a\"b'}": f"namespace: 'a\"b' {NO_NAMESPACE}",
    "health_check: »{type: sdk, user: probe}": ("health_check: user: 'probe' needs 'password_file' or 'password_env'"),
    "health_check: »{type: sdk, password_env: P}": (
        "health_check: a password without 'user' is nobody's; write whose it is"
    ),
    "health_check: {type: sdk, user: »'a:b', password_env: P}": (
        "user: 'a:b' is no user name; HTTP Basic takes printable ones without ':'"
    ),
    "upstream_tls: {}\n    health_check: {type: sdk, user: a, password: »geheim}": (
        "password: a secret does not stand in this file; write 'password_file: path' or 'password_env: NAME'"
    ),
    "health_check: »{type: tcp, interval: 2s, fast_interval: 3s}": (
        "health_check: fast_interval is longer than interval"
    ),
    "passive_check: {failures: [»slow]}": "failures: 'slow' is not one of refused, reset, timeout, garbage",
    "passive_check: »{failures: [], failure_status: []}": (
        "passive_check: nothing counts: write 'failures' or 'failure_status'"
    ),
    "passive_check: »{ejection_time: 10m}": "passive_check: ejection_time is longer than max_ejection_time",
    "passive_check: {failure_status: [»404]}": "failure_status: must be at least 500, not 404",
}


@pytest.mark.parametrize("written", CASES)
def test_what_makes_no_sense_is_named_where_it_stands(folder: Folder, written: str) -> None:
    folder.environment["P"] = "pw"
    folder.expect(f"{HEAD}    {written}\n", f"error: {CASES[written]}")


def test_a_short_password_is_no_radius_secret_that_could_be_guessed(folder: Folder) -> None:
    folder.environment["P"] = "pw"
    text = "    upstream_tls: {}\n    health_check: {type: sdk, user: probe, password_env: P}\n"
    assert folder.findings(HEAD + text) == []


@given(st.floats(0.001, 1), st.integers(1, 50))
@settings(max_examples=200)
def test_the_limit_of_ejections_is_a_part_of_the_pool_and_never_all_of_it(limit: float, backends: int) -> None:
    most = PassiveCheck(ejection_limit=limit).most_ejected(backends)
    assert 0 <= most < backends
    assert most <= limit * backends + 1e-6


@pytest.mark.parametrize(
    ("limit", "backends", "most"),
    [(0.5, 1, 0), (0.5, 2, 1), (0.5, 3, 1), (0.5, 4, 2), (1.0, 4, 3), (0.1, 9, 0), (0.1, 10, 1), (0.29, 100, 29)],
)
def test_the_limit_of_ejections_is_rounded_down(limit: float, backends: int, most: int) -> None:
    assert PassiveCheck(ejection_limit=limit).most_ejected(backends) == most


def test_a_check_may_be_fast_only_where_it_is_faster() -> None:
    assert CheckTiming(interval_s=5, fast_interval_s=5).fast_interval_s == 5
