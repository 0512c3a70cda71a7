from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
from unit.reference.fake_sdk import ANSWERED, NOT_ANSWERED, TEXTED, FakeSdk, document, error

from mfalb.reference.config.values import Method
from mfalb.reference.sdk_client.answers import Activation, Begun, FirstHalf, UserSettings
from mfalb.reference.sdk_client.client import DeviceFacts, SdkClient
from mfalb.reference.sdk_client.failures import Level, MasterUnavailable, SdkUnavailable

DEVICE = DeviceFacts("token", "Pixel 8", "53235023", "6.2")
Call = Callable[[SdkClient], Awaitable[object]]

CHANGES: dict[str, Call] = {
    "AddUser": lambda sdk: sdk.add_user("alice", "+1", Method.PHONE_CALL),
    "UpdateUser": lambda sdk: sdk.update_user("alice", phone="+1"),
    "ChangeUserPin": lambda sdk: sdk.change_user_pin("alice", "1234", "4711"),
    "Disable": lambda sdk: sdk.disable("alice"),
    "OneTimeBypass": lambda sdk: sdk.one_time_bypass("alice", "reason", 300),
    "NewActivation": lambda sdk: sdk.new_activation("alice"),
    "ActivateDevice": lambda sdk: sdk.activate_device("123456789", DEVICE),
    "ConfirmDevice": lambda sdk: sdk.confirm_device("code"),
    "RemoveDevice": lambda sdk: sdk.remove_device("alice", "Pixel 8"),
}


@dataclass
class Says:
    """A caller that answers with one document, whatever is asked."""

    answer: bytes

    async def call(self, _method: str, _body: bytes) -> bytes:
        return self.answer

    def client(self) -> SdkClient:
        return SdkClient(self, "a test")


def begun(result: str, rest: str) -> bytes:
    return document("PfAuthUser_4", f"<PfAuthUser_4Result>{result}</PfAuthUser_4Result>{rest}")


@pytest.mark.parametrize(
    ("result", "rest", "half"),
    [
        ("true", TEXTED + "<authreqid>7</authreqid>", FirstHalf(Begun.TEXT_SENT, "7")),
        ("true", ANSWERED, FirstHalf(Begun.AUTHENTICATED, "")),
        ("1", ANSWERED, FirstHalf(Begun.AUTHENTICATED, "")),
        ("false", NOT_ANSWERED, FirstHalf(Begun.DENIED, "")),
        ("false", TEXTED, FirstHalf(Begun.DENIED, "")),
        ("false", ANSWERED, FirstHalf(Begun.DENIED, "")),
        ("true", "<callResult><Code>77</Code></callResult>", FirstHalf(Begun.DENIED, "")),
        ("false", "<callResult><Code>0</Code></callResult>" + error(1), FirstHalf(Begun.NOT_KNOWN, "")),
    ],
)
async def test_a_first_half_is_what_the_server_says_and_never_more(result: str, rest: str, half: FirstHalf) -> None:
    assert await Says(begun(result, rest)).client().begin("alice") == half


@pytest.mark.parametrize(
    ("answer", "level", "reason"),
    [
        (begun("false", "<callResult><Code>0</Code></callResult>" + error(2)), Level.SERVICE, "sdk_not_attempted"),
        (begun("false", "<callResult><Code>0</Code></callResult>" + error(11)), Level.SERVICE, "sdk_not_attempted"),
        (begun("true", TEXTED), Level.UNREACHABLE, "sdk_no_request_id"),
        (begun("yes", ANSWERED), Level.UNREACHABLE, "sdk_no_result"),
        (begun("true", ""), Level.UNREACHABLE, "sdk_no_code"),
        (b"<Envelope><Body><Fault/></Body></Envelope>", Level.SERVICE, "sdk_fault"),
        (b"<html>not here</html>", Level.UNREACHABLE, "sdk_other_method"),
    ],
)
async def test_a_first_half_that_is_none_says_at_which_level_it_failed(
    answer: bytes, level: Level, reason: str
) -> None:
    with pytest.raises(SdkUnavailable) as caught:
        await Says(answer).client().begin("alice")
    assert (caught.value.level, caught.value.reason) == (level, reason)
    assert reason not in str(caught.value)
    assert reason in caught.value.explanation


async def test_the_first_half_is_asked_for_in_the_words_of_the_sdk() -> None:
    sdk = FakeSdk()
    await sdk.client().begin("alice", "192.0.2.7")
    assert sdk.calls == [("PfAuthUser_4", "alice", "pfsdk", "192.0.2.7", "a test", "false")]


async def test_settings_of_a_user_are_read_and_nobody_s_are_none() -> None:
    sdk = FakeSdk(devices=3, has_user_pin=True)
    settings = await sdk.client().user_settings("alice")
    assert settings == UserSettings(True, "one_way_sms", "+* ***01", True, 3)
    assert settings.method_known is Method.ONE_WAY_SMS
    sdk.is_known = False
    assert await sdk.client().user_settings("alice") is None


async def test_an_activation_is_read_whole_and_its_secrets_are_not_shown() -> None:
    activation = await FakeSdk().client().activate_device("123456789", DEVICE)
    assert activation == Activation("alice", "confirm-123456789", "JBSWY3DPEHPK3PXP")
    assert "confirm" not in repr(activation)
    assert "JBSW" not in repr(activation)


@pytest.mark.parametrize("method", CHANGES)
async def test_a_change_that_is_made_says_so(method: str) -> None:
    sdk = FakeSdk()
    assert await CHANGES[method](sdk.client())
    assert [call[0] for call in sdk.calls] == [method]


@pytest.mark.parametrize("method", CHANGES)
async def test_a_change_that_is_refused_is_not_made(method: str) -> None:
    assert not await CHANGES[method](FakeSdk(refuses=True).client())


@pytest.mark.parametrize("code", [4, 12])
@pytest.mark.parametrize("method", CHANGES)
async def test_a_change_that_needs_a_master_which_is_away_raises(method: str, code: int) -> None:
    answer = document(method, f"<{method}Result>false</{method}Result>{error(code)}")
    with pytest.raises(MasterUnavailable):
        await CHANGES[method](Says(answer).client())


@pytest.mark.parametrize("method", CHANGES)
async def test_a_change_at_a_server_that_does_not_serve_is_the_service_s_failure(method: str) -> None:
    answer = document(method, f"<{method}Result>false</{method}Result>{error(11)}")
    with pytest.raises(SdkUnavailable) as caught:
        await CHANGES[method](Says(answer).client())
    assert caught.value.level is Level.SERVICE


async def test_an_activation_code_that_is_none_is_not_shown_to_users() -> None:
    answer = document(
        "NewActivation", f"<NewActivationResult>true</NewActivationResult><activationCode>a</activationCode>{error(0)}"
    )
    assert await Says(answer).client().new_activation("alice") == ""


async def test_an_account_that_is_not_mapped_is_a_matter_of_credentials() -> None:
    await FakeSdk().client().test_security()
    answer = document("TestSecurity", "<TestSecurityResult>anonymous</TestSecurityResult>")
    with pytest.raises(SdkUnavailable) as caught:
        await Says(answer).client().test_security()
    assert caught.value.level is Level.CREDENTIALS
