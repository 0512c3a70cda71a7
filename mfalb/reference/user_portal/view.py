"""The portal's pages for each state of a session, and the cookies that tie a browser to one."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.failures import SdkUnavailable
from mfalb.reference.user_portal.sessions import Enrolling, Session, Sessions, SignedIn, Waiting
from mfalb.reference.user_portal.wording import METHODS, OLD_FORM
from mfalb.reference.web.forms import is_token, new_token
from mfalb.reference.web.pages import Pages
from mfalb.reference.web.requests import form_of, is_own, set_cookie

ROOT: Final = "/MultiFactorAuth"
SESSION_COOKIE: Final = "ASP.NET_SessionId"
LOGIN_COOKIE: Final = "PortalLogin"
_TEMPLATES: Final = Path(__file__).parent / "templates"
_METHOD_TEXTS: Final = {method.value: text for method, text in METHODS.items()}

_log = logging.getLogger("mfalb.reference.user_portal")


@dataclass(frozen=True, slots=True)
class Posted:
    """A form from a page of ours, and the session that it was posted in."""

    session: Session
    form: dict[str, str] = field(repr=False)


class View:
    """What browsers get to see of one portal."""

    def __init__(self, name: str, sdk: SdkClient, sessions: Sessions, mobile_app_url: str) -> None:
        self._name = name
        self._sdk = sdk
        self._sessions = sessions
        self._mobile_app_url = mobile_app_url
        self.pages = Pages(
            _TEMPLATES, server=name, root=ROOT, brand="Multi-Factor Authentication", product="User Portal"
        )

    def session_of(self, request: web.Request) -> Session | None:
        return self._sessions.find(session_id_of(request))

    async def posted(self, request: web.Request) -> Posted | web.Response:
        """A form of the session that the browser has; or else the answer to what is none."""
        form = await form_of(request)
        session = self.session_of(request)
        if session is None:
            self.tell("session not known")
            return self.no_session(request, HTTPStatus.FORBIDDEN)
        if not is_own(request, form, session.csrf):
            return await self.session_page(session, HTTPStatus.FORBIDDEN, error=OLD_FORM)
        return Posted(session, form)

    async def session_page(self, session: Session, status: HTTPStatus = HTTPStatus.OK, **told: str) -> web.Response:
        """The page that a session stands at. `told` are its `notice` and its `error`."""
        match session:
            case Waiting():
                return self.pages.answer("otp", status, csrf=session.csrf, user=session.user, **told)
            case Enrolling():
                return self.pages.answer(
                    "enrol", status, csrf=session.csrf, user=session.user, methods=_METHOD_TEXTS, **told
                )
            case SignedIn():
                return await self._account(session, status, **told)

    async def _account(self, session: SignedIn, status: HTTPStatus, **told: str) -> web.Response:
        settings, can_write = None, False
        try:
            settings = await self._sdk.user_settings(session.user)
            can_write = settings is not None and await self._sdk.is_master_reached()
        except SdkUnavailable as error:
            self.tell("settings not available", session.user, error)
        return self.pages.answer(
            "account",
            status,
            csrf=session.csrf,
            user=session.user,
            settings=settings,
            can_write=can_write,
            methods=_METHOD_TEXTS,
            mobile_app_url=self._mobile_app_url,
            **{"activation_code": "", **told},
        )

    async def with_session(self, request: web.Request, session_id: str) -> web.Response:
        """The page of a session that has just begun, in place of the one that the browser had."""
        self._sessions.end(session_id_of(request))
        session = self._sessions.find(session_id)
        if session is None:  # nobody can have ended it: the table is smaller than one
            raise web.HTTPServiceUnavailable
        response = await self.session_page(session)
        set_cookie(request, response, SESSION_COOKIE, session_id, ROOT)
        return response

    def no_session(self, request: web.Request, status: HTTPStatus) -> web.Response:
        """The login page, and why. The cookie is left alone: the session may live on another portal."""
        notice = f"Your session is not known to this server ({self._name}). Please sign in."
        return self.login_page(request, status, notice=notice if session_id_of(request) else "")

    def login_page(self, request: web.Request, status: HTTPStatus, **told: str) -> web.Response:
        """The login form, tied to the browser by a cookie.

        Form and cookie hold the same token, and no server holds it: the form may be posted to any portal, and health
        checks cannot fill a table.
        """
        held = request.cookies.get(LOGIN_COOKIE, "")
        csrf = held if is_token(held) else new_token()  # the same for all tabs of a browser
        response = self.pages.answer("login", status, csrf=csrf, **told)
        set_cookie(request, response, LOGIN_COOKIE, csrf, ROOT)
        return response

    def tell(self, event: str, user: str = "", failure: SdkUnavailable | None = None) -> None:
        """Log an event. `user` is one whose password was right: any other name may be a mistyped password."""
        fields: dict[str, object] = {"node": self._name, "user": short_id(user) if user else "-"}
        if failure is not None:
            fields |= {"level": failure.level.value, "reason": failure.reason}
        _log.info(event, extra=fields)


def session_id_of(request: web.Request) -> str:
    """The session id that the browser has brought; "" without one."""
    return request.cookies.get(SESSION_COOKIE, "")


def short_id(user: str) -> str:
    """What stands for a user in the log."""
    return hashlib.sha256(user.casefold().encode()).hexdigest()[:8]
