"""The portal over HTTP: password, then code (or answered call), then the account page."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

from aiohttp import web

from mfalb.reference.faults import Faults
from mfalb.reference.sdk_client.answers import Begun, FirstHalf
from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.failures import MasterUnavailable, SdkUnavailable
from mfalb.reference.user_portal import wording
from mfalb.reference.user_portal.account import Account, read_method, read_phone
from mfalb.reference.user_portal.asking import Asking
from mfalb.reference.user_portal.sessions import Enrolling, Sessions, Waiting
from mfalb.reference.user_portal.view import LOGIN_COOKIE, ROOT, SESSION_COOKIE, View, session_id_of
from mfalb.reference.web.clients import Clients
from mfalb.reference.web.forms import read_otp
from mfalb.reference.web.requests import form_of, is_own

_BODY_LIMIT_BYTES: Final = 16 * 1024  # a longer form is answered 413
_PAUSES_S: Final = (0.2, 0.3, 0.5, 1.0)  # between questions for a user who was added just now


class Portal:
    """One portal: its sessions, and the SDK that it asks for everything else."""

    def __init__(
        self, name: str, sdk: SdkClient, sessions: Sessions, mobile_app_url: str = "", clients: Clients | None = None
    ) -> None:
        """`clients` knows which balancers may say whose browser they forward for; none may by default."""
        self._name = name
        self._clients = clients or Clients()
        self._sdk = sdk
        self._sessions = sessions
        self._view = View(name, sdk, sessions, mobile_app_url)
        self._asking = Asking()
        self._account = Account(sdk, self._view)
        self._faults = Faults()

    def application(self, faults: Faults | None = None) -> web.Application:
        self._faults = faults or self._faults
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[self._faults.middleware])
        router = application.router
        forms = {"login": self.login, "otp": self.otp, "enrol": self.enrol, "logout": self.logout}
        for path, handler in (forms | self._account.forms()).items():
            router.add_post(f"{ROOT}/{path}", handler)
            router.add_get(f"{ROOT}/{path}", self.home)  # an answer to a form stays in the address bar: asking is fine
        for path in (ROOT, f"{ROOT}/"):
            router.add_get(path, self.home)
        router.add_get(f"{ROOT}/style.css", self._view.pages.style)
        application.on_response_prepare.append(self._sign)
        return application

    async def _sign(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Errors that aiohttp answers by itself are signed, too."""
        response.headers["X-Served-By"] = self._name

    # ------------------------------------------------------------------------------ handlers

    async def home(self, request: web.Request) -> web.Response:
        """The page that the session stands at; also the health check, which has none."""
        session = self._view.session_of(request)
        if session is None:
            return self._view.no_session(request, HTTPStatus.OK)
        return await self._view.session_page(session)

    async def login(self, request: web.Request) -> web.Response:
        """The first factor; when it is right, the second one begins."""
        form = await form_of(request)
        if not is_own(request, form, request.cookies.get(LOGIN_COOKIE, "")):
            return self._view.login_page(request, HTTPStatus.FORBIDDEN, error=wording.OLD_FORM)
        name, password = form.get("user", "").strip(), form.get("password", "")
        user = ""
        try:
            if name and password and await self._sdk.validate_password(name, password):
                user = name
                return await self._second_factor(request, user)
        except SdkUnavailable as error:
            self._view.tell("second factor not available", user, error)
            return self._view.login_page(request, HTTPStatus.SERVICE_UNAVAILABLE, error=str(error))
        self._view.tell("password refused")
        return self._view.login_page(request, HTTPStatus.FORBIDDEN, error=wording.WRONG_PASSWORD)

    async def _second_factor(self, request: web.Request, user: str) -> web.Response:
        """Whose password was right: is asked, or enrols. Raises SdkUnavailable."""
        settings = await self._sdk.user_settings(user)
        if settings is None:
            self._view.tell("enrolling", user)
            return await self._view.with_session(request, self._sessions.enrol(user))
        if not settings.is_enabled:
            self._view.tell("user is disabled", user)
            return self._view.login_page(request, HTTPStatus.FORBIDDEN, error=wording.DISABLED)
        return await self._begin(request, user)

    async def _begin(self, request: web.Request, user: str, *, is_new: bool = False) -> web.Response:
        address = self._clients.address_of(request)
        browser = request.cookies.get(LOGIN_COOKIE, "")
        begin = self._begin_newcomer if is_new else self._sdk.begin
        half = await self._asking.ask(browser, user, lambda: begin(user, address))
        match half.begun:
            case Begun.TEXT_SENT:
                self._view.tell("text sent", user)
                self._faults.challenge_begun()
                return await self._view.with_session(request, self._sessions.wait_for_code(user, half.request_id))
            case Begun.AUTHENTICATED:
                self._view.tell("signed in", user)
                return await self._view.with_session(request, self._sessions.sign_in(user))
            case Begun.NOT_KNOWN if is_new:
                self._view.tell("enrolled, and not known everywhere yet", user)
                self._sessions.end(session_id_of(request))
                return self._view.login_page(request, HTTPStatus.SERVICE_UNAVAILABLE, error=wording.NOT_EVERYWHERE)
            case Begun.DENIED | Begun.NOT_KNOWN:
                self._view.tell("call not confirmed", user)
                self._sessions.end(session_id_of(request))
                return self._view.login_page(request, HTTPStatus.FORBIDDEN, error=wording.NOT_CONFIRMED)

    async def _begin_newcomer(self, user: str, address: str) -> FirstHalf:
        """The first half for somebody whom an MFA Server has just been told of. Raises SdkUnavailable.

        The balancer may lead it to another server than that one, and a server out of step with its master does not have
        the change yet. Asking again is safe: who does not know a user has rung no phone and sent no text.
        """
        for pause_s in _PAUSES_S:
            half = await self._sdk.begin(user, address)
            if half.begun is not Begun.NOT_KNOWN:
                return half
            await asyncio.sleep(pause_s)
        return await self._sdk.begin(user, address)

    async def enrol(self, request: web.Request) -> web.Response:
        """A phone and how to be asked, from one whom the MFA Servers do not know; proved by asking at once."""
        posted = await self._view.posted(request)
        if isinstance(posted, web.Response):
            return posted
        if not isinstance(posted.session, Enrolling):
            return await self._view.session_page(posted.session)
        return await self._enrol(request, posted.session, posted.form)

    async def _enrol(self, request: web.Request, session: Enrolling, form: dict[str, str]) -> web.Response:
        phone, method = read_phone(form.get("phone", "")), read_method(form.get("method", ""))
        if not phone or method is None:
            error = wording.BAD_METHOD if phone else wording.BAD_PHONE
            return await self._view.session_page(session, HTTPStatus.BAD_REQUEST, error=error)
        try:
            if not await self._sdk.add_user(session.user, phone, method):
                return await self._view.session_page(session, HTTPStatus.FORBIDDEN, error=wording.NOT_CHANGED)
            self._view.tell("enrolled", session.user)
            return await self._begin(request, session.user, is_new=True)
        except (SdkUnavailable, MasterUnavailable) as failure:
            self._view.tell("not enrolled", session.user, failure if isinstance(failure, SdkUnavailable) else None)
            return await self._view.session_page(session, HTTPStatus.SERVICE_UNAVAILABLE, error=str(failure))

    async def otp(self, request: web.Request) -> web.Response:
        """The second factor's code."""
        posted = await self._view.posted(request)
        if isinstance(posted, web.Response):
            return posted
        session = posted.session
        if not isinstance(session, Waiting):
            return await self._view.session_page(session)
        otp = read_otp(posted.form.get("otp", ""))
        if otp is None:
            return await self._view.session_page(session, HTTPStatus.FORBIDDEN, error=wording.NO_CODE)
        return await self._verify(request, session, otp)

    async def _verify(self, request: web.Request, session: Waiting, otp: str) -> web.Response:
        try:
            is_right = await self._sdk.verify(session.user, session.request_id, otp)
        except SdkUnavailable as error:
            self._view.tell("second factor not available", session.user, error)
            return await self._view.session_page(session, HTTPStatus.SERVICE_UNAVAILABLE, error=str(error))
        if not is_right:
            self._view.tell("code refused", session.user)
            return await self._view.session_page(session, HTTPStatus.FORBIDDEN, error=wording.WRONG_CODE)
        session_id = self._sessions.step_up(session_id_of(request))
        if session_id is None:  # it was signed out, or used by another request, while the code was looked at
            return self._view.no_session(request, HTTPStatus.FORBIDDEN)
        self._view.tell("signed in", session.user)
        return await self._view.with_session(request, session_id)

    async def logout(self, request: web.Request) -> web.Response:
        posted = await self._view.posted(request)
        if isinstance(posted, web.Response):
            return posted
        session = posted.session
        self._sessions.end(session_id_of(request))
        self._view.tell("signed out", session.user)
        is_cancelled = isinstance(session, Waiting | Enrolling)
        notice = "The sign-in was cancelled." if is_cancelled else "You have signed out."
        response = self._view.login_page(request, HTTPStatus.OK, notice=notice)
        response.del_cookie(SESSION_COOKIE, path=ROOT)
        return response
