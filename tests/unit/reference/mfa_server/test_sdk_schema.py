from __future__ import annotations

from mfalb.reference.mfa_server.sdk_schema import OPERATIONS

PUBLIC = {"PfAuthUser_4", "TestSecurity", "TestMasterConnection", "OneTimeBypass", "GetUserSettings", "Disable"}


def test_what_is_ours_says_so_and_what_public_code_has_does_not() -> None:
    assert {name for name, operation in OPERATIONS.items() if not operation.note} == PUBLIC


def test_every_operation_answers_with_its_result_first_and_most_with_an_error_last() -> None:
    for name, operation in OPERATIONS.items():
        assert operation.results[0][0] == f"{name}Result"
        assert name == "TestSecurity" or operation.results[-1] == ("error", "tns:Error")
        assert operation.optional <= {argument for argument, _ in operation.arguments}
