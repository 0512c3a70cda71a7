"""Promise: a portal session stays on the portal that began it, and only there it can.

The browser is curl with a cookie jar.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest_asyncio
from programs.balanced_estate import TEXTED, BalancedEstate, balanced_estate
from programs.process import wait_until

from mfalb.reference.config.values import User


@pytest_asyncio.fixture
async def balanced(tmp_path: Path) -> AsyncIterator[BalancedEstate]:
    async with balanced_estate(tmp_path, portals=2) as running:
        yield running


@dataclass(frozen=True, slots=True)
class Page:
    """A page, and the portal that made it."""

    served_by: str
    text: str

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.text)
        assert found is not None, "the page has no form"
        return found.group(1)


class Browser:
    """curl with a cookie jar of its own."""

    def __init__(self, url: str, jar: Path) -> None:
        self._url = url
        self.jar = jar

    async def get(self, path: str = "") -> Page:
        return await self._curl(path)

    async def post(self, path: str, **form: str) -> Page:
        fields = [word for name, value in form.items() for word in ("--data-urlencode", f"{name}={value}")]
        return await self._curl(path, *fields)

    async def _curl(self, path: str, *options: str) -> Page:
        curl = await asyncio.create_subprocess_exec(
            *("curl", "-s", "-i", "-b", str(self.jar), "-c", str(self.jar), *options, self._url + path),
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await asyncio.wait_for(curl.communicate(), 20)
        head, _, body = output.decode().partition("\r\n\r\n")
        served_by = re.search(r"X-Served-By: (\S+)", head)
        assert served_by is not None, head
        return Page(served_by.group(1), body)


async def sign_in(balanced: BalancedEstate, browser: Browser, user: User) -> Page:
    """Password, code, account page; returns the last."""
    login = await browser.get()
    waiting = await browser.post("login", user=user.name, password=user.password, csrf=login.csrf)
    assert waiting.served_by == login.served_by
    (code, *_) = await balanced.estate.cloud.codes(user.name)
    await browser.post("otp", otp=code, csrf=waiting.csrf)
    return await browser.get()


async def test_sessions_are_spread_over_the_portals_and_each_stays_where_it_began(
    balanced: BalancedEstate, tmp_path: Path
) -> None:
    homes = []
    for number, user in enumerate(TEXTED[:4]):
        browser = Browser(balanced.portal_url, tmp_path / f"jar{number}")
        account = await sign_in(balanced, browser, user)
        assert user.name in account.text
        assert {(await browser.get()).served_by for _ in range(5)} == {account.served_by}
        homes.append(account.served_by)
    assert sorted(set(homes)) == ["portal1", "portal2"]
    assert await balanced.estate.cloud.texts_sent() == {user.name: 1 for user in TEXTED[:4]}


async def test_the_cookie_names_no_server_and_a_forged_one_is_only_balanced_anew(
    balanced: BalancedEstate, tmp_path: Path
) -> None:
    browser = Browser(balanced.portal_url, tmp_path / "jar")
    account = await sign_in(balanced, browser, TEXTED[0])
    jar = browser.jar.read_text("utf-8")
    found = re.search(r"\tmfalb\t(\S+)", jar)
    assert found is not None
    value = found.group(1)
    assert account.served_by not in jar
    forged = value[:-1] + ("A" if value[-1] != "A" else "B")
    browser.jar.write_text(jar.replace(value, forged), "utf-8")
    assert (await browser.get()).served_by in {"portal1", "portal2"}
    log = balanced.balancer.log
    # The access log is written four times a second
    await asyncio.to_thread(wait_until, lambda: " pin=II " in log(), "the forged cookie in the access log")
    assert value not in log()


async def test_without_the_balancers_cookie_a_session_is_not_known_to_the_other_portal(
    balanced: BalancedEstate, tmp_path: Path
) -> None:
    browser = Browser(balanced.portal_url, tmp_path / "jar")
    await sign_in(balanced, browser, TEXTED[0])
    lines = browser.jar.read_text("utf-8").splitlines(keepends=True)
    pages = []
    for _ in range(4):  # each time without the pin, which is what a balancer without affinity would see
        browser.jar.write_text("".join(line for line in lines if "\tmfalb\t" not in line), "utf-8")
        pages.append(await browser.get())
    unknown = [page for page in pages if "not known to this server" in page.text]
    assert len(unknown) == 2, "round robin shows every other request to the portal that does not know the session"


async def test_when_a_portal_dies_its_users_sign_in_again_on_the_other(
    balanced: BalancedEstate, tmp_path: Path
) -> None:
    browser = Browser(balanced.portal_url, tmp_path / "jar")
    account = await sign_in(balanced, browser, TEXTED[0])
    portal = next(portal for portal in balanced.estate.portals if portal.name == account.served_by)
    await portal.kill()
    again = await browser.get()
    assert again.served_by != account.served_by
    assert (await sign_in(balanced, browser, TEXTED[1])).served_by == again.served_by
