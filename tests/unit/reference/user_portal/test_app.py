from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from itertools import count
from unittest.mock import Mock
from urllib.parse import urlencode

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from mfalb.reference.config.values import User
from mfalb.reference.directory import Directory
from mfalb.reference.user_portal.app import Portal
from mfalb.reference.user_portal.sdk_client import SdkUnavailable
from mfalb.reference.user_portal.sdk_messages import Begun
from mfalb.reference.user_portal.sessions import Sessions

TEXT_SENT = Begun(is_authenticated=False, is_text_sent=True, request_id="request-1")
ANSWERED = Begun(is_authenticated=True, is_text_sent=False, request_id="request-1")
NOT_ANSWERED = Begun(is_authenticated=False, is_text_sent=False, request_id="request-1")
NOT_KNOWN = "Your session is not known to this server (portal1). Please sign in."
DIRECTORY = Directory([User("alice", "right-password", "+1 555 0101")])
SESSION = "ASP.NET_SessionId"


@dataclass
class FakeSdk:
    """Sends no texts: what it answers is set by the test, and what it was asked is kept."""

    begun: Begun = TEXT_SENT
    code: str = "123456"
    is_available: bool = True
    calls: list[tuple[str, ...]] = field(default_factory=list)
    asked_to_verify: asyncio.Event = field(default_factory=asyncio.Event)
    may_verify: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_verify.set()

    async def begin(self, user: str) -> Begun:
        self.calls.append(("begin", user))
        return self._answer(self.begun)

    async def verify(self, user: str, request_id: str, otp: str) -> bool:
        self.calls.append(("verify", user, request_id))
        self._answer(self.begun)
        self.asked_to_verify.set()
        await self.may_verify.wait()
        return otp == self.code

    def _answer(self, begun: Begun) -> Begun:
        if not self.is_available:
            raise SdkUnavailable("timeout")
        return begun


@dataclass
class Page:
    status: int
    text: str
    set_cookies: SimpleCookie
    served_by: str


class Browser:
    """Asks a portal's application without a socket, and keeps its cookies as a browser does."""

    def __init__(self, portal: Portal, headers: dict[str, str] | None = None) -> None:
        self.cookies: dict[str, str] = {}
        self.headers = headers or {}
        self.page = Page(0, "", SimpleCookie(), "")
        self.use(portal)

    def use(self, portal: Portal) -> None:
        """Go on with another portal, as without stickiness."""
        self._application = portal.application()
        self._application.freeze()

    async def get(self, path: str = "/") -> Page:
        return await self._ask("GET", path, b"")

    async def post(self, path: str, **fields: str) -> Page:
        """Post a form with the token of the page that is open, or another."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.page.text)
        fields = {"csrf": found.group(1) if found else ""} | fields
        return await self._ask("POST", path, urlencode(fields).encode())

    async def log_in(self, password: str = "right-password") -> Page:
        await self.get()
        return await self.post("/login", user="alice", password=password)

    async def _ask(self, method: str, path: str, body: bytes) -> Page:
        payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
        payload.feed_data(body)
        payload.feed_eof()
        headers = self.headers | {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        path = f"/MultiFactorAuth{path}"
        request = make_mocked_request(
            method, path, headers, app=self._application, payload=payload, client_max_size=2**14
        )
        response = await self._application._handle(request)
        assert isinstance(response, web.Response)
        await self._application.on_response_prepare.send(request, response)
        for name, morsel in response.cookies.items():
            if morsel.get("max-age") == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        self.page = Page(response.status, response.text or "", response.cookies, response.headers["X-Served-By"])
        return self.page


@pytest.fixture
def sdk() -> FakeSdk:
    return FakeSdk()


def new_portal(sdk: FakeSdk, name: str = "portal1") -> Portal:
    numbers = count(1)
    return Portal(name, DIRECTORY, sdk, Sessions(lambda: 0.0, lambda: f"{name}-{next(numbers)}".ljust(43, "x")))


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
    assert sdk.calls == [("begin", "alice"), ("verify", "alice", "request-1")]


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
    assert sdk.calls == []


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
    assert sdk.calls == [("begin", "alice")]


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
    browser.use(new_portal(sdk, "portal2"))
    page = await browser.post("/otp", otp="123456")
    assert (page.status, page.served_by) == (403, "portal2")
    assert "Your session is not known to this server (portal2). Please sign in." in page.text
    assert sdk.calls == [("begin", "alice")]


async def test_the_login_form_of_one_portal_may_be_posted_to_another(browser: Browser, sdk: FakeSdk) -> None:
    await browser.get()
    browser.use(new_portal(sdk, "portal2"))
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
    assert sdk.calls == [("begin", "alice")]
    assert "Enter your code" in (await browser.get()).text


async def test_forms_that_the_browser_calls_foreign_do_nothing(portal: Portal, sdk: FakeSdk) -> None:
    browser = Browser(portal, {"Sec-Fetch-Site": "same-site"})
    assert (await browser.log_in()).status == 403
    assert sdk.calls == []


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
    sdk.is_available = False
    page = await browser.log_in()
    assert page.status == 503
    assert "The sign-in service is not available." in page.text
    sdk.is_available = True
    await browser.log_in()
    sdk.is_available = False
    page = await browser.post("/otp", otp="123456")
    assert page.status == 503
    assert "The sign-in service is not available." in page.text
    sdk.is_available = True
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
    page = await browser.get("/portal.css")
    assert page.status == 200
    assert "body {" in page.text
