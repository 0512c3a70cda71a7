"""Sign-ins at the whole deployment, as its users make them: at AD FS, at the portal, at the VPN, and with the app."""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp

from mfalb.cli.demo_browser import DemoBrowser, Page
from mfalb.cli.demo_failures import SignInFailed
from mfalb.cli.demo_radius import Nas
from mfalb.cli.demo_sign_ins import Halves, ServerLogs, newest_code
from mfalb.cli.loopback import HOST, users
from mfalb.cli.running_deployment import RunningDeployment

SDK_PATH: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
PORTAL_PATH: Final = "/MultiFactorAuth/"
APP_PATH: Final = "/MultiFactorAuthMobileAppWebService/PfPaWs.asmx"
TEXTED: Final = "alice"  # the user who is asked by one-way SMS
READ_ONLY: Final = "Read-only:"
_RADIUS_PORT: Final = 1812
_DEVICE_PORT: Final = 49443
_random = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Signed:
    """Who took the halves of a sign-in at AD FS: nodes of the farm, and MFA Servers behind them."""

    nodes: Halves
    servers: Halves


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where people and machines outside reach the deployment."""

    application: str
    portal: str
    app: str
    sdk: str
    devices: str  # AD FS for clients with certificates
    radius_port: int


def addresses_of(running: RunningDeployment) -> Addresses:
    """The balanced addresses on this machine."""
    moved, deployment = running.moved, running.deployment
    return Addresses(
        application=moved.url("expenses.contoso.com", "/"),
        portal=moved.url("mfa.contoso.com", PORTAL_PATH),
        app=moved.url("mfa.contoso.com", APP_PATH),
        sdk=moved.url("mfaapp.contoso.com", SDK_PATH),
        devices=f"https://{HOST}:{moved.port(deployment.addresses['sts.contoso.com'], _DEVICE_PORT)}",
        radius_port=moved.port(deployment.addresses["mfaapp.contoso.com"], _RADIUS_PORT),
    )


class HaSignIns:
    """Signs users in at a running deployment."""

    def __init__(self, running: RunningDeployment) -> None:
        clients = running.folder / "clients"
        self._running = running
        self._addresses = addresses_of(running)
        self._tls = ssl.create_default_context(cafile=str(clients / "tls" / "contoso-ca.pem"))
        self._nas = Nas(self._addresses.radius_port, (clients / "secrets" / "vpn").read_text("ascii").strip())
        self._logs = ServerLogs(running.mfa_servers)
        self._passwords: Mapping[str, str] = {
            name: user["password"] for name, user in users(running.deployment).items()
        }
        self.texts_asked_for = 0

    def browser(self) -> DemoBrowser:
        """A browser that believes the deployment's authority."""
        return DemoBrowser(self._tls)

    async def adfs(self) -> Signed:
        """From the application to AD FS, password, code, and back with the token. Raises SignInFailed."""
        mark = self._logs.mark()
        async with self.browser() as browser:
            await browser.get(f"{self._addresses.application}signin")
            first = await browser.submit(user=TEXTED, password=self._passwords[TEXTED])
            _expect(first, "Enter your code")
            await self._strangers()
            second = await browser.submit(otp=await self._code())
            _expect(second, "You are signed in as")
            _expect(await browser.submit(), f"You are signed in as <strong>{TEXTED}</strong>")
        return Signed(Halves(first.served_by, second.served_by), self._logs.since(mark))

    async def _strangers(self) -> None:
        """Others who come to AD FS between the halves, so that chance decides whose turn is next."""
        for _ in range(_random.randrange(2)):
            async with self.browser() as browser:
                await browser.get(f"{self._addresses.application}signin")
        for _ in range(_random.randrange(2)):
            async with self.browser() as browser:
                await browser.get(f"{self._addresses.application}signin")
                page = await browser.submit(user="somebody", password="wrong")  # noqa: S106 - it is nobody's
                _expect(page, "The user name or password is not right.")

    async def portal(self, browser: DemoBrowser) -> Page:
        """Sign in at the User Portal; the account's page. Raises SignInFailed."""
        await browser.get(self._addresses.portal)
        page = await browser.submit("/login", user=TEXTED, password=self._passwords[TEXTED])
        if "Your account" not in page.text:
            page = await browser.submit("/otp", otp=await self._code())
        _expect(page, "Your account")
        return page

    async def radius(self) -> Halves:
        """PAP with the password, an Access-Challenge, then the code with the State. Raises SignInFailed."""
        mark = self._logs.mark()
        state = await self._nas.challenge(TEXTED, self._passwords[TEXTED])
        await self._nas.accept(TEXTED, await self._code(), state)
        return self._logs.since(mark)

    async def app(self) -> str:
        """The Mobile App Web Service's test of its way to the SDK; the server that answered. Raises SignInFailed."""
        body = "<Envelope><Body><TestPfWsSdkConnection/></Body></Envelope>"
        post = self._running.session.post
        async with post(
            self._addresses.app, data=body, headers={"Content-Type": "text/xml"}, ssl=self._tls
        ) as response:
            if "<TestPfWsSdkConnectionResult>true<" not in await response.text():
                raise SignInFailed(f"mobile app: the test of the connection failed ({response.status})")
            return response.headers["X-Served-By"]

    async def device(self) -> str:
        """A client with a certificate at AD FS, which alone can see it; the node that answered. Raises SignInFailed."""
        ca, cert = (self._running.folder / "clients" / "tls" / name for name in ("contoso-ca.pem", "device.crt"))
        tls = ssl.create_default_context(cafile=str(ca))
        url, get = f"{self._addresses.devices}/adfs/probe", self._running.session.get
        try:
            async with get(url, ssl=tls):
                raise SignInFailed(f"AD FS: {url} was answered without a certificate")
        except aiohttp.ClientError:
            tls.load_cert_chain(cert, cert.with_suffix(".key"))
        async with get(url, ssl=tls) as response:
            return response.headers["X-Served-By"]

    async def _code(self) -> str:
        """The code that was just texted."""
        self.texts_asked_for += 1
        cloud = self._running.cloud
        sent = (await cloud.texts_sent()).get(TEXTED, 0)
        if sent != self.texts_asked_for:
            raise SignInFailed(f"{self.texts_asked_for} texts were asked for, and {sent} were sent")
        return await newest_code(cloud, TEXTED)


def _expect(page: Page, text: str) -> None:
    if text not in page.text:
        raise SignInFailed(f"{page.url} answered {page.status} without {text!r}")
