"""The sample application over HTTP: a page for strangers, a page for who is signed in, and the way between them."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from cachetools import TTLCache

from mfalb.reference.config.relying_party import RelyingPartySettings
from mfalb.reference.faults import Faults
from mfalb.reference.relying_party.checks import TokenChecker, TokenRefused, UnknownKey, Visitor
from mfalb.reference.relying_party.key_source import KeysUnavailable
from mfalb.reference.web.forms import new_token
from mfalb.reference.web.pages import Pages
from mfalb.reference.web.requests import form_of, is_https, is_own

SESSION_COOKIE: Final = "AppSession"
SIGN_IN_COOKIE: Final = "AppSignIn"
_SESSION_S: Final = 1200.0
_SESSION_LIMIT: Final = 10_000  # when full, the oldest session ends; only who has a good token can begin one
_BODY_LIMIT_BYTES: Final = 16 * 1024
_TEMPLATES: Final = Path(__file__).parent / "templates"
_REFUSED: Final = "This sign-in was not accepted. Please begin anew."

_log = logging.getLogger("mfalb.reference.relying_party")


class Keys(Protocol):
    """Where the farm's keys come from; `key_source.KeySource` over the wire. Raises KeysUnavailable."""

    async def keys(self, *, is_anew: bool = False) -> dict[str, Any]: ...


class RelyingParty:
    """One application. `now` gives seconds on a clock that never goes back."""

    def __init__(
        self, settings: RelyingPartySettings, checker: TokenChecker, keys: Keys, now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._checker = checker
        self._keys = keys
        self._sessions: TTLCache[str, Visitor] = TTLCache(_SESSION_LIMIT, _SESSION_S, timer=now)
        self._pages = Pages(_TEMPLATES, server=settings.name, root="", brand="Contoso", product="Expenses")

    def application(self, faults: Faults | None = None) -> web.Application:
        middlewares = [] if faults is None else [faults.middleware]
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=middlewares)
        application.router.add_get("/", self.home)
        application.router.add_get("/signin", self.sign_in)
        application.router.add_post(urlsplit(self._settings.redirect_uri).path, self.take_token)
        application.router.add_post("/signout", self.sign_out)
        application.router.add_get("/style.css", self._pages.style)
        return application

    # ------------------------------------------------------------------------------ handlers

    async def home(self, request: web.Request) -> web.Response:
        session_id = request.cookies.get(SESSION_COOKIE, "")
        visitor = self._sessions.get(session_id)
        if visitor is None:
            return self._pages.answer("stranger")
        return self._pages.answer("home", user=visitor.user, csrf=_form_token(session_id))

    async def sign_in(self, request: web.Request) -> web.Response:
        """Off to the farm, with a secret of this browser's own in a cookie."""
        settings, secret = self._settings, new_token()
        query = {
            "client_id": settings.client_id,
            "redirect_uri": settings.redirect_uri,
            "response_type": "id_token",
            "response_mode": "form_post",
            "scope": "openid",
            "nonce": _derived("nonce", secret),
            "state": _derived("state", secret),
        }
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Cache-Control": "no-store"})
        response.headers["Location"] = f"{settings.issuer}/oauth2/authorize?{urlencode(query)}"
        # The farm's page posts the token from another site, and the cookie has to come along. Without TLS browsers take
        # no such cookie, so the application and the farm are one site then, as they are on one machine.
        is_secure = is_https(request)
        same_site = "None" if is_secure else "Lax"
        response.set_cookie(SIGN_IN_COOKIE, secret, httponly=True, samesite=same_site, secure=is_secure, max_age=1800)
        return response

    async def take_token(self, request: web.Request) -> web.Response:
        """Back from the farm, with a token."""
        form, secret = await form_of(request), request.cookies.get(SIGN_IN_COOKIE, "")
        try:
            if not secret or not hmac.compare_digest(
                form.get("state", "").encode(), _derived("state", secret).encode()
            ):
                raise TokenRefused("state")  # noqa: TRY301 - one refusal among those of the token itself
            visitor = await self._visitor(form.get("id_token", ""), _derived("nonce", secret))
        except TokenRefused as refused:
            _log.warning("token refused", extra={"node": self._settings.name, "reason": refused.reason})
            return self._pages.answer("stranger", HTTPStatus.FORBIDDEN, error=_REFUSED)
        except KeysUnavailable as failure:
            _log.warning("keys not available", extra={"node": self._settings.name, "reason": failure.reason})
            return self._pages.answer("stranger", HTTPStatus.SERVICE_UNAVAILABLE, error=str(failure))
        session_id = new_token()
        self._sessions[session_id] = visitor
        response = web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": "/", "Cache-Control": "no-store"})
        response.set_cookie(SESSION_COOKIE, session_id, httponly=True, samesite="Lax", secure=is_https(request))
        response.del_cookie(SIGN_IN_COOKIE)
        return response

    async def _visitor(self, token: str, nonce: str) -> Visitor:
        """Raises TokenRefused and KeysUnavailable."""
        try:
            return self._checker.check_untrusted(token, await self._keys.keys(), nonce)
        except UnknownKey:
            return self._checker.check_untrusted(token, await self._keys.keys(is_anew=True), nonce)

    async def sign_out(self, request: web.Request) -> web.Response:
        session_id = request.cookies.get(SESSION_COOKIE, "")
        if not is_own(request, await form_of(request), _form_token(session_id)):
            return self._pages.answer("stranger", HTTPStatus.FORBIDDEN, error="This form was out of date.")
        self._sessions.pop(session_id, None)
        response = self._pages.answer("stranger", notice="You have signed out here.")
        response.del_cookie(SESSION_COOKIE)
        return response


def _derived(purpose: str, secret: str) -> str:
    """What of the browser's secret others may see: it shows that a token was asked for by who brings it."""
    return hashlib.sha256(f"{purpose}:{secret}".encode()).hexdigest()


def _form_token(session_id: str) -> str:
    """The CSRF token of a session, in the form that forms have theirs."""
    return _derived("form", session_id)[:43] if session_id else ""
