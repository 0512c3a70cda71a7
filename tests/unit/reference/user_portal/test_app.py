from __future__ import annotations

import asyncio
import logging
from itertools import count

import pytest
from unit.reference.fake_sdk import ANSWERED, NOT_ANSWERED, FakeSdk
from unit.reference.web_client import Page, WebClient
from unit.still_loop import run

from mfalb.reference.sdk_client.failures import Level
from mfalb.reference.user_portal.app import Portal
from mfalb.reference.user_portal.sessions import Sessions

NOT_KNOWN = "Your session is not known to this server (portal1). Please sign in."
SESSION = "ASP.NET_SessionId"
SIGN_IN = ("ValidatePassword", "PfAuthUser_4", "VerifyOneWayOtp", "AddUser")
BEGUN = ("PfAuthUser_4", "alice", "pfsdk", "a test", "false")
VERIFIED = ("VerifyOneWayOtp", "alice", "request-1")


class Browser(WebClient):
    """Somebody at a portal."""

    def __init__(self, portal: Portal, headers: dict[str, str] | None = None) -> None:
        super().__init__(portal.application(), "/MultiFactorAuth", headers)

    def go_to(self, portal: Portal) -> None:
        self.use(portal.application())

    async def log_in(self, password: str = "right-password") -> Page:
        await self.get()
        return await self.post("/login", user="alice", password=password)


@pytest.fixture
def sdk() -> FakeSdk:
    return FakeSdk()


def new_portal(sdk: FakeSdk, name: str = "portal1") -> Portal:
    numbers = count(1)
    return Portal(name, sdk.client(), Sessions(lambda: 0.0, lambda: f"{name}-{next(numbers)}".ljust(43, "x")))


@pytest.fixture
def portal(sdk: FakeSdk) -> Portal:
    return new_portal(sdk)


@pytest.fixture
def browser(portal: Portal) -> Browser:
    return Browser(portal)


@pytest.mark.parametrize("path", ["", "/", "/login", "/otp", "/logout"])
async def test_who_has_no_session_gets_the_login_form(browser: Browser, path: str) -> None:
    page = await browser.get(path)
    assert (page.status, page.served_by) == (200, "portal1")
    assert "<h1>Sign in</h1>" in page.text
    assert "role=" not in page.text
    assert SESSION not in page.set_cookies


async def test_password_and_code_lead_to_the_account_page(browser: Browser, sdk: FakeSdk) -> None:
    assert "Enter your code" in (await browser.log_in()).text
    assert "Enter your code" in (await browser.get()).text
    signed_in = await browser.post("/otp", otp="123 456")
    for page in (signed_in, await browser.get()):
        assert page.status == 200
        assert "alice" in page.text
        assert "Served by portal1" in page.text
    assert sdk.asked(*SIGN_IN) == [("ValidatePassword", "alice"), BEGUN, VERIFIED]


async def test_an_answered_call_needs_no_code(browser: Browser, sdk: FakeSdk) -> None:
    sdk.begun = ANSWERED
    assert "Served by portal1" in (await browser.log_in()).text


async def test_a_call_that_nobody_confirmed_signs_nobody_in(browser: Browser, sdk: FakeSdk) -> None:
    sdk.begun = NOT_ANSWERED
    page = await browser.log_in()
    assert page.status == 403
    assert "not confirmed" in page.text
    assert SESSION not in browser.cookies


async def test_unknown_users_and_wrong_passwords_look_alike_and_ring_no_phone(portal: Portal, sdk: FakeSdk) -> None:
    pages = []
    for user in ("alice", "nobody"):
        browser = Browser(portal)
        await browser.get()
        page = await browser.post("/login", user=user, password="wrong")
        pages.append((page.status, page.text.replace(browser.cookies["PortalLogin"], "TOKEN")))
    assert pages[0] == pages[1]
    assert "The user name or password is not right." in pages[0][1]
    assert sdk.asked(*SIGN_IN[1:]) == []


async def test_a_wrong_code_may_be_typed_again(browser: Browser) -> None:
    await browser.log_in()
    wrong = await browser.post("/otp", otp="654321")
    assert wrong.status == 403
    assert "The code was not accepted." in wrong.text
    assert "Served by portal1" in (await browser.post("/otp", otp="123456")).text


