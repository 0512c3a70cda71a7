"""A node of the AD FS farm over HTTPS: password, then code (or answered call), then the token to the relying party."""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from mfalb.reference.adfs.farm import NONCE_BYTES, Context, FarmKey, Stage, browser_digest
from mfalb.reference.adfs.tokens import Subject, TokenSigner
from mfalb.reference.adfs.trusts import Trusts
from mfalb.reference.faults import Faults
from mfalb.reference.sdk_client.answers import Begun
from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.failures import SdkUnavailable
from mfalb.reference.web.clients import Clients
from mfalb.reference.web.forms import is_token, new_token, read_otp
from mfalb.reference.web.pages import Pages, html
from mfalb.reference.web.requests import form_of, set_cookie

ROOT: Final = "/adfs"
BROWSER_COOKIE: Final = "MSISBrowser"
_BODY_LIMIT_BYTES: Final = 32 * 1024
_TEMPLATES: Final = Path(__file__).parent / "templates"
_START_AGAIN: Final = "This sign-in is out of date or was begun elsewhere. Please go back to the application."
_NOT_KNOWN: Final = "The application that sent you here is not known, or asked for something that it may not have."
_WRONG_PASSWORD: Final = "The user name or password is not right."  # noqa: S105 - what users are told
_NOT_CONFIRMED: Final = "The sign-in was not confirmed on your phone."
_NO_CODE: Final = "Please type the digits of the text message."
_WRONG_CODE: Final = "The code was not accepted. Type it again, or go back to the application to begin anew."

_log = logging.getLogger("mfalb.reference.adfs")


@dataclass(frozen=True, slots=True)
class Farm:
    """What all nodes have in common."""

    issuer: str
    key: FarmKey
    signer: TokenSigner
    trusts: Trusts
    token_life_s: int


