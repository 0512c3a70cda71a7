"""The MFA Servers as callers of the SDK meet them, without a network: SOAP in, SOAP out, and no phone rings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.failures import Level, SdkUnavailable
from mfalb.wire.soap import read_envelope_untrusted

NOT_ATTEMPTED = "<callResult><Code>0</Code></callResult>"
TEXTED = "<callResult><Code>5</Code></callResult>"
ANSWERED = "<callResult><Code>1</Code></callResult>"
NOT_ANSWERED = "<callResult><Code>2</Code></callResult>"


def document(method: str, inside: str) -> bytes:
    """An answer of the SDK."""
    body = f"<{method}Response>{inside}</{method}Response>"
    return (
        f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{body}</s:Body></s:Envelope>'.encode()
    )


def error(code: int) -> str:
    return f"<error><Code>{code}</Code><Description/></error>"


@dataclass
class FakeSdk:
    """A caller whose answers the test sets; what it was asked is kept, but for passwords and PINs."""

    password: str = "right-password"
    code: str = "123456"
    begun: str = TEXTED
    is_known: bool = True
    unknown_times: int = 0  # first halves that meet a server which has not been told of the user yet
    is_enabled: bool = True
    is_master_there: bool = True
    refuses: bool = False
    failure: Level | None = None
    devices: int = 0
    has_user_pin: bool = False
    calls: list[tuple[str, ...]] = field(default_factory=list)
    asked_to_verify: asyncio.Event = field(default_factory=asyncio.Event)
    may_verify: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_verify.set()

    def client(self) -> SdkClient:
        return SdkClient(self, "a test")

    def asked(self, *methods: str) -> list[tuple[str, ...]]:
        """The calls of these methods."""
        return [call for call in self.calls if call[0] in methods]

    async def call(self, method: str, body: bytes) -> bytes:
        call = read_envelope_untrusted(body)
        assert call.method == method
        secret = ("password", "otp", "currentPin", "newPin")
        self.calls.append((method, *(text for name, text in call.texts.items() if name not in secret and text)))
        if self.failure is not None:
            raise SdkUnavailable(self.failure, "a_reason")
        if method == "VerifyOneWayOtp":
            self.asked_to_verify.set()
            await self.may_verify.wait()
        return document(method, self._inside(method, call.texts))

    def _inside(self, method: str, texts: dict[str, str]) -> str:
        match method:
            case "ValidatePassword":
                is_right = texts.get("username") == "alice" and texts.get("password") == self.password
                return self._result(method, is_good=is_right)
            case "PfAuthUser_4":
                return self._begun_inside()
            case "VerifyOneWayOtp":
                return self._result(method, is_good=texts.get("otp") == self.code)
            case "TestSecurity" | "TestMasterConnection" | "GetUserSettings":
                return self._looked(method)
            case _:
                return self._changed(method, texts)

    def _looked(self, method: str) -> str:
        if method == "TestSecurity":
            return "<TestSecurityResult>secure</TestSecurityResult>"
        if method == "TestMasterConnection":
            return self._result(method, is_good=self.is_master_there)
        return self._result(method, is_good=self.is_known) + self._user_settings()

    def _begun_inside(self) -> str:
        if self.unknown_times:
            self.unknown_times -= 1
            return f"<PfAuthUser_4Result>false</PfAuthUser_4Result>{NOT_ATTEMPTED}{error(1)}"
        result = "false" if self.begun == NOT_ANSWERED else "true"
        return (
            f"<PfAuthUser_4Result>{result}</PfAuthUser_4Result>{self.begun}<authreqid>request-1</authreqid>{error(0)}"
        )

    def _user_settings(self) -> str:
        flags = {"Enabled": self.is_enabled, "HasUserPin": self.has_user_pin}
        texts = "".join(f"<{name}>{'true' if flag else 'false'}</{name}>" for name, flag in flags.items())
        return (
            f"<userSettings>{texts}<Method>one_way_sms</Method><Phone>+* ***01</Phone>"
            f"<Devices>{self.devices}</Devices></userSettings>"
        )

    def _changed(self, method: str, texts: dict[str, str]) -> str:
        if not self.is_master_there:
            return f"<{method}Result>false</{method}Result>{error(4)}"
        if self.refuses:
            return f"<{method}Result>false</{method}Result>{error(8)}"
        given = ""
        if method == "NewActivation":
            given = "<activationCode>123456789</activationCode>"
        if method == "ActivateDevice":
            user, code = "alice", f"confirm-{escape(texts['activationCode'])}"
            given = (
                f"<activationInfo><Username>{user}</Username><ConfirmationCode>{code}</ConfirmationCode>"
                "<OathTokenSecretKey>JBSWY3DPEHPK3PXP</OathTokenSecretKey></activationInfo>"
            )
        return f"<{method}Result>true</{method}Result>{given}{error(0)}"

    @staticmethod
    def _result(method: str, *, is_good: bool) -> str:
        return f"<{method}Result>{'true' if is_good else 'false'}</{method}Result>{error(0)}"