async def test_what_cannot_be_a_code_is_not_sent_to_the_sdk(browser: Browser, sdk: FakeSdk) -> None:
    await browser.log_in()
    page = await browser.post("/otp", otp="12\x0034")
    assert page.status == 403
    assert "Please type the digits" in page.text
    assert sdk.asked(*SIGN_IN[1:]) == [BEGUN]


async def test_each_step_up_changes_the_session_id_and_ends_the_old_one(browser: Browser) -> None:
    browser.cookies[SESSION] = "planted"
    await browser.log_in()
    waiting = browser.cookies[SESSION]
    await browser.post("/otp", otp="123456")
    signed_in = browser.cookies[SESSION]
    assert len({"planted", waiting, signed_in}) == 3
    browser.cookies[SESSION] = waiting
    assert NOT_KNOWN in (await browser.get()).text


async def test_a_new_sign_in_ends_the_session_that_the_browser_had(browser: Browser, sdk: FakeSdk) -> None:
    sdk.begun = ANSWERED
    await browser.log_in()
    first = browser.cookies[SESSION]
    await browser.post("/login", user="alice", password="right-password", csrf=browser.cookies["PortalLogin"])
    assert browser.cookies[SESSION] != first
    browser.cookies[SESSION] = first
    assert NOT_KNOWN in (await browser.get()).text


async def test_another_portal_does_not_know_the_session_and_says_so(browser: Browser, sdk: FakeSdk) -> None:
    await browser.log_in()
    browser.go_to(new_portal(sdk, "portal2"))
    page = await browser.post("/otp", otp="123456")
    assert (page.status, page.served_by) == (403, "portal2")
    assert "Your session is not known to this server (portal2). Please sign in." in page.text
    assert sdk.asked(*SIGN_IN[1:]) == [BEGUN]


async def test_the_login_form_of_one_portal_may_be_posted_to_another(browser: Browser, sdk: FakeSdk) -> None:
    await browser.get()
    browser.go_to(new_portal(sdk, "portal2"))
    page = await browser.post("/login", user="alice", password="right-password")
    assert (page.status, page.served_by) == (200, "portal2")
    assert "Enter your code" in page.text


@pytest.mark.parametrize("token", ["", "x" * 43, "ö" * 43])
async def test_forms_without_the_token_do_nothing(browser: Browser, sdk: FakeSdk, token: str) -> None:
    await browser.get()
    page = await browser.post("/login", user="alice", password="right-password", csrf=token)
    assert (page.status, sdk.calls) == (403, [])
    await browser.log_in()
    assert (await browser.post("/otp", otp="123456", csrf=token)).status == 403
    assert (await browser.post("/logout", csrf=token)).status == 403
    assert sdk.asked(*SIGN_IN[1:]) == [BEGUN]
    assert "Enter your code" in (await browser.get()).text


async def test_forms_that_the_browser_calls_foreign_do_nothing(portal: Portal, sdk: FakeSdk) -> None:
    browser = Browser(portal, {"Sec-Fetch-Site": "same-site"})
    assert (await browser.log_in()).status == 403
    assert sdk.asked(*SIGN_IN[1:]) == []


async def test_signing_out_ends_the_session_and_takes_the_cookie(browser: Browser, sdk: FakeSdk) -> None:
    sdk.begun = ANSWERED
    await browser.log_in()
    session_id = browser.cookies[SESSION]
    assert "You have signed out." in (await browser.post("/logout")).text
    assert SESSION not in browser.cookies
    browser.cookies[SESSION] = session_id
    assert NOT_KNOWN in (await browser.get()).text


async def test_cancelling_a_sign_in_is_not_called_signing_out(browser: Browser) -> None:
    await browser.log_in()
    assert "The sign-in was cancelled." in (await browser.post("/logout")).text


