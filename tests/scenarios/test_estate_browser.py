"""Promise: people use portal and AD FS in Chromium, behind the balancer, with and without scripts.

Each page is kept as a picture (`build/screenshots/`), for whoever wants to look at it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from playwright.sync_api import Browser, Page, sync_playwright
from programs.mfa_group import USERS, wait_until_level
from programs.perimeter import Perimeter
from programs.process import find_program, wait_until

from mfalb.reference.config.values import User

TEXTED, CALLED = USERS
NEWCOMERS: Final = {name: User(name, f"password-of-{name}", "") for name in ("with_scripts", "without_scripts")}
WAIT_MS: Final = 20_000.0

# What a page lacks for people who do not see well, or do not use a mouse.
FAULTS_OF_PAGE: Final = """() => {
    const faults = [];
    const light = (text) => {
        const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3)
            .map((part) => part / 255).map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (!/, 0\\)$/.test(colour)) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    if (!document.documentElement.lang) faults.push("no lang");
    if (!document.title) faults.push("no title");
    if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
    if (!document.querySelector("main")) faults.push("no main");
    let level = 0;
    for (const heading of document.querySelectorAll("h1, h2, h3")) {
        const own = Number(heading.tagName[1]);
        if (own > level + 1) faults.push("a level of headings left out");
        level = own;
    }
    for (const field of document.querySelectorAll("input:not([type=hidden]), select"))
        if (!field.labels.length) faults.push("no label: " + field.name);
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    if (new Set(ids).size !== ids.length) faults.push("an id twice");
    for (const element of document.querySelectorAll("[aria-describedby]"))
        for (const id of element.getAttribute("aria-describedby").split(" "))
            if (!document.getElementById(id)) faults.push("described by nothing: " + id);
    const texts = "p, label, h1, h2, dt, dd, button, a, span, strong, input, select";
    for (const element of document.querySelectorAll(texts)) {
        const own = element.textContent.trim().slice(0, 30);
        if (element.closest("main") && element.scrollWidth > element.clientWidth + 1 && element.clientWidth)
            faults.push("wider than its place: " + own);
        if (!element.textContent.trim() || element.disabled) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(ground(element))].sort((x, y) => y - x);
        const contrast = (a + 0.05) / (b + 0.05);
        if (contrast < 4.5) faults.push("contrast " + contrast.toFixed(1) + ": " + own);
    }
    if (document.documentElement.scrollWidth > innerWidth) faults.push("wider than the window");
    return faults;
}"""


@dataclass
class Visitor:
    """Somebody at a browser, and the pictures of what they saw."""

    page: Page
    pictures: Path
    name: str

    def look(self, name: str) -> None:
        """Keep pictures (without what is secret on them), and look whether all can use the page, on phones too."""
        for kind, width in (("", 900), ("-phone", 360)):
            self.page.set_viewport_size({"width": width, "height": 800})
            secret = [self.page.locator(".secret")]
            self.page.screenshot(
                path=self.pictures / f"{name}{kind}.png", full_page=True, mask=secret, mask_color="black"
            )
            assert self.page.evaluate(FAULTS_OF_PAGE) == [], f"{name}{kind}"

    def submit_by_keyboard(self, **typed: str) -> None:
        """Fill in the fields and press Enter in the last one."""
        for name, text in typed.items():
            self.page.fill(f"input[name={name}]", text)
        self.page.press(f"input[name={list(typed)[-1]}]", "Enter")


def spki(certificate: Path) -> str:
    """What Chromium is told to believe: this key, whoever signed for it."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    form = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(form).digest()).decode()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perimeter]:
    with Perimeter(tmp_path_factory.mktemp("perimeter"), newcomers=tuple(NEWCOMERS.values())) as running:
        yield running


@pytest.fixture(scope="module")
def browser(site: Perimeter) -> Iterator[Browser]:
    options = ["--no-sandbox", f"--ignore-certificate-errors-spki-list={spki(site.certificate.cert)}"]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=find_program("chromium"), args=options)
        yield chromium
        chromium.close()


@pytest.fixture(params=[True, False], ids=["with_scripts", "without_scripts"])
def visitor(request: pytest.FixtureRequest, browser: Browser, pictures: Path) -> Iterator[Visitor]:
    options: dict[str, Any] = {"java_script_enabled": request.param, "viewport": {"width": 900, "height": 800}}
    context = browser.new_context(**options)
    context.set_default_timeout(WAIT_MS)
    yield Visitor(context.new_page(), pictures, "with_scripts" if request.param else "without_scripts")
    context.close()


def test_the_look_at_a_page_sees_what_is_wrong_with_one(visitor: Visitor) -> None:
    visitor.page.set_content(
        "<main><h1>A</h1><h3>B</h3><form><input name=x></form><p style='color: #999'>pale</p>"
        "<p style='width: 2em; white-space: nowrap'>much too long</p><input aria-describedby=nobody></main>"
    )
    found = visitor.page.evaluate(FAULTS_OF_PAGE)
    assert found == [
        "no lang",
        "no title",
        "a level of headings left out",
        "no label: x",
        "no label: ",
        "described by nothing: nobody",
        "contrast 2.8: pale",
        "wider than its place: much too long",
    ]


