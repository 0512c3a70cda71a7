from __future__ import annotations

from mfalb.reference.mfa_server.failures import NO_MASTER
from mfalb.reference.mfa_server.sdk_answers import error


def test_an_error_is_its_code_and_its_words() -> None:
    assert error(NO_MASTER) == {"Code": 4, "Description": "The master server cannot be reached."}
