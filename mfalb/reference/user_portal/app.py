"""The portal over HTTP: password, then code (or answered call), then the account page."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from mfalb.errors import MalformedMessage
from mfalb.reference.config.values import User
from mfalb.reference.directory import Directory
from mfalb.reference.user_portal.forms import is_own_form, is_token, read_form_untrusted, read_otp
from mfalb.reference.user_portal.pages import Pages
from mfalb.reference.user_portal.sdk_client import SdkUnavailable
from mfalb.reference.user_portal.sdk_messages import Begun
from mfalb.reference.user_portal.sessions import Session, Sessions, Waiting, new_token

ROOT: Final = "/MultiFactorAuth"
SESSION_COOKIE: Final = "ASP.NET_SessionId"
LOGIN_COOKIE: Final = "PortalLogin"
_BODY_LIMIT_BYTES: Final = 16 * 1024  # a longer form is answered 413
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
_OLD_FORM: Final = "This form was out of date. Please try again."

_log = logging.getLogger("mfalb.reference.user_portal")


class SecondFactor(Protocol):
    """Who asks for the second factor; `sdk_client.SdkClient` over the wire. Both raise SdkUnavailable."""

    async def begin(self, user: str) -> Begun: ...

    async def verify(self, user: str, request_id: str, otp: str) -> bool: ...


class Portal:
    """One portal: its users, its sessions, and whom it asks for the second factor."""

    def __init__(self, name: str, directory: Directory, second_factor: SecondFactor, sessions: Sessions) -> None:
        self._name = name
        self._directory = directory
        self._second_factor = second_factor
        self._sessions = sessions
        self._pages = Pages(name, ROOT)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES)
        router = application.router
        for path in (ROOT, f"{ROOT}/", f"{ROOT}/login", f"{ROOT}/otp", f"{ROOT}/logout"):
            router.add_get(path, self.home)  # an answer to a form stays in the address bar; asking for it again is fine
        router.add_post(f"{ROOT}/login", self.login)
        router.add_post(f"{ROOT}/otp", self.otp)
        router.add_post(f"{ROOT}/logout", self.logout)
        router.add_get(f"{ROOT}/portal.css", self.style)
        application.on_response_prepare.append(self._sign)
        return application

    async def _sign(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Errors that aiohttp answers by itself are signed, too."""
        response.headers["X-Served-By"] = self._name

    # ------------------------------------------------------------------------------ handlers

    async def home(self, request: web.Request) -> web.Response:
        """The page that the session stands at; also the health check, which has none."""
        session = self._session(request)
        return self._no_session(request, HTTPStatus.OK) if session is None else self._session_page(session)

    async def style(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._pages.style, content_type="text/css", headers={"Cache-Control": "max-age=300"})

    async def login(self, request: web.Request) -> web.Response:
        """The first factor; when it is right, the second one begins."""
        form = await _form(request)
        if not _is_own(request, form, request.cookies.get(LOGIN_COOKIE, "")):
            return self._login_page(request, HTTPStatus.FORBIDDEN, error=_OLD_FORM)
        name = form.get("user", "").strip()
        # scrypt takes its time, so it has a thread of its own
        user = await asyncio.to_thread(self._directory.check, name, form.get("password", ""))
        if user is None:
            self._tell("password refused", name)
            return self._login_page(request, HTTPStatus.FORBIDDEN, error="The user name or password is not right.")
        try:
            begun = await self._second_factor.begin(user.name)
        except SdkUnavailable as error:
            self._tell("second factor not available", user.name, error.reason)
            return self._login_page(request, HTTPStatus.SERVICE_UNAVAILABLE, error=str(error))
        return self._begun(request, user, begun)

    def _begun(self, request: web.Request, user: User, begun: Begun) -> web.Response:
        if begun.is_text_sent:
            self._tell("text sent", user.name)
            return self._with_session(request, self._sessions.wait_for_code(user.name, begun.request_id))
        if begun.is_authenticated:
            self._tell("signed in", user.name)
            return self._with_session(request, self._sessions.sign_in(user.name))
        self._tell("call not confirmed", user.name)
        return self._login_page(request, HTTPStatus.FORBIDDEN, error="The sign-in was not confirmed on your phone.")

    async def otp(self, request: web.Request) -> web.Response:
        """The second factor's code."""
        form = await _form(request)
        session = self._session(request)
        if session is None:
            self._tell("session not known", "")
            return self._no_session(request, HTTPStatus.FORBIDDEN)
        if not _is_own(request, form, session.csrf):
            return self._session_page(session, HTTPStatus.FORBIDDEN, _OLD_FORM)
        if not isinstance(session, Waiting):
            return self._session_page(session)
        otp = read_otp(form.get("otp", ""))
        if otp is None:
            return self._session_page(session, HTTPStatus.FORBIDDEN, "Please type the digits of the text message.")
        return await self._verify(request, session, otp)

    async def _verify(self, request: web.Request, session: Waiting, otp: str) -> web.Response:
        try:
            is_right = await self._second_factor.verify(session.user, session.request_id, otp)
        except SdkUnavailable as error:
            self._tell("second factor not available", session.user, error.reason)
            return self._session_page(session, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        if not is_right:
            self._tell("code refused", session.user)
            message = "The code was not accepted. Type it again, or cancel to have a new one sent."
            return self._session_page(session, HTTPStatus.FORBIDDEN, message)
        session_id = self._sessions.step_up(_session_id(request))
        if session_id is None:  # it was signed out, or used by another request, while the code was looked at
            return self._no_session(request, HTTPStatus.FORBIDDEN)
        self._tell("signed in", session.user)
        return self._with_session(request, session_id)

    async def logout(self, request: web.Request) -> web.Response:
        form = await _form(request)
        session = self._session(request)
        if session is None:
            return self._no_session(request, HTTPStatus.FORBIDDEN)
        if not _is_own(request, form, session.csrf):
            return self._session_page(session, HTTPStatus.FORBIDDEN, _OLD_FORM)
        self._sessions.end(_session_id(request))
        self._tell("signed out", session.user)
        notice = "The sign-in was cancelled." if isinstance(session, Waiting) else "You have signed out."
        response = self._login_page(request, HTTPStatus.OK, notice=notice)
        response.del_cookie(SESSION_COOKIE, path=ROOT)
        return response

    # ------------------------------------------------------------------------------ pages

    def _session(self, request: web.Request) -> Session | None:
        return self._sessions.find(_session_id(request))

    def _session_page(self, session: Session, status: HTTPStatus = HTTPStatus.OK, error: str = "") -> web.Response:
        page = self._pages.otp if isinstance(session, Waiting) else self._pages.account
        return _html(page(session.csrf, session.user, error=error), status)

    def _with_session(self, request: web.Request, session_id: str) -> web.Response:
        """The page of a session that has just begun, in place of the one that the browser had."""
        self._sessions.end(_session_id(request))
        session = self._sessions.find(session_id)
        if session is None:  # nobody can have ended it: the table is smaller than one
            raise web.HTTPServiceUnavailable
        response = self._session_page(session)
        _set_cookie(request, response, SESSION_COOKIE, session_id)
        return response

    def _no_session(self, request: web.Request, status: HTTPStatus) -> web.Response:
        """The login page, and why. The cookie is left alone: the session may live on another portal."""
        notice = f"Your session is not known to this server ({self._name}). Please sign in."
        return self._login_page(request, status, notice=notice if _session_id(request) else "")

    def _login_page(
        self, request: web.Request, status: HTTPStatus, *, notice: str = "", error: str = ""
    ) -> web.Response:
        """The login form, tied to the browser by a cookie.

        Form and cookie hold the same token, and no server holds it: the form may be posted to any portal, and health
        checks cannot fill a table.
        """
        held = request.cookies.get(LOGIN_COOKIE, "")
        csrf = held if is_token(held) else new_token()  # the same for all tabs of a browser
        response = _html(self._pages.login(csrf, notice=notice, error=error), status)
        _set_cookie(request, response, LOGIN_COOKIE, csrf)
        return response

    def _tell(self, event: str, name: str, reason: str = "") -> None:
        """Log an event of a user; a name that is not in the directory may be a mistyped password, and is not logged."""
        user = self._directory.find(name)
        fields = {"node": self._name, "user": "-" if user is None else _short_id(user)}
        _log.info(event, extra=fields | ({"reason": reason} if reason else {}))


async def _form(request: web.Request) -> dict[str, str]:
    """Raises HTTPBadRequest; a body over the limit raises HTTPRequestEntityTooLarge."""
    try:
        return read_form_untrusted(await request.read())
    except MalformedMessage as error:
        raise web.HTTPBadRequest(text=f"{error.reason}\n") from None


def _is_own(request: web.Request, form: dict[str, str], wanted: str) -> bool:
    return is_own_form(form.get("csrf", ""), wanted, request.headers.get("Sec-Fetch-Site"))


def _session_id(request: web.Request) -> str:
    return request.cookies.get(SESSION_COOKIE, "")


def _set_cookie(request: web.Request, response: web.Response, name: str, value: str) -> None:
    is_https = request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
    response.set_cookie(name, value, path=ROOT, httponly=True, samesite="Lax", secure=is_https)


def _html(text: str, status: HTTPStatus) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=_HEADERS)


def _short_id(user: User) -> str:
    return hashlib.sha256(user.name.casefold().encode()).hexdigest()[:8]
