from __future__ import annotations

import asyncio
import logging

import pytest
from unit.reference.fake_sdk import FakeSdk
from unit.reference.web_client import WebClient

from mfalb.reference.mobile_app.activations import Activations
from mfalb.reference.mobile_app.app import PATH, MobileApp
from mfalb.reference.sdk_client.failures import LEVEL_TEXTS, Level
from mfalb.wire.soap import Envelope, read_envelope_untrusted

DEVICE = {
    "ActivationCode": "123456789",
    "DeviceToken": "a-device-token",
    "DeviceName": "Pixel 8",
    "OathCounter": "53235023",
    "Version": "6.2001.0140",
}


class App(WebClient):
    """The app on a phone."""

    def __init__(self, sdk: FakeSdk, push_wait_s: float = 60.0) -> None:
        service = MobileApp("app1", sdk.client(), Activations(lambda: 0.0), push_wait_s)
        super().__init__(service.application())

    async def call(self, method: str, **texts: str) -> Envelope:
        inside = "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())
        body = f"<Envelope><Body><{method}>{inside}</{method}></Body></Envelope>".encode()
        page = await self.ask("POST", PATH, body)
        assert page.served_by == "app1"
        return read_envelope_untrusted(page.text.encode())

    async def code_of(self, method: str, **texts: str) -> tuple[str, str]:
        """An operation's result, and its error code."""
        answer = await self.call(method, **texts)
        assert answer.method == f"{method}Response"
        return answer.texts[f"{method}Result"], answer.texts["Code"]


async def test_an_activation_is_begun_answered_and_confirmed() -> None:
    sdk = FakeSdk()
    app = App(sdk)
    begun = await app.call("ActivateNew", **DEVICE)
    wanted = {"ActivateNewResult": "true", "Username": "alice", "OathTokenSecretKey": "JBSWY3DPEHPK3PXP", "Code": "0"}
    assert wanted.items() <= begun.texts.items()
    code = begun.texts["ConfirmationCode"]
    confirmed, answered = await asyncio.gather(
        app.code_of("ConfirmActivation", confirmationCode=code),
        app.code_of("PushAnswer", confirmationCode=code, answer="approve"),
    )
    assert confirmed == answered == ("true", "0")
    assert sdk.calls == [
        ("ActivateDevice", "123456789", "a-device-token", "Pixel 8", "53235023", "6.2001.0140"),
        ("ConfirmDevice", code),
    ]


@pytest.mark.parametrize(("answer", "error"), [("deny", "7"), ("perhaps", "7"), (None, "7")])
async def test_without_an_approval_a_device_is_not_confirmed(answer: str | None, error: str) -> None:
    sdk = FakeSdk()
    app = App(sdk, push_wait_s=0.0)
    code = (await app.call("ActivateNew", **DEVICE)).texts["ConfirmationCode"]
    if answer is not None:
        result = await app.code_of("PushAnswer", confirmationCode=code, answer=answer)
        assert result == (("true", "0") if answer == "deny" else ("false", "9"))
    assert await app.code_of("ConfirmActivation", confirmationCode=code) == ("false", error)
    assert sdk.asked("ConfirmDevice") == []


async def test_another_server_does_not_know_the_confirmation_code() -> None:
    sdk = FakeSdk()
    code = (await App(sdk).call("ActivateNew", **DEVICE)).texts["ConfirmationCode"]
    other = App(sdk)
    assert await other.code_of("PushAnswer", confirmationCode=code, answer="approve") == ("false", "6")
    assert await other.code_of("ConfirmActivation", confirmationCode=code) == ("false", "6")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"ActivationCode": "12345678"}, "5"),
        ({"ActivationCode": ""}, "5"),
        ({"ActivationCode": "12345678x"}, "5"),
        ({"DeviceToken": ""}, "9"),
        ({"DeviceToken": "x" * 1025}, "9"),
        ({"DeviceName": ""}, "9"),
        ({"OathCounter": "soon"}, "9"),
    ],
)
async def test_what_cannot_be_an_activation_is_not_asked_for(change: dict[str, str], error: str) -> None:
    sdk = FakeSdk()
    answer = await App(sdk).call("ActivateNew", **(DEVICE | change))
    assert (answer.texts["ActivateNewResult"], answer.texts["Code"]) == ("false", error)
    assert answer.texts["ConfirmationCode"] == ""
    assert sdk.calls == []


async def test_codes_that_the_servers_refuse_or_cannot_take_are_told_apart() -> None:
    assert await App(FakeSdk(refuses=True)).code_of("ActivateNew", **DEVICE) == ("false", "5")
    assert await App(FakeSdk(is_master_there=False)).code_of("ActivateNew", **DEVICE) == ("false", "8")


@pytest.mark.parametrize("level", Level)
async def test_the_connection_test_says_at_which_level_the_sdk_fails(level: Level) -> None:
    answer = await App(FakeSdk(failure=level)).call("TestPfWsSdkConnection")
    assert (answer.texts["TestPfWsSdkConnectionResult"], answer.texts["Code"]) == ("false", str(level.value))
    assert LEVEL_TEXTS[level] in answer.texts["Description"]


@pytest.mark.parametrize(("is_there", "told"), [(True, ""), (False, "The master server is not available.")])
async def test_the_connection_test_is_good_without_a_master_and_says_so(is_there: bool, told: str) -> None:
    answer = await App(FakeSdk(is_master_there=is_there)).call("TestPfWsSdkConnection")
    assert (answer.texts["TestPfWsSdkConnectionResult"], answer.texts["Description"]) == ("true", told)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html/>", b"<Envelope><Body><NoSuchThing/></Body></Envelope>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a/>"],
)
async def test_what_is_no_call_gets_a_fault(body: bytes) -> None:
    page = await App(FakeSdk()).ask("POST", PATH, body)
    assert (page.status, "<faultcode>soap:Client</faultcode>" in page.text) == (500, True)


async def test_help_page_and_wsdl_are_served_in_any_case_and_nothing_else_is() -> None:
    app = App(FakeSdk())
    assert "ConfirmActivation" in (await app.get(PATH.lower())).text
    assert 'targetNamespace="http://www.phonefactor.com/PfPaWs"' in (await app.get(f"{PATH}?wsdl")).text
    assert (await app.get("/PA/PfPaWs.asmx")).status == 404


async def test_the_log_holds_no_code_key_or_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    app = App(FakeSdk())
    code = (await app.call("ActivateNew", **DEVICE)).texts["ConfirmationCode"]
    await app.call("PushAnswer", confirmationCode=code, answer="approve")
    await app.call("ConfirmActivation", confirmationCode=code)
    logged = [vars(record) for record in caplog.records if record.name == "mfalb.reference.mobile_app"]
    assert [record["msg"] for record in logged] == ["activation begun", "activated"]
    secrets = ("123456789", code, "JBSWY3DPEHPK3PXP", "a-device-token", "alice")
    assert not [secret for secret in secrets if secret in repr(logged)]
