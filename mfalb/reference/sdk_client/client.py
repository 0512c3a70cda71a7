"""A caller of the (balanced) Web Service SDK: one method an operation.

Each raises SdkUnavailable when the SDK gave no usable answer; those that change something raise MasterUnavailable when
the group's master is away, and else say whether the change was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from mfalb.errors import MalformedMessage
from mfalb.reference.config.values import Method
from mfalb.reference.sdk_client import answers
from mfalb.reference.sdk_client.answers import Activation, FirstHalf, UserSettings
from mfalb.reference.sdk_client.failures import Level, MasterUnavailable, SdkUnavailable
from mfalb.reference.sdk_client.messages import Answer, call_envelope, read_answer_untrusted

_SECURE: Final = "secure"
# Answers which say that the SDK itself is well and the service behind it is not
_OF_THE_SERVICE: Final = frozenset(("sdk_fault", "sdk_not_attempted"))

_Value = TypeVar("_Value")


class Caller(Protocol):
    """Who carries a call: `transport.HttpCaller` over the wire. Raises SdkUnavailable."""

    async def call(self, method: str, body: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a phone says of itself when its app is activated. `oath_counter` is unix time / 30."""

    token: str
    name: str
    oath_counter: str
    version: str


class SdkClient:
    """The operations. `application` is the caller's name, which users are told; changes carry it as requestedBy."""

    def __init__(self, caller: Caller, application: str) -> None:
        self._caller = caller
        self._application = application

    # ------------------------------------------------------------------------------ sign-ins

    async def validate_password(self, user: str, password: str) -> bool:
        """Whether the directory takes the password (a stand-in of our own naming)."""
        return await self._ask("ValidatePassword", {"username": user, "password": password}, _result)

    async def begin(self, user: str, address: str = "") -> FirstHalf:
        """Ring or text the user; returns when the call was answered or the text was sent: that can take two minutes."""
        parameters = {"authenticationType": "pfsdk", "ipAddress": address, "appName": self._application}
        return await self._ask(
            "PfAuthUser_4",
            {"username": user, **parameters, "flag": "false"},
            lambda _, answer: answers.first_half(answer),
        )

    async def verify(self, user: str, request_id: str, otp: str) -> bool:
        """Whether `otp` is the code that was texted (a stand-in of our own naming)."""
        return await self._ask("VerifyOneWayOtp", {"username": user, "authreqid": request_id, "otp": otp}, _result)

    # ------------------------------------------------------------------------------ tests

    async def test_security(self) -> None:
        """Returns when our account was mapped and the service behind the SDK answers."""
        said = await self._ask("TestSecurity", {}, lambda method, answer: answer.text(f"{method}Result"))
        if said != _SECURE:
            raise SdkUnavailable(Level.CREDENTIALS, "not_secure")

    async def is_master_reached(self) -> bool:
        """Whether the server that answers reaches its master; without it nothing can be changed."""
        return await self._ask("TestMasterConnection", {}, _result)

    # ------------------------------------------------------------------------------ users

    async def user_settings(self, user: str) -> UserSettings | None:
        """None when the MFA Servers do not know the user."""
        return await self._ask("GetUserSettings", {"user": user}, lambda _, answer: answers.user_settings(answer))

    async def add_user(self, user: str, phone: str, method: Method) -> bool:
        return await self._change("AddUser", {"user": user, "phone": phone, "method": method.value})

    async def update_user(self, user: str, *, phone: str = "", method: Method | None = None) -> bool:
        """What is left out stays as it is."""
        name = "" if method is None else method.value
        return await self._change("UpdateUser", {"user": user, "phone": phone, "method": name, "enabled": ""})

    async def change_user_pin(self, user: str, current: str, new: str) -> bool:
        return await self._change("ChangeUserPin", {"user": user, "currentPin": current, "newPin": new})

    async def disable(self, user: str) -> bool:
        return await self._change("Disable", {"user": user})

    async def one_time_bypass(self, user: str, reason: str, seconds: int) -> bool:
        """Lets the next sign-in within `seconds` pass without a second factor."""
        return await self._change("OneTimeBypass", {"user": user, "reason": reason, "seconds": str(seconds)})

    # ------------------------------------------------------------------------------ devices

    async def new_activation(self, user: str) -> str:
        """A code for the app of one device, good for ten minutes; "" when the server gives none."""
        parameters = {"user": user, "requestedBy": self._application}
        return await self._ask("NewActivation", parameters, _activation_code)

    async def activate_device(self, activation_code: str, device: DeviceFacts) -> Activation | None:
        """None when the code is refused."""
        parameters = {
            "activationCode": activation_code,
            "deviceToken": device.token,
            "deviceName": device.name,
            "oathCounter": device.oath_counter,
            "version": device.version,
        }
        return await self._ask("ActivateDevice", parameters, _activation)

    async def confirm_device(self, confirmation_code: str) -> bool:
        return await self._ask("ConfirmDevice", {"confirmationCode": confirmation_code}, _changed)

    async def remove_device(self, user: str, device_name: str) -> bool:
        return await self._change("RemoveDevice", {"user": user, "deviceName": device_name})

    # ------------------------------------------------------------------------------ calls

    async def _change(self, method: str, parameters: Mapping[str, str]) -> bool:
        return await self._ask(method, {**parameters, "requestedBy": self._application}, _changed)

    async def _ask(self, method: str, parameters: Mapping[str, str], read: Callable[[str, Answer], _Value]) -> _Value:
        document = await self._caller.call(method, call_envelope(method, parameters))
        try:
            return read(method, read_answer_untrusted(document, method))
        except MalformedMessage as error:
            level = Level.SERVICE if error.reason in _OF_THE_SERVICE else Level.UNREACHABLE
            raise SdkUnavailable(level, error.reason) from None


def _result(method: str, answer: Answer) -> bool:
    return answer.is_true(f"{method}Result")


def _changed(method: str, answer: Answer) -> bool:
    """Whether a change was made. Raises MasterUnavailable, and MalformedMessage."""
    is_made = answer.is_true(f"{method}Result")
    if not is_made:
        _refuse_if_away(answer)
    return is_made


def _activation(_method: str, answer: Answer) -> Activation | None:
    activation = answers.activation(answer)
    if activation is None:
        _refuse_if_away(answer)
    return activation


def _activation_code(_method: str, answer: Answer) -> str:
    code = answer.texts.get("activationCode") or answer.texts.get("NewActivationResult", "")
    if not (code.isascii() and code.isdigit()):
        _refuse_if_away(answer)
        return ""
    return code


def _refuse_if_away(answer: Answer) -> None:
    if answer.error_code in answers.NO_MASTER:
        raise MasterUnavailable
    if answer.error_code in answers.NOT_SERVING:
        raise MalformedMessage("sdk_not_attempted")
