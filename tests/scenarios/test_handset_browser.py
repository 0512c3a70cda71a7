"""Promise: a person at a browser answers the phones of the cloud, with JavaScript and without.

What the pages looked like is kept as pictures (`build/screenshots/`), without the codes on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from programs.handset import Handsets
from programs.process import find_program
from programs.reference_service import ReferenceService

from mfalb.reference.config.cloud import Answering, CloudSettings
from mfalb.reference.config.values import UserPin
from mfalb.wire.pfp_message import (
    PATH,
    CallStatus,
    PfpMode,
    PfpPin,
    PfpRequest,
    PfpResponse,
    read_response_untrusted,
    request_xml,
)

PIN: Final = "2468013579"
WAIT_MS: Final = 20_000.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=find_program("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@dataclass
class Town:
    """The cloud, an MFA Server's side of it, and people with browsers."""

    handsets: Handsets
    browser: Browser
    pool: ThreadPoolExecutor
    pictures: Path

    def asked(self, mode: PfpMode, user: str = "alice") -> Future[PfpResponse]:
        """What an MFA Server asks, in a thread of its own: the answer comes when the phone was answered."""
        pin = UserPin.of(PIN)
        wanted = PfpRequest("7", mode, user, "+1 555 0101", "mfa1", "", PfpPin(pin.salt, pin.digest, pin.cost), "token")
        return self.pool.submit(self._ask, request_xml(wanted))

    def _ask(self, body: bytes) -> PfpResponse:
        request = Request(self.handsets.url + PATH, body, {"Content-Type": "text/xml"})  # noqa: S310 - http
        with urlopen(request, timeout=60) as response:  # noqa: S310 - the same
            return read_response_untrusted(response.read())

    def page(self, user: str = "alice", *, has_script: bool = True) -> Page:
        context = self.browser.new_context(java_script_enabled=has_script, viewport={"width": 480, "height": 800})
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.goto(f"{self.handsets.url}/handset/{user}")
        return page

    def picture(self, page: Page, name: str) -> None:
        codes = [page.locator(".code"), page.locator(".messages li")]
        page.screenshot(path=self.pictures / f"{name}.png", full_page=True, mask=codes, mask_color="black")


@pytest.fixture
def town(browser: Browser, tmp_path: Path, pictures: Path) -> Iterator[Town]:
    settings = CloudSettings(answering=Answering.MANUAL)
    # The cloud goes first: then nobody waits for a phone that rings on
    with ThreadPoolExecutor(4) as pool, ReferenceService("cloud", "cloud_service", settings, tmp_path) as cloud:
        yield Town(Handsets(cloud.port("http")), browser, pool, pictures)
        for context in browser.contexts:
            context.close()
        assert PIN not in cloud.log()


@pytest.mark.parametrize("has_script", [True, False])
@pytest.mark.parametrize(
    "answer",
    [
        (PfpMode.STANDARD, "Press #", None, CallStatus.NO_PIN_ENTERED),
        (PfpMode.PIN, "Press #", PIN, CallStatus.PIN_ENTERED),
        (PfpMode.PIN, "Press #", "1357", CallStatus.WRONG_PIN),
        (PfpMode.PIN, "Hang up", None, CallStatus.USER_HUNG_UP),
        (PfpMode.PHONE_APP_STANDARD, "Verify", None, CallStatus.NO_PIN_ENTERED),
        (PfpMode.PHONE_APP_STANDARD, "Deny", None, CallStatus.APP_DENIED),
        (PfpMode.PHONE_APP_PIN, "Report fraud", None, CallStatus.FRAUD_REPORTED),
    ],
)
def test_what_rings_is_answered_by_its_buttons(
    town: Town, answer: tuple[PfpMode, str, str | None, CallStatus], *, has_script: bool
) -> None:
    mode, button, typed, status = answer
    title = "Incoming call" if mode in (PfpMode.STANDARD, PfpMode.PIN) else "Sign-in request"
    asked = town.asked(mode)
    town.handsets.wait_for_ring("alice")
    page = town.page(has_script=has_script)
    expect(page.get_by_role("heading", name=title)).to_be_visible()
    town.picture(page, "ringing")
    if typed is not None:
        page.get_by_label("User PIN").fill(typed)
    page.get_by_role("button", name=button).click()
    expect(page.get_by_text("Nothing rings.")).to_be_visible()
    town.picture(page, "answered")
    assert asked.result(60).call_status == status
    assert town.handsets.counters()["calls"] == {"alice": 1}