class AdfsNode:
    """One node. It keeps nothing between two requests. `unix_time` gives seconds."""

    def __init__(
        self, name: str, farm: Farm, sdk: SdkClient, unix_time: Callable[[], float], clients: Clients | None = None
    ) -> None:
        """`clients` knows which proxies may say whose browser they forward for; none may by default."""
        self._name = name
        self._clients = clients or Clients()
        self._farm = farm
        self._sdk = sdk
        self._unix_time = unix_time
        self._pages = Pages(_TEMPLATES, server=name, root=ROOT, brand="Contoso", product="Sign-in")
        self._faults = Faults()

    def application(self, faults: Faults | None = None) -> web.Application:
        self._faults = faults or self._faults
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[self._faults.middleware])
        router = application.router
        router.add_get(f"{ROOT}/oauth2/authorize", self.authorize)
        router.add_post(f"{ROOT}/ls/password", self.password)
        router.add_post(f"{ROOT}/ls/code", self.code)
        for path in (f"{ROOT}/ls/password", f"{ROOT}/ls/code"):
            router.add_get(path, self.start_again)
        router.add_get(f"{ROOT}/discovery/keys", self.keys)
        router.add_get(f"{ROOT}/.well-known/openid-configuration", self.metadata)
        router.add_get(f"{ROOT}/probe", self.probe)
        router.add_get(f"{ROOT}/style.css", self._pages.style)
        application.on_response_prepare.append(self._sign)
        return application

    async def _sign(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers["X-Served-By"] = self._name

    # ------------------------------------------------------------------------------ what relying parties read

    async def keys(self, _request: web.Request) -> web.Response:
        return web.json_response(self._farm.signer.key_set())

    async def metadata(self, _request: web.Request) -> web.Response:
        issuer = self._farm.issuer
        return web.json_response(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/oauth2/authorize",
                "jwks_uri": f"{issuer}/discovery/keys",
                "response_types_supported": ["id_token"],
                "response_modes_supported": ["form_post"],
                "scopes_supported": ["openid"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [self._farm.signer.algorithm],
            }
        )

    async def probe(self, _request: web.Request) -> web.Response:
        """What balancers ask; AD FS has it at the same path."""
        return web.Response(text="ok\n")

    # ------------------------------------------------------------------------------ sign-in

    async def authorize(self, request: web.Request) -> web.Response:
        """A relying party sends a browser here."""
        held = request.cookies.get(BROWSER_COOKIE, "")
        cookie = held if is_token(held) else new_token()
        context = self._farm.trusts.read_untrusted(request.query, browser_digest(cookie))
        if context is None:
            self._tell("request refused")
            return self._pages.answer("stopped", HTTPStatus.BAD_REQUEST, error=_NOT_KNOWN)
        response = self._password_page(context, HTTPStatus.OK)
        set_cookie(request, response, BROWSER_COOKIE, cookie, ROOT)
        return response

    async def start_again(self, _request: web.Request) -> web.Response:
        """Who asks for the answer to a form anew: there is nothing here to show it from."""
        return self._pages.answer("stopped", HTTPStatus.BAD_REQUEST, error=_START_AGAIN)

    async def password(self, request: web.Request) -> web.Response:
        """The first page's answer: the password is looked at, and the phone is asked."""
        form = await form_of(request)
        context = self._context(request, form, Stage.PASSWORD)
        if context is None:
            return await self.start_again(request)
        name, password, user = form.get("user", "").strip(), form.get("password", ""), ""
        try:
            if name and password and await self._sdk.validate_password(name, password):
                user = name
                return await self._begin(request, replace(context, user=user))
        except SdkUnavailable as failure:
            self._tell("second factor not available", user, failure)
            return self._password_page(context, HTTPStatus.SERVICE_UNAVAILABLE, str(failure))
        self._tell("password refused")
        return self._password_page(context, HTTPStatus.FORBIDDEN, _WRONG_PASSWORD)

    async def _begin(self, request: web.Request, context: Context) -> web.Response:
        half = await self._sdk.begin(context.user, self._clients.address_of(request))
        match half.begun:
            case Begun.TEXT_SENT:
                self._tell("text sent", context.user)
                self._faults.challenge_begun()
                return self._code_page(replace(context, request_id=half.request_id), HTTPStatus.OK)
            case Begun.AUTHENTICATED:
                return self._signed_in(context)
            case Begun.DENIED | Begun.NOT_KNOWN:
                self._tell("call not confirmed", context.user)
                return self._password_page(replace(context, user=""), HTTPStatus.FORBIDDEN, _NOT_CONFIRMED)

    async def code(self, request: web.Request) -> web.Response:
        """The second page's answer, at whichever node: the code goes to the MFA Server that sent it."""
        form = await form_of(request)
        context = self._context(request, form, Stage.CODE)
        if context is None:
            return await self.start_again(request)
        otp = read_otp(form.get("otp", ""))
        if otp is None:
            return self._code_page(context, HTTPStatus.FORBIDDEN, _NO_CODE)
        try:
            is_right = await self._sdk.verify(context.user, context.request_id, otp)
        except SdkUnavailable as failure:
            self._tell("second factor not available", context.user, failure)
            return self._code_page(context, HTTPStatus.SERVICE_UNAVAILABLE, str(failure))
        if is_right:
            return self._signed_in(context)
        self._tell("code refused", context.user)
        return self._code_page(context, HTTPStatus.FORBIDDEN, _WRONG_CODE)

    # ------------------------------------------------------------------------------ pages

    def _context(self, request: web.Request, form: dict[str, str], stage: Stage) -> Context | None:
        """What the form's sign-in has come to; None when it is none of ours, too old, or of another browser."""
        context = self._farm.key.open_untrusted(stage, form.get("context", ""), self._unix_time())
        if context is None or not context.is_of(request.cookies.get(BROWSER_COOKIE, "")):
            self._tell("form refused")
            return None
        return context

    def _sealed(self, stage: Stage, context: Context) -> str:
        return self._farm.key.seal(stage, context, self._unix_time(), secrets.token_bytes(NONCE_BYTES))

    def _password_page(self, context: Context, status: HTTPStatus, error: str = "") -> web.Response:
        sealed = self._sealed(Stage.PASSWORD, context)
        return self._pages.answer("password", status, context=sealed, client=context.client_id, error=error)

    def _code_page(self, context: Context, status: HTTPStatus, error: str = "") -> web.Response:
        """A page asked anew brings the same time limit anew; the MFA Server has its own, and counts the tries."""
        return self._pages.answer(
            "code", status, context=self._sealed(Stage.CODE, context), user=context.user, error=error
        )

    def _signed_in(self, context: Context) -> web.Response:
        """The page that hands the token to the relying party, at a press of its button: no script is needed."""
        farm, now = self._farm, int(self._unix_time())
        subject = Subject(context.user, context.client_id, context.nonce)
        token = farm.signer.token(farm.issuer, subject, (now, farm.token_life_s), secrets.token_urlsafe(16))
        self._tell("signed in", context.user)
        target = urlsplit(context.redirect_uri)
        page = self._pages.text(
            "signed_in",
            user=context.user,
            client=context.client_id,
            target=context.redirect_uri,
            token=token,
            state=context.state,
        )
        return html(page, HTTPStatus.OK, forms_to=f"{target.scheme}://{target.netloc}")

    def _tell(self, event: str, user: str = "", failure: SdkUnavailable | None = None) -> None:
        """Log an event. `user` is one whose password was right: any other name may be a mistyped password."""
        shown = hashlib.sha256(user.casefold().encode()).hexdigest()[:8] if user else "-"
        fields: dict[str, object] = {"node": self._name, "user": shown}
        if failure is not None:
            fields |= {"level": failure.level.value, "reason": failure.reason}
        _log.info(event, extra=fields)
