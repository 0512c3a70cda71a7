"""Why an MFA Server did not do what it was asked: each reason once, with the code and the words that callers see."""

from __future__ import annotations

from typing import Final, NamedTuple


class Failure(NamedTuple):
    """The `error` of an answer: a code, and a text without secrets."""

    code: int
    text: str


# 0 is "no error" in the sister service. The real numbers of all others are not public; these are ours.
NO_ERROR: Final = Failure(0, "")
UNKNOWN_USER: Final = Failure(1, "The user is not known.")
SERVICE_UNAVAILABLE: Final = Failure(2, "The multi-factor authentication service is not available.")
CODE_REFUSED: Final = Failure(3, "The code was not accepted.")
NO_MASTER: Final = Failure(4, "The master server cannot be reached.")
KNOWN_USER: Final = Failure(5, "The user is known already.")
PIN_REFUSED: Final = Failure(6, "The user PIN was not accepted.")
ACTIVATION_REFUSED: Final = Failure(7, "The activation or confirmation code was not accepted.")
BAD_ARGUMENT: Final = Failure(8, "An argument is missing or makes no sense.")
TOO_MANY_DEVICES: Final = Failure(9, "The user has as many devices as are allowed.")
UNKNOWN_DEVICE: Final = Failure(10, "The device is not known.")
NOT_ACTIVATED: Final = Failure(11, "This server is not activated.")
DIVERGENT: Final = Failure(12, "This server has changes that the master never saw; an operator has to decide.")