async def test_a_session_that_ends_while_its_code_is_looked_at_is_not_signed_in(portal: Portal, sdk: FakeSdk) -> None:
    browser = Browser(portal)
    await browser.log_in()
    sdk.may_verify.clear()
    other_tab = Browser(portal)
    other_tab.cookies, other_tab.page = browser.cookies.copy(), browser.page

    async def sign_out_meanwhile() -> None:
        await sdk.asked_to_verify.wait()
        await other_tab.post("/logout")
        sdk.may_verify.set()

    page, _ = await asyncio.gather(browser.post("/otp", otp="123456"), sign_out_meanwhile())
    assert page.status == 403
    assert NOT_KNOWN in page.text


async def test_an_sdk_that_is_away_is_told_at_both_halves(browser: Browser, sdk: FakeSdk) -> None:
    sdk.failure = Level.UNREACHABLE
    page = await browser.log_in()
    assert page.status == 503
    assert "The sign-in service is not available." in page.text
    sdk.failure = None
    await browser.log_in()
    sdk.failure = Level.UNREACHABLE
    page = await browser.post("/otp", otp="123456")
    assert page.status == 503
    assert "The sign-in service is not available." in page.text
    sdk.failure = None
    assert "Served by portal1" in (await browser.post("/otp", otp="123456")).text


@pytest.mark.parametrize(("scheme", "is_secure"), [("https", True), ("HTTPS", True), ("http", False), ("", False)])
async def test_cookies_are_kept_from_scripts_and_secure_where_the_client_speaks_tls(
    portal: Portal, scheme: str, is_secure: bool
) -> None:
    browser = Browser(portal, {"X-Forwarded-Proto": scheme})
    await browser.get()
    login_cookie = browser.page.set_cookies["PortalLogin"]
    session_cookie = (await browser.log_in()).set_cookies[SESSION]
    for cookie in (login_cookie, session_cookie):
        assert (cookie["path"], cookie["samesite"], cookie["httponly"]) == ("/MultiFactorAuth", "Lax", True)
        assert bool(cookie.get("secure")) is is_secure


