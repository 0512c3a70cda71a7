"""What the Web Service SDK answers with: the codes that callers see."""

from __future__ import annotations

from typing import Final

from mfalb.reference.asmx import Content
from mfalb.reference.mfa_server.failures import Failure

NAMESPACE: Final = "http://www.phonefactor.com/PfWsSdk"  # by analogy with the sister service; the real one is not known

# CallResult codes. The real numeric table is not public; these are ours.
CALL_ANSWERED: Final = 1
CALL_NOT_ANSWERED: Final = 2
NOT_ATTEMPTED: Final = 0
TEXT_SENT: Final = 5


def error(failure: Failure) -> dict[str, Content]:
    """The `error` element's content."""
    return {"Code": failure.code, "Description": failure.text}
