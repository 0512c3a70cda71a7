from __future__ import annotations

import pytest
from unit.reference.fake_sdk import ANSWERED, FakeSdk
from unit.reference.web_client import WebClient

from mfalb.reference.config.values import Method
from mfalb.reference.sdk_client.failures import Level
from mfalb.reference.user_portal.account import read_method, read_phone
from mfalb.reference.user_portal.app import Portal
from mfalb.reference.user_portal.sessions import Sessions

CHANGES = {
    "/phone": {"phone": "+1 555 7777", "method": "phone_call"},
    "/user-pin": {"current": "1234", "new": "4711", "again": "4711"},
    "/bypass": {"seconds": "60", "reason": "forgotten"},
    "/activation": {},
    "/device": {"name": "Pixel 8"},
}
METHODS = {
    "/phone": "UpdateUser",
    "/user-pin": "ChangeUserPin",
    "/bypass": "OneTimeBypass",
    "/activation": "NewActivation",
    "/device": "RemoveDevice",
}


@pytest.fixture
def sdk() -> FakeSdk:
    return FakeSdk(begun=ANSWERED, devices=1)


async def signed_in(sdk: FakeSdk) -> WebClient:
    portal = Portal("portal1", sdk.client(), Sessions(lambda: 0.0), "https://app.example/PfPaWs.asmx")
    browser = WebClient(portal.application(), "/MultiFactorAuth")
    await browser.get()
    assert "Your account" in (await browser.post("/login", user="alice", password="right-password")).text
    sdk.calls.clear()
    return browser


@pytest.mark.parametrize(
    ("path", "fields", "call", "notice"),
    [
        ("/phone", CHANGES["/phone"], ("UpdateUser", "alice", "+1 555 7777", "phone_call", "a test"), "were changed"),
        ("/phone", {"phone": "", "method": "app_push"}, ("UpdateUser", "alice", "app_push", "a test"), "were changed"),
        ("/user-pin", CHANGES["/user-pin"], ("ChangeUserPin", "alice", "a test"), "Your user PIN was changed."),
        ("/bypass", CHANGES["/bypass"], ("OneTimeBypass", "alice", "forgotten", "60", "a test"), "For 60 seconds"),
        ("/bypass", {"seconds": ""}, ("OneTimeBypass", "alice", "300", "a test"), "For 300 seconds"),
        ("/activation", {}, ("NewActivation", "alice", "a test"), 'class="secret">123456789<'),
        ("/device", CHANGES["/device"], ("RemoveDevice", "alice", "Pixel 8", "a test"), "The device was removed."),
    ],
)
async def test_a_form_becomes_a_call_for_the_user_who_is_signed_in(
    sdk: FakeSdk, path: str, fields: dict[str, str], call: tuple[str, ...], notice: str
) -> None:
    browser = await signed_in(sdk)
    page = await browser.post(path, user="mallory", **fields)
    assert (page.status, notice in page.text) == (200, True), page.text
    assert sdk.asked(METHODS[path]) == [call]


@pytest.mark.parametrize(
    ("path", "fields", "error"),
    [
        ("/phone", {"phone": "call me", "method": "phone_call"}, "Please type a phone number"),
        ("/phone", {"phone": "", "method": "none"}, "Please choose one of the ways"),
        ("/user-pin", {"new": "123", "again": "123"}, "A user PIN has 4 to 16 digits."),
        ("/user-pin", {"new": "12345678901234567", "again": "12345678901234567"}, "A user PIN has 4 to 16 digits."),
        ("/user-pin", {"new": "1234", "again": "1243"}, "The two new user PINs are not the same."),
        ("/bypass", {"seconds": "14"}, "from 15 to 3600"),
        ("/bypass", {"seconds": "3601"}, "from 15 to 3600"),
        ("/bypass", {"seconds": "-60"}, "from 15 to 3600"),
        ("/bypass", {"seconds": "9" * 5000}, "from 15 to 3600"),
        ("/device", {"name": " "}, "There is no device of that name."),
    ],
)
async def test_what_makes_no_sense_is_said_and_not_asked_for(
    sdk: FakeSdk, path: str, fields: dict[str, str], error: str
) -> None:
    browser = await signed_in(sdk)
    page = await browser.post(path, **fields)
    assert (page.status, error in page.text) == (400, True)
    assert sdk.asked(METHODS[path]) == []