async def test_the_log_names_node_and_event_and_holds_no_secret(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await browser.get()
    await browser.post("/login", user="my-mistyped-password", password="wrong-password")
    await browser.log_in()
    session_ids = [browser.cookies[SESSION]]
    await browser.post("/otp", otp="999999")
    await browser.post("/otp", otp="123456")
    session_ids.append(browser.cookies[SESSION])
    records = [vars(record) for record in caplog.records if record.name == "mfalb.reference.user_portal"]
    assert [(record["msg"], record["user"]) for record in records] == [
        ("password refused", "-"),
        ("text sent", "2bd806c9"),
        ("code refused", "2bd806c9"),
        ("signed in", "2bd806c9"),
    ]
    assert {record["node"] for record in records} == {"portal1"}
    logged = repr([vars(record) for record in caplog.records])
    secrets = ["my-mistyped-password", "wrong-password", "right-password", "999999", "123456", "request-1", "alice"]
    assert [secret for secret in secrets + session_ids if secret in logged] == []


async def test_the_style_sheet_is_served(browser: Browser) -> None:
    page = await browser.get("/style.css")
    assert page.status == 200
    assert "body {" in page.text


async def test_whom_nobody_knows_gives_a_phone_and_is_asked_on_it_at_once(browser: Browser, sdk: FakeSdk) -> None:
    sdk.is_known = False
    assert "<h1>Enrol your phone</h1>" in (await browser.log_in()).text
    assert sdk.asked("PfAuthUser_4") == []
    enrolling = browser.cookies[SESSION]
    assert "Enter your code" in (await browser.post("/enrol", phone="+1 555 0101", method="one_way_sms")).text
    assert sdk.asked(*SIGN_IN)[1:] == [("AddUser", "alice", "+1 555 0101", "one_way_sms", "a test"), BEGUN]
    assert browser.cookies[SESSION] != enrolling
    sdk.is_known = True
    assert "Your account" in (await browser.post("/otp", otp="123456")).text


async def enrol(sdk: FakeSdk) -> tuple[Page, float, str]:
    """The page after a newcomer's phone was given, the seconds that it took, and where the browser stands then."""
    browser, now = Browser(new_portal(sdk)), asyncio.get_running_loop().time
    sdk.is_known = False
    await browser.log_in()
    before = now()
    page = await browser.post("/enrol", phone="+1 555 0101", method="one_way_sms")
    took = now() - before
    return page, took, (await browser.get()).text


@pytest.mark.parametrize(("unknown_times", "seconds"), [(0, 0.0), (1, 0.2), (2, 0.5), (4, 2.0)])
def test_a_newcomer_who_is_not_known_at_the_next_server_yet_is_asked_for_again(
    sdk: FakeSdk, unknown_times: int, seconds: float
) -> None:
    sdk.unknown_times = unknown_times
    page, took, _ = run(enrol(sdk))
    assert "Enter your code" in page.text
    assert took == pytest.approx(seconds)
    assert sdk.asked("PfAuthUser_4") == [BEGUN] * (unknown_times + 1)
    assert len(sdk.asked("AddUser")) == 1


def test_a_newcomer_who_stays_unknown_is_told_that_the_servers_do_not_know_yet(sdk: FakeSdk) -> None:
    sdk.unknown_times = 1000
    page, took, next_page = run(enrol(sdk))
    assert (page.status, "not all servers know of it yet" in page.text, "<h1>Sign in</h1>" in page.text) == (
        503,
        True,
        True,
    )
    assert NOT_KNOWN in next_page, "the session has ended"
    assert "not confirmed" not in page.text
    assert took == pytest.approx(2.0)
    assert len(sdk.asked("PfAuthUser_4")) == 5


def test_a_newcomer_whose_call_is_denied_is_not_called_again(sdk: FakeSdk) -> None:
    sdk.begun = NOT_ANSWERED
    page, _, _ = run(enrol(sdk))
    assert (page.status, "not confirmed" in page.text) == (403, True)
    assert len(sdk.asked("PfAuthUser_4")) == 1


async def test_who_is_no_newcomer_and_unknown_at_one_server_is_asked_once(browser: Browser, sdk: FakeSdk) -> None:
    sdk.unknown_times = 1
    page = await browser.log_in()
    assert (page.status, "not confirmed" in page.text) == (403, True)
    assert len(sdk.asked("PfAuthUser_4")) == 1


@pytest.mark.parametrize(
    ("phone", "method", "told"),
    [
        ("", "one_way_sms", "Please type a phone number"),
        ("call me", "one_way_sms", "Please type a phone number"),
        ("+1 555 0101\x00", "one_way_sms", "Please type a phone number"),
        ("+1 555 0101", "carrier_pigeon", "Please choose"),
        ("+1 555 0101", "", "Please choose"),
    ],
)
async def test_who_enrols_has_to_give_a_phone_that_can_be_one(
    browser: Browser, sdk: FakeSdk, phone: str, method: str, told: str
) -> None:
    sdk.is_known = False
    await browser.log_in()
    page = await browser.post("/enrol", phone=phone, method=method)
    assert (page.status, told in page.text, sdk.asked("AddUser")) == (400, True, [])


async def test_nobody_enrols_without_a_session_or_in_one_that_has_a_phone(browser: Browser, sdk: FakeSdk) -> None:
    await browser.get()
    assert (await browser.post("/enrol", phone="+1 555 0101", method="phone_call")).status == 403
    await browser.log_in()
    assert "Enter your code" in (await browser.post("/enrol", phone="+1 555 0101", method="phone_call")).text
    assert sdk.asked("AddUser") == []


async def test_while_the_master_is_away_enrolling_says_so(browser: Browser, sdk: FakeSdk) -> None:
    sdk.is_known, sdk.is_master_there = False, False
    await browser.log_in()
    page = await browser.post("/enrol", phone="+1 555 0101", method="phone_call")
    assert (page.status, "the master server is not available" in page.text) == (503, True)


async def test_a_disabled_user_is_told_so_and_not_asked(browser: Browser, sdk: FakeSdk) -> None:
    sdk.is_enabled = False
    page = await browser.log_in()
    assert (page.status, "switched off for this user" in page.text) == (403, True)
    assert sdk.asked("PfAuthUser_4") == []
    assert SESSION not in browser.cookies


async def test_pages_are_not_kept_by_caches_and_load_nothing_from_elsewhere(browser: Browser) -> None:
    for page in (await browser.get(), await browser.log_in()):
        assert page.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