def test_a_user_signs_in_at_the_portal_and_changes_settings(site: Perimeter, visitor: Visitor) -> None:
    page, texts = visitor.page, len(site.group.codes(TEXTED.name))
    page.goto(site.portal_url)
    visitor.look("1-sign-in")
    visitor.submit_by_keyboard(user=TEXTED.name, password="wrong")
    page.wait_for_selector("[role=alert]")
    visitor.look("2-wrong-password")
    visitor.submit_by_keyboard(user=TEXTED.name, password=TEXTED.password)
    page.wait_for_selector("input[name=otp]")
    visitor.look("3-code")
    visitor.submit_by_keyboard(otp=site.code(TEXTED.name, texts + 1))
    page.wait_for_selector("text=Your account")
    visitor.look("4-account")
    page.click("text=Allow one sign-in")
    page.wait_for_selector("[role=status]")
    assert "For 300 seconds" in page.inner_text("[role=status]")
    page.click("text=Get an activation code")
    page.wait_for_selector(".secret")
    visitor.look("5-activation-code")
    page.click("text=Sign out")
    page.wait_for_selector("text=You have signed out.")
    visitor.look("6-signed-out")
    wait_until_level(*site.mfa_servers)
    visitor.submit_by_keyboard(user=TEXTED.name, password=TEXTED.password)
    page.wait_for_selector("text=Your account")
    assert len(site.group.codes(TEXTED.name)) == texts + 1, "the bypass was good for one sign-in"


def test_a_newcomer_enrols_and_gets_a_user_pin(site: Perimeter, visitor: Visitor) -> None:
    page, user = visitor.page, NEWCOMERS[visitor.name]
    page.goto(site.portal_url)
    visitor.submit_by_keyboard(user=user.name, password=user.password)
    page.wait_for_selector("input[name=phone]")
    visitor.look("1-enrol")
    visitor.submit_by_keyboard(phone="99")
    page.wait_for_selector("[role=alert]")
    visitor.look("2-no-phone")
    visitor.submit_by_keyboard(phone="+1 555 0199")
    page.wait_for_selector("input[name=otp]")
    visitor.submit_by_keyboard(otp=site.code(user.name, 1))
    page.wait_for_selector("text=Your account")
    visitor.submit_by_keyboard(new="4711", again="4711")
    page.wait_for_selector("text=Your user PIN was changed.")
    visitor.look("3-user-pin")
    page.select_option("select[name=method]", "phone_call")
    page.click("text=Save phone")
    page.wait_for_selector("text=Your phone and the way to be asked were changed.")
    wait_until_level(*site.mfa_servers)


def test_a_user_signs_in_at_ad_fs_and_comes_back_to_the_application(site: Perimeter, visitor: Visitor) -> None:
    page, texts = visitor.page, len(site.group.codes(TEXTED.name))
    page.goto(site.party_url)
    visitor.look("1-application")
    page.click("text=Sign in with your Contoso account")
    page.wait_for_selector("input[name=password]")
    visitor.look("2-password")
    visitor.submit_by_keyboard(user=TEXTED.name, password=TEXTED.password)
    page.wait_for_selector("input[name=otp]")
    visitor.look("3-code")
    visitor.submit_by_keyboard(otp=site.code(TEXTED.name, texts + 1))
    page.wait_for_selector("text=You are signed in")
    visitor.look("4-signed-in")
    page.click("text=Go on to expenses")
    page.wait_for_selector("text=Welcome")
    visitor.look("5-welcome")
    assert page.url == f"{site.party_url}/"
    assert page.inner_text("strong") == TEXTED.name


def test_the_portal_says_that_it_is_read_only_while_the_master_is_away(site: Perimeter, visitor: Visitor) -> None:
    page, (master, slave) = visitor.page, site.mfa_servers
    master.kill()
    try:
        wait_until(lambda: not slave.status()["is_master_reached"], "the slave to have noticed", deadline_s=30)
        wait_until(lambda: site.balancer.backend("sdk", master.name)["health"] == "down", "its check")
        page.goto(site.portal_url)
        visitor.submit_by_keyboard(user=CALLED.name, password=CALLED.password)
        page.wait_for_selector("text=Your account")
        assert page.inner_text("[role=status]").startswith("Read-only:")
        assert page.is_disabled("text=Save phone")
        visitor.look("read-only")
    finally:
        master.start()
    wait_until(lambda: site.balancer.backend("sdk", master.name)["health"] == "up", "its check")
    wait_until(lambda: bool(slave.status()["is_master_reached"]), "the slave to have its master back", deadline_s=30)
