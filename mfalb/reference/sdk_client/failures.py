"""How a call of the Web Service SDK fails: at which level, and what may be told to whom."""

from __future__ import annotations

from enum import Enum

from mfalb.errors import MfalbError


class Level(Enum):
    """The four causes that support looks at when the SDK cannot be used (MFA facts, section 5.2), in their order."""

    CREDENTIALS = 1
    UNREACHABLE = 2
    HOST_NAME = 3
    SERVICE = 4


LEVEL_TEXTS = {
    Level.CREDENTIALS: "The Web Service SDK does not accept the credentials of this service.",
    Level.UNREACHABLE: "The Web Service SDK cannot be reached: its URL is wrong, or nothing usable answers there.",
    Level.HOST_NAME: "The certificate of the Web Service SDK is not good for the host name in its URL.",
    Level.SERVICE: "The Web Service SDK was reached, but it cannot reach the MultiFactorAuth service.",
}


class SdkUnavailable(MfalbError):  # noqa: N818 - says what the sign-in service is
    """The Web Service SDK gave no usable answer.

    Its text is for users, and always the same; `level` is for administrators, and `reason` is a short log label, never
    peer-controlled.
    """

    def __init__(self, level: Level, reason: str) -> None:
        super().__init__("The sign-in service is not available. Please try again in a few minutes.")
        self.level = level
        self.reason = reason

    @property
    def explanation(self) -> str:
        """What an administrator is told."""
        return f"{LEVEL_TEXTS[self.level]} ({self.reason})"


class MasterUnavailable(MfalbError):  # noqa: N818 - says what the master is
    """The change needs the group's master, which cannot be reached; sign-ins go on meanwhile."""

    def __init__(self) -> None:
        super().__init__("The change could not be made: the master server is not available. Please try again later.")
