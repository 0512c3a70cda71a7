"""What the Mobile App Web Service takes and answers, in the namespace of PfPaWs.

ActivateNew, ConfirmActivation and TestPfWsSdkConnection are as seen in public code (MFA facts, section 5.2).
PushAnswer is a stand-in of our own naming: the real app answers pushes at an address that the push names, in a protocol
of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mfalb.reference.asmx import Answer, Content

NAMESPACE: Final = "http://www.phonefactor.com/PfPaWs"
OPERATIONS: Final = ("ActivateNew", "ConfirmActivation", "PushAnswer", "TestPfWsSdkConnection")

# Error codes: 0 is "no error"; 1 to 4 are the levels at which the SDK fails, in support's order. The others are ours.
Error = tuple[int, str]
NO_ERROR: Final = (0, "")
CODE_REFUSED: Final = (5, "The activation code was not accepted.")
NOT_KNOWN: Final = (6, "The confirmation code is not known to this server.")
NOT_APPROVED: Final = (7, "The test notification was not approved.")
NO_MASTER: Final = (8, "The device cannot be activated now: the master server is not available.")
BAD_CALL: Final = (9, "An argument is missing or makes no sense.")


def result(method: str, *, is_good: bool, error: Error, inside: Mapping[str, str] | None = None) -> Answer:
    """The elements of an answer; `inside` are the texts of activationInfo."""
    code, description = error
    info: dict[str, Content] = {} if inside is None else {"activationInfo": inside}
    return {f"{method}Result": is_good, **info, "error": {"Code": code, "Description": description}}
