"""What the operations of the Web Service SDK do. Their names, arguments and results stand in `sdk_schema.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Final

from mfalb.reference.asmx import Content
from mfalb.reference.mfa_server.data.records import devices_of
from mfalb.reference.mfa_server.data.writes import WriteRefused
from mfalb.reference.mfa_server.failures import (
    CODE_REFUSED,
    DIVERGENT,
    NO_ERROR,
    NO_MASTER,
    NOT_ACTIVATED,
    SERVICE_UNAVAILABLE,
    UNKNOWN_USER,
    Failure,
)
from mfalb.reference.mfa_server.gated_factor import Gate
from mfalb.reference.mfa_server.group.follower import MasterAway
from mfalb.reference.mfa_server.group.lone import Writer
from mfalb.reference.mfa_server.group.standing import Role
from mfalb.reference.mfa_server.sdk_answers import (
    CALL_ANSWERED,
    CALL_NOT_ANSWERED,
    NOT_ATTEMPTED,
    TEXT_SENT,
    error,
)
from mfalb.reference.mfa_server.second_factor import Begun, SecondFactor, new_request_id
from mfalb.reference.mfa_server.users import GroupUsers
from mfalb.reference.mfa_server.verification import Outcome

Texts = Mapping[str, str]
Operation = Callable[[Texts], Awaitable[dict[str, Content]]]

_NOBODY: Final[dict[str, Content]] = {"Enabled": False, "Method": "", "Phone": "", "HasUserPin": False, "Devices": 0}
# How a first half ends, for the caller: the call result's code and the error. Whatever else there is was a refusal.
_ENDS: Final[dict[Begun, tuple[int, Failure]]] = {
    Begun.TEXT_SENT: (TEXT_SENT, NO_ERROR),
    Begun.AUTHENTICATED: (CALL_ANSWERED, NO_ERROR),
    Begun.CLOUD_UNAVAILABLE: (NOT_ATTEMPTED, SERVICE_UNAVAILABLE),
    Begun.NOT_ACTIVATED: (NOT_ATTEMPTED, NOT_ACTIVATED),
}
_GOOD_ENDS: Final = (Begun.TEXT_SENT, Begun.AUTHENTICATED)
_WRITES: Final = (
    "ActivateDevice",
    "AddUser",
    "ChangeUserPin",
    "ConfirmDevice",
    "Disable",
    "NewActivation",
    "OneTimeBypass",
    "RemoveDevice",
    "UpdateUser",
)


class SdkOperations:
    """The operations by name: texts in, the answer's elements out."""

    def __init__(self, users: GroupUsers, second_factor: SecondFactor, gate: Gate, writer: Writer) -> None:
        self._users = users
        self._second_factor = second_factor
        self._gate = gate
        self._writer = writer
        self.by_name: Final[Mapping[str, Operation]] = {
            "PfAuthUser_4": self._pf_auth_user_4,
            "TestSecurity": self._test_security,
            "TestMasterConnection": self._test_master_connection,
            "GetUserSettings": self._get_user_settings,
            "ValidatePassword": self._validate_password,
            "VerifyOneWayOtp": self._verify_one_way_otp,
            **{name: self._writing(name) for name in _WRITES},
        }

    # ------------------------------------------------------------------------------ signing in

    async def _pf_auth_user_4(self, texts: Texts) -> dict[str, Content]:
        """Half one (or all, for a call): rings or texts the user; `authreqid` ties half two to it."""
        request_id = new_request_id()
        if self._gate.standing.role is Role.UNACTIVATED:  # it has no users to look among
            return _auth_result(NOT_ATTEMPTED, request_id, NOT_ACTIVATED, is_good=False)
        user = self._users.find(texts.get("username", ""))
        if user is None:
            return _auth_result(NOT_ATTEMPTED, request_id, UNKNOWN_USER, is_good=False)
        half = await self._second_factor.begin(user, request_id, _address_untrusted(texts.get("ipAddress", "")))
        code, failure = _ENDS.get(half.begun, (CALL_NOT_ANSWERED, NO_ERROR))
        return _auth_result(code, request_id, failure, is_good=half.begun in _GOOD_ENDS)

    async def _verify_one_way_otp(self, texts: Texts) -> dict[str, Content]:
        """Half two: true when the code is the one that this server had sent."""
        outcome = await self._second_factor.verify(
            texts.get("username", ""), texts.get("authreqid", ""), texts.get("otp", "")
        )
        is_good = outcome is Outcome.ACCEPTED
        return {"VerifyOneWayOtpResult": is_good, "error": error(NO_ERROR if is_good else CODE_REFUSED)}

    async def _validate_password(self, texts: Texts) -> dict[str, Content]:
        """Primary authentication: an unknown user and a wrong password look alike and take alike."""
        name, password = texts.get("username", ""), texts.get("password", "")
        is_right = await self._users.is_password(name, password)
        return {"ValidatePasswordResult": is_right, "error": error(NO_ERROR)}

    # ------------------------------------------------------------------------------ looking

    async def _test_security(self, _texts: Texts) -> dict[str, Content]:
        """`secure` when the caller's identity was mapped, which the front has seen to."""
        return {"TestSecurityResult": "secure"}

    async def _test_master_connection(self, _texts: Texts) -> dict[str, Content]:
        """Whether writes can be made now, here or by way of the master."""
        is_reached = self._writer.is_master_reached
        return {"TestMasterConnectionResult": is_reached, "error": error(NO_ERROR if is_reached else NO_MASTER)}

    async def _get_user_settings(self, texts: Texts) -> dict[str, Content]:
        record = self._users.record(texts.get("user", ""))
        if record is None:
            return {"GetUserSettingsResult": False, "userSettings": _NOBODY, "error": error(UNKNOWN_USER)}
        settings: dict[str, Content] = {
            "Enabled": record.is_enabled,
            "Method": record.method.value,
            "Phone": record.masked_phone,
            "HasUserPin": record.pin is not None,
            "Devices": len(self._gate.pfdata.read(lambda db: devices_of(db, record.name))),
        }
        return {"GetUserSettingsResult": True, "userSettings": settings, "error": error(NO_ERROR)}

    # ------------------------------------------------------------------------------ writing

    def _writing(self, name: str) -> Operation:
        """An operation that changes something, wherever the master is."""

        async def write(texts: Texts) -> dict[str, Content]:
            given, failure = await self._attempt(name, texts)
            return {f"{name}Result": failure == NO_ERROR, **_given_back(name, given), "error": error(failure)}

        return write

    async def _attempt(self, name: str, texts: Texts) -> tuple[dict[str, str], Failure]:
        """What the write gave, and why it was not made."""
        standing = self._gate.standing
        if standing.role is Role.UNACTIVATED:
            return {}, NOT_ACTIVATED
        if standing.divergence:
            return {}, DIVERGENT
        try:
            return await self._writer.write(name, texts), NO_ERROR
        except WriteRefused as refused:
            return {}, refused.failure
        except MasterAway:
            return {}, NO_MASTER


def _address_untrusted(text: str) -> str:
    """The client's address that a caller tells, in one spelling; "" for what is none, which no record may hold."""
    try:
        return str(ip_address(text.strip()))
    except ValueError:
        return ""


def _given_back(name: str, given: Mapping[str, str]) -> dict[str, Content]:
    """What an answer has beside its result and its error; empty texts when the write was not made."""
    if name == "NewActivation":
        return {"activationCode": given.get("activationCode", "")}
    if name == "ActivateDevice":
        names = ("Username", "ConfirmationCode", "OathTokenSecretKey")
        return {"activationInfo": {one: given.get(one, "") for one in names}}
    return {}


def _auth_result(code: int, request_id: str, failure: Failure, *, is_good: bool) -> dict[str, Content]:
    return {
        "PfAuthUser_4Result": is_good,
        "callResult": {"Code": code},
        "authreqid": request_id,
        "error": error(failure),
    }