@pytest.mark.parametrize("path", CHANGES)
async def test_what_the_servers_refuse_changes_nothing_and_says_so(sdk: FakeSdk, path: str) -> None:
    browser, sdk.refuses = await signed_in(sdk), True
    page = await browser.post(path, **CHANGES[path])
    assert page.status == 400
    assert 'role="alert"' in page.text
    assert 'class="secret"' not in page.text


@pytest.mark.parametrize("path", CHANGES)
async def test_without_a_master_a_change_says_that_it_is_away(sdk: FakeSdk, path: str) -> None:
    browser, sdk.is_master_there = await signed_in(sdk), False
    page = await browser.post(path, **CHANGES[path])
    assert (page.status, "the master server is not available" in page.text) == (503, True)
    assert "<strong>Read-only:</strong> the master server is away" in page.text


@pytest.mark.parametrize("path", CHANGES)
async def test_without_the_sdk_a_change_says_that_and_the_page_has_no_forms_for_more(sdk: FakeSdk, path: str) -> None:
    browser, sdk.failure = await signed_in(sdk), Level.UNREACHABLE
    page = await browser.post(path, **CHANGES[path])
    assert (page.status, "The sign-in service is not available." in page.text) == (503, True)
    assert "your settings are not available now" in page.text
    assert "Save phone" not in page.text


@pytest.mark.parametrize("path", CHANGES)
async def test_a_change_needs_the_token_of_the_session_and_a_session_that_is_signed_in(sdk: FakeSdk, path: str) -> None:
    browser = await signed_in(sdk)
    page = await browser.post(path, **CHANGES[path], csrf="x" * 43)
    assert (page.status, "This form was out of date." in page.text) == (403, True)
    browser.cookies.pop("ASP.NET_SessionId")
    assert (await browser.post(path, **CHANGES[path])).status == 403
    assert sdk.asked(METHODS[path]) == []


@pytest.mark.parametrize("path", CHANGES)
async def test_who_has_not_typed_the_code_yet_changes_nothing(path: str) -> None:
    sdk = FakeSdk()
    portal = Portal("portal1", sdk.client(), Sessions(lambda: 0.0))
    browser = WebClient(portal.application(), "/MultiFactorAuth")
    await browser.get()
    assert "Enter your code" in (await browser.post("/login", user="alice", password="right-password")).text
    page = await browser.post(path, **CHANGES[path])
    assert (page.status, "Enter your code" in page.text) == (403, True)
    assert sdk.asked(METHODS[path]) == []


async def test_with_a_master_nothing_is_locked_and_without_one_everything(sdk: FakeSdk) -> None:
    browser = await signed_in(sdk)
    assert "disabled" not in browser.page.text
    sdk.is_master_there = False
    assert (await browser.get()).text.count("disabled>") == len(CHANGES)


async def test_the_current_user_pin_is_asked_for_where_there_is_one(sdk: FakeSdk) -> None:
    assert 'name="current"' not in (await signed_in(sdk)).page.text
    sdk.has_user_pin = True
    assert 'name="current"' in (await signed_in(sdk)).page.text


@pytest.mark.parametrize(
    ("typed", "phone"),
    [
        ("+1 555 0101", "+1 555 0101"),
        (" 0049  89/1234-5 ", "0049 89/1234-5"),
        ("1" * 40, ""),
        ("+", ""),
        ("1;drop", ""),
    ],
)
def test_a_phone_number_is_digits_and_what_people_put_between_them(typed: str, phone: str) -> None:
    assert read_phone(typed) == phone


def test_methods_are_those_that_the_servers_know() -> None:
    assert [read_method(method.value) for method in Method] == list(Method)
    assert read_method("") is None
