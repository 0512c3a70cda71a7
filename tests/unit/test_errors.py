import pickle

import pytest

from mfalb.errors import BackendFailure, ConfigError, MalformedMessage, MfalbError, NoBackend, Problem

ERRORS: list[tuple[MfalbError, str]] = [
    (MalformedMessage("truncated"), "truncated"),
    (BackendFailure("mfa1", "reset", sent=True), "backend mfa1: reset"),
    (NoBackend("sdk", "all_down"), "pool sdk: all_down"),
    (
        ConfigError([Problem("m.yaml", 3, 15, "no such pool"), Problem("m.yaml", 0, 0, "odd", is_error=False)]),
        "m.yaml:3:15: error: no such pool\nm.yaml:0:0: warning: odd",
    ),
]


@pytest.mark.parametrize(("error", "text"), ERRORS)
def test_an_error_says_what_is_wrong_and_is_one_of_ours(error: MfalbError, text: str) -> None:
    assert isinstance(error, MfalbError)
    assert str(error) == text


def test_a_backend_failure_says_whether_anything_was_sent() -> None:
    assert BackendFailure("mfa1", "reset", sent=True).sent
    assert not BackendFailure("mfa1", "connect_refused", sent=False).sent


def test_problems_are_plain_values() -> None:
    problem = Problem("m.yaml", 3, 15, "no such pool")
    assert problem == Problem("m.yaml", 3, 15, "no such pool", is_error=True)
    assert pickle.loads(pickle.dumps(problem)) == problem  # noqa: S301 - our own bytes