def test_a_two_way_text_is_answered_with_its_code_and_the_user_pin(town: Town) -> None:
    asked = town.asked(PfpMode.SMS_TWO_WAY_OTP_PLUS_PIN)
    code = town.handsets.wait_for_ring("alice")["code"]
    page = town.page()
    town.picture(page, "text")
    page.get_by_label("Reply").fill(code + PIN)
    page.get_by_role("button", name="Send reply").click()
    assert asked.result(60).call_status == CallStatus.PIN_ENTERED


def test_a_page_that_is_open_shows_by_itself_what_rings_and_takes_nothing_away_that_is_being_typed(town: Town) -> None:
    page = town.page()
    expect(page.get_by_text("Nothing rings.")).to_be_visible()
    asked = town.asked(PfpMode.PIN)
    page.get_by_label("User PIN").fill("24")
    texted = town.asked(PfpMode.SMS_ONE_WAY_OTP)
    assert texted.result(60).otp is not None
    page.wait_for_timeout(2500)  # the script has looked at least once more
    expect(page.get_by_label("User PIN")).to_have_value("24")
    page.get_by_label("User PIN").fill(PIN)
    page.get_by_role("button", name="Press #").click()
    assert asked.result(60).call_status == CallStatus.PIN_ENTERED
    expect(page.get_by_text("Your verification code is")).to_be_visible()


def test_what_is_ignored_leaves_the_page_and_rings_on(town: Town) -> None:
    asked = town.asked(PfpMode.STANDARD)
    town.handsets.wait_for_ring("alice")
    page = town.page()
    page.get_by_role("button", name="Ignore").click()
    expect(page.get_by_text("Nothing rings.")).to_be_visible()
    assert not asked.done()


def test_a_phone_can_be_told_to_answer_by_itself(town: Town) -> None:
    page = town.page()
    page.get_by_role("button", name="Let it answer by itself").click()
    expect(page.get_by_text("The phone answers by itself")).to_be_visible()
    town.picture(page, "auto")
    assert town.asked(PfpMode.STANDARD).result(60).is_authenticated


def test_an_answer_to_another_phone_or_to_one_that_has_stopped_ringing_is_told(town: Town) -> None:
    asked = town.asked(PfpMode.STANDARD)
    town.handsets.wait_for_ring("alice")
    first, second = town.page(), town.page(has_script=False)
    first.get_by_role("button", name="Press #").click()
    expect(first.get_by_text("Nothing rings.")).to_be_visible()
    second.get_by_role("button", name="Hang up").click()
    expect(second.get_by_role("alert")).to_have_text("It has stopped ringing.")
    assert asked.result(60).is_authenticated


def test_a_users_markup_is_text_and_a_field_has_its_label_and_the_page_its_language(town: Town) -> None:
    asked = town.asked(PfpMode.PIN, "<b>bob & co")
    page = town.page("%3Cb%3Ebob%20&%20co")
    expect(page.get_by_role("heading", level=1)).to_have_text("Handset of <b>bob & co")
    page.get_by_label("User PIN").fill(PIN)
    page.get_by_role("button", name="Press #").click()
    assert asked.result(60).is_authenticated
    assert page.get_attribute("html", "lang") == "en"
    assert page.locator("h1").count() == 1
