"""The demonstration's three sign-ins, made as the real callers make them.

RADIUS: a NAS that sends half two from another socket. SDK: two calls on two connections without cookies, as two AD FS
nodes would. Portal: a browser with a cookie jar.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

import aiohttp

from mfalb.cli.demo_failures import SignInFailed
from mfalb.cli.demo_radius import Nas
from mfalb.cli.demo_setup import Site
from mfalb.reference.config.values import User
from mfalb.reference.estate import Cloud, Estate, Service
from mfalb.wire.soap import Envelope, read_envelope_untrusted

_CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')
_SERVED_BY: Final = "X-Served-By"


@dataclass(frozen=True, slots=True)
class Halves:
    """Which server took which half of a sign-in."""

    first: str
    second: str


class ServerLogs:
    """What MFA Servers say in their logs of who took which half; answers of RADIUS and AD FS do not tell."""

    def __init__(self, servers: Mapping[str, Service]) -> None:
        self._servers = servers

    def mark(self) -> dict[str, int]:
        """Where the logs end now, for `since`."""
        return {name: len(server.log_text()) for name, server in self._servers.items()}

    def since(self, mark: dict[str, int]) -> Halves:
        """Who took the halves since then; `?` where nobody did."""
        took = {"first half": "?", "second half": "?"}
        for name, server in self._servers.items():
            for event in took:
                if event in server.log_text()[mark[name] :]:
                    took[event] = name
        return Halves(took["first half"], took["second half"])


class Demonstration:
    """Signs users in through the balancer."""

    def __init__(self, site: Site, estate: Estate) -> None:
        self._site = site
        self._estate = estate
        self._logs = ServerLogs({server.name: server for server in estate.mfa_servers})
        self._nas = Nas(site.radius_port, site.radius_secret)
        self._tls = ssl.create_default_context(cafile=str(site.ca))

    async def radius(self, user: User) -> Halves:
        """PAP with the password, an Access-Challenge, then the code with the State."""
        mark = self._logs.mark()
        state = await self._nas.challenge(user.name, user.password)
        await self._nas.accept(user.name, await newest_code(self._estate.cloud, user.name), state)
        return self._logs.since(mark)

    async def sdk(self, user: User) -> Halves:
        """PfAuthUser_4 on one connection, the code on another, no cookies."""
        name = escape(user.name)
        first, begun = await self._call(
            "PfAuthUser_4", f"<username>{name}</username><authenticationType>adfs</authenticationType>"
        )
        request_id = begun.texts.get("authreqid", "")
        code = await newest_code(self._estate.cloud, user.name)
        second, ended = await self._call(
            "VerifyOneWayOtp",
            f"<username>{name}</username><authreqid>{escape(request_id)}</authreqid><otp>{code}</otp>",
        )
        if ended.texts.get("VerifyOneWayOtpResult") != "true":
            raise SignInFailed(f"SDK: the code of {user.name} was not accepted")
        return Halves(first, second)

    async def _call(self, method: str, parameters: str) -> tuple[str, Envelope]:
        """One SOAP call on a connection of its own; returns the server that answered, and what it said."""
        namespace = "http://www.phonefactor.com/PfWsSdk"
        body = (
            '<?xml version="1.0" encoding="utf-8"?>'
            '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>'
            f'<{method} xmlns="{namespace}">{parameters}</{method}></soap:Body></soap:Envelope>'
        )
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{namespace}/{method}"'}
        headers["Authorization"] = self._site.account.authorization
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._site.sdk_url, data=body, headers=headers, ssl=self._tls) as response,
        ):
            if response.status != 200:  # noqa: PLR2004 - OK
                raise SignInFailed(f"SDK: {method} answered {response.status}")
            return response.headers[_SERVED_BY], read_envelope_untrusted(await response.read())

    async def portal(self, user: User) -> Halves:
        """The login form, the code's form and the account page, with one cookie jar."""
        async with aiohttp.ClientSession() as browser:
            _, page = await self._page(browser, "", None)
            first, page = await self._page(
                browser, "login", {"user": user.name, "password": user.password, "csrf": _csrf(page)}
            )
            code = await newest_code(self._estate.cloud, user.name)
            await self._page(browser, "otp", {"otp": code, "csrf": _csrf(page)})
            second, page = await self._page(browser, "", None)
        if f"Served by {second}" not in page:
            raise SignInFailed(f"portal: {user.name} is not signed in")
        return Halves(first, second)

    async def _page(self, browser: aiohttp.ClientSession, path: str, form: dict[str, str] | None) -> tuple[str, str]:
        url = self._site.portal_url + path
        method = "GET" if form is None else "POST"
        async with browser.request(method, url, data=form, ssl=self._tls) as response:
            return response.headers.get(_SERVED_BY, "?"), await response.text()


def _csrf(page: str) -> str:
    found = _CSRF.search(page)
    if found is None:
        raise SignInFailed("portal: the page has no form")
    return found.group(1)


async def newest_code(cloud: Cloud, user: str) -> str:
    """The code that the user reads on the phone."""
    codes = await cloud.codes(user)
    if not codes:
        raise SignInFailed(f"no text was sent to {user}")
    return codes[0]
