from __future__ import annotations

from mfalb.reference.mfa_server import failures
from mfalb.reference.mfa_server.failures import Failure
from mfalb.reference.sdk_client import answers


def every() -> dict[str, Failure]:
    return {name: value for name, value in vars(failures).items() if isinstance(value, Failure)}


def test_no_two_failures_have_one_code_and_none_is_without_words() -> None:
    codes = [failure.code for failure in every().values()]
    assert sorted(codes) == list(range(len(codes)))
    assert [name for name, failure in every().items() if not failure.text] == ["NO_ERROR"]


def test_callers_know_which_codes_mean_that_nothing_can_be_asked_or_changed_now() -> None:
    """Callers meet the servers over the wire only, and so have numbers of their own."""
    assert {failures.SERVICE_UNAVAILABLE.code, failures.NOT_ACTIVATED.code} == answers.NOT_SERVING
    assert {failures.NO_MASTER.code, failures.DIVERGENT.code} == answers.NO_MASTER
