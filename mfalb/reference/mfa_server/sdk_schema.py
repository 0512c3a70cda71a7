"""The operations of the Web Service SDK as its WSDL describes them: what goes in, what comes out, and what is ours.

Operations without a note are as seen in public code (MFA facts, section 1.4). The others are stand-ins of our own
naming for what the portal and the agents must be able to call: the real names are not public.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_STAND_IN: Final = "Stand-in of our own naming: the real operation is not public."
_ERROR: Final = ("error", "tns:Error")


@dataclass(frozen=True, slots=True)
class Operation:
    """Names and XML types of the arguments (those in `optional` may be left out) and of the results."""

    arguments: tuple[tuple[str, str], ...]
    results: tuple[tuple[str, str], ...]
    optional: frozenset[str] = frozenset()
    note: str = ""


def _texts(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, "s:string") for name in names)


def _stand_in(
    name: str, arguments: tuple[tuple[str, str], ...], *more: tuple[str, str], optional: str = ""
) -> Operation:
    results = ((f"{name}Result", "s:boolean"), *more, _ERROR)
    return Operation(arguments, results, frozenset(optional.split()), _STAND_IN)


OPERATIONS: Final[dict[str, Operation]] = {
    "PfAuthUser_4": Operation(
        (*_texts("username", "authenticationType", "ipAddress", "appName"), ("flag", "s:boolean")),
        (
            ("PfAuthUser_4Result", "s:boolean"),
            ("callResult", "tns:CallResult"),
            ("authreqid", "s:string"),
            _ERROR,
        ),
        frozenset(("authenticationType", "ipAddress", "appName", "flag")),
    ),
    "TestSecurity": Operation((), (("TestSecurityResult", "s:string"),)),
    "TestMasterConnection": Operation((), (("TestMasterConnectionResult", "s:boolean"), _ERROR)),
    "OneTimeBypass": Operation(
        (*_texts("user", "reason"), ("seconds", "s:unsignedInt"), *_texts("requestedBy")),
        (("OneTimeBypassResult", "s:boolean"), _ERROR),
        frozenset(("reason", "seconds", "requestedBy")),
    ),
    "GetUserSettings": Operation(
        _texts("user"), (("GetUserSettingsResult", "s:boolean"), ("userSettings", "tns:UserSettings"), _ERROR)
    ),
    "Disable": Operation(
        _texts("user", "requestedBy"), (("DisableResult", "s:boolean"), _ERROR), frozenset(("requestedBy",))
    ),
    "VerifyOneWayOtp": _stand_in("VerifyOneWayOtp", _texts("username", "authreqid", "otp")),
    "ValidatePassword": _stand_in("ValidatePassword", _texts("username", "password")),
    "AddUser": _stand_in("AddUser", _texts("user", "phone", "method", "requestedBy"), optional="method requestedBy"),
    "UpdateUser": _stand_in(
        "UpdateUser",
        _texts("user", "phone", "method", "enabled", "requestedBy"),
        optional="phone method enabled requestedBy",
    ),
    "ChangeUserPin": _stand_in(
        "ChangeUserPin", _texts("user", "currentPin", "newPin", "requestedBy"), optional="currentPin requestedBy"
    ),
    "NewActivation": _stand_in(
        "NewActivation", _texts("user", "requestedBy"), ("activationCode", "s:string"), optional="requestedBy"
    ),
    "ActivateDevice": _stand_in(
        "ActivateDevice",
        (*_texts("activationCode", "deviceToken", "deviceName"), ("oathCounter", "s:long"), *_texts("version")),
        ("activationInfo", "tns:ActivationInfo"),
        optional="oathCounter version",
    ),
    "ConfirmDevice": _stand_in("ConfirmDevice", _texts("confirmationCode")),
    "RemoveDevice": _stand_in("RemoveDevice", _texts("user", "deviceName", "requestedBy"), optional="requestedBy"),
}
