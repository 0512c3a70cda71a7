"""What the operations of the Web Service SDK answer, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from mfalb.errors import MalformedMessage
from mfalb.reference.config.values import Method
from mfalb.reference.sdk_client.messages import Answer

# CallResult codes of the reference MFA Servers; the real table is not public
_NOT_ATTEMPTED: Final = 0
_ANSWERED: Final = 1
_TEXT_SENT: Final = 5

UNKNOWN_USER: Final = 1  # error codes, of the same origin
NOT_SERVING: Final = frozenset((2, 11))  # the cloud is away; the server is not activated
NO_MASTER: Final = frozenset((4, 12))  # away; or not to be asked, since its data and ours have parted


class Begun(Enum):
    """How the second factor began."""

    TEXT_SENT = "text sent"
    AUTHENTICATED = "authenticated"
    DENIED = "denied"
    NOT_KNOWN = "user not known"


@dataclass(frozen=True, slots=True)
class FirstHalf:
    """The answer to PfAuthUser_4. `request_id` ties half two to it, where there is one."""

    begun: Begun
    request_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class UserSettings:
    """A user as the MFA Servers know them. `phone` is masked but for its end; `method` is "" for one unknown here."""

    is_enabled: bool
    method: str
    phone: str
    has_user_pin: bool
    devices: int

    @property
    def method_known(self) -> Method | None:
        return next((method for method in Method if method.value == self.method), None)


@dataclass(frozen=True, slots=True)
class Activation:
    """What a device gets that has shown a good activation code."""

    user: str
    confirmation_code: str = field(repr=False)
    oath_secret: str = field(repr=False)


def first_half(answer: Answer) -> FirstHalf:
    """Raises MalformedMessage for an answer that contradicts itself, and when the server says that it did not try."""
    is_good = answer.is_true("PfAuthUser_4Result")
    code = answer.integer("callResult/Code")
    request_id = answer.texts.get("authreqid", "")
    if code == _NOT_ATTEMPTED:
        if answer.error_code == UNKNOWN_USER:
            return FirstHalf(Begun.NOT_KNOWN, "")
        raise MalformedMessage("sdk_not_attempted")
    if is_good and code == _TEXT_SENT:
        if not request_id:
            raise MalformedMessage("sdk_no_request_id")  # no code could ever be checked
        return FirstHalf(Begun.TEXT_SENT, request_id)
    return FirstHalf(Begun.AUTHENTICATED if is_good and code == _ANSWERED else Begun.DENIED, request_id)


def user_settings(answer: Answer) -> UserSettings | None:
    """None when the user is not known. Raises MalformedMessage."""
    if not answer.is_true("GetUserSettingsResult"):
        return None
    return UserSettings(
        is_enabled=answer.is_true("userSettings/Enabled"),
        method=answer.texts.get("userSettings/Method", ""),
        phone=answer.texts.get("userSettings/Phone", ""),
        has_user_pin=answer.is_true("userSettings/HasUserPin"),
        devices=answer.integer("userSettings/Devices"),
    )


def activation(answer: Answer) -> Activation | None:
    """None when the activation code was refused. Raises MalformedMessage."""
    if not answer.is_true("ActivateDeviceResult"):
        return None
    return Activation(
        user=answer.text("activationInfo/Username"),
        confirmation_code=answer.text("activationInfo/ConfirmationCode"),
        oath_secret=answer.text("activationInfo/OathTokenSecretKey"),
    )
