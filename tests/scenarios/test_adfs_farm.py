"""Promise: both halves of a one-way-SMS sign-in at AD FS may be served by different nodes, and it completes.

The nodes stand behind TLS that passes through, keep nothing, and call the one balanced URL of the Web Service SDK.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs.form_browser import FormBrowser
from programs.mfa_group import USERS
from programs.perimeter import UNPINNED, Perimeter
from programs.process import wait_until

TEXTED, CALLED = USERS
SIGN_INS = 12


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Perimeter]:
    with Perimeter(tmp_path_factory.mktemp("perimeter")) as running:
        yield running


@pytest.fixture
def browser(site: Perimeter) -> Iterator[FormBrowser]:
    with FormBrowser(site.certificate.ca) as visitor:
        yield visitor


def first_half(site: Perimeter, browser: FormBrowser) -> str:
    """From the application to the page that asks for a code; returns the node that asked the phone."""
    browser.get(f"{site.party_url}/signin")
    texts = len(site.group.codes(TEXTED.name))
    page = browser.submit(user=TEXTED.name, password=TEXTED.password)
    assert "Enter your code" in page.text, page.text
    site.code(TEXTED.name, texts + 1)
    return page.served_by


def second_half(site: Perimeter, browser: FormBrowser) -> str:
    """The code; returns the node that took it."""
    return browser.submit(otp=site.group.codes(TEXTED.name)[0]).served_by


def test_halves_on_different_nodes_make_a_sign_in_that_the_application_accepts(
    site: Perimeter, browser: FormBrowser
) -> None:
    pairs = []
    for _ in range(SIGN_INS):
        first = first_half(site, browser)
        pairs.append((first, second_half(site, browser)))
        assert "You are signed in" in browser.page.text, browser.page.text
        assert f"You are signed in as <strong>{TEXTED.name}</strong>" in browser.submit().text
        assert browser.page.url == f"{site.party_url}/"
        browser.submit("/signout")
    assert any(first != second for first, second in pairs), "no sign-in had its halves on two nodes"
    assert {node for pair in pairs for node in pair} == {"adfs1", "adfs2"}
    assert len(site.group.codes(TEXTED.name)) == SIGN_INS, "each sign-in is one text"


def test_without_pins_about_half_of_the_sign_ins_fail(tmp_path: Path) -> None:
    with (
        Perimeter(tmp_path, affinity=UNPINNED) as unpinned,
        FormBrowser(unpinned.certificate.ca) as browser,
        FormBrowser(unpinned.certificate.ca) as other,
    ):
        good, chance = 0, random.Random(6)  # noqa: S311 - the same turns in each run
        for _ in range(SIGN_INS):
            first_half(unpinned, browser)
            for _ in range(chance.randrange(2)):  # somebody else is about, and takes a turn of the round robin
                other.get(f"{unpinned.party_url}/signin")
                assert other.submit(user="somebody", password="wrong").status == 403
            second_half(unpinned, browser)
            good += "You are signed in" in browser.page.text
    assert 0 < good < SIGN_INS, "round robin takes some second halves back by chance, and others not"


def test_an_answered_call_needs_no_second_page(site: Perimeter, browser: FormBrowser) -> None:
    browser.get(f"{site.party_url}/signin")
    assert "You are signed in" in browser.submit(user=CALLED.name, password=CALLED.password).text
    assert f"<strong>{CALLED.name}</strong>" in browser.submit().text


def test_a_wrong_code_is_refused_and_the_right_one_taken_after_it(site: Perimeter, browser: FormBrowser) -> None:
    first_half(site, browser)
    code = site.group.codes(TEXTED.name)[0]
    wrong = browser.submit(otp="000000" if code != "000000" else "111111")
    assert (wrong.status, "The code was not accepted." in wrong.text) == (403, True)
    assert "You are signed in" in browser.submit(otp=code).text


def test_a_code_is_good_once_at_whatever_node(site: Perimeter, browser: FormBrowser) -> None:
    first_half(site, browser)
    code_page = browser.page
    second_half(site, browser)
    assert "You are signed in" in browser.page.text
    for _ in range(2):
        browser.page = code_page
        assert second_half(site, browser)
        assert (browser.page.status, "The code was not accepted." in browser.page.text) == (403, True)


def test_a_token_is_taken_once_and_by_the_browser_that_asked_for_it_only(site: Perimeter, browser: FormBrowser) -> None:
    browser.get(f"{site.party_url}/signin")
    browser.submit(user=CALLED.name, password=CALLED.password)
    stolen = browser.page
    with FormBrowser(site.certificate.ca) as thief:
        thief.get(f"{site.party_url}/signin")
        thief.page = stolen
        assert (thief.submit().status, "was not accepted" in thief.page.text) == (403, True)
    assert f"<strong>{CALLED.name}</strong>" in browser.submit().text
    browser.page = stolen
    assert browser.submit().status == 403


def test_nobody_is_sent_to_an_address_that_the_settings_do_not_name(site: Perimeter, browser: FormBrowser) -> None:
    begun = browser.session.get(f"{site.party_url}/signin", allow_redirects=False, timeout=20).headers["Location"]
    good = f"localhost%3A{site.party_url.rpartition(':')[2]}%2Ftoken"
    assert good in begun
    for other in (
        "evil.example%2Ftoken",
        f"{good}%2F..%2Fx",
        f"{good}%3Fx%3D1",
        good.replace("localhost", "LOCALHOST"),
    ):
        page = browser.get(begun.replace(good, other))
        assert (page.status, "<form" in page.text) == (400, False)


def test_when_the_server_that_sent_the_code_is_gone_the_user_is_told_and_begins_again(tmp_path: Path) -> None:
    with Perimeter(tmp_path) as site, FormBrowser(site.certificate.ca) as browser:
        first_half(site, browser)
        text_sent_by = {"mfa1": 0, "mfa2": 0}
        for server in site.mfa_servers:
            text_sent_by[server.name] = server.program.log().count("first half")
        gone = next(server for server in site.mfa_servers if text_sent_by[server.name])
        gone.kill()
        wait_until(lambda: site.balancer.backend("sdk", gone.name)["health"] == "down", "its check")
        second_half(site, browser)
        assert (browser.page.status, "The sign-in service is not available." in browser.page.text) == (503, True)
        first_half(site, browser)
        second_half(site, browser)
        assert "You are signed in" in browser.page.text
