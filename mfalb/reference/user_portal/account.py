"""What a signed-in user can change: phone, method, user PIN, a one-time bypass, the devices with the app."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from mfalb.reference.config.values import Method
from mfalb.reference.sdk_client.client import SdkClient
from mfalb.reference.sdk_client.failures import MasterUnavailable, SdkUnavailable
from mfalb.reference.user_portal import wording
from mfalb.reference.user_portal.sessions import SignedIn
from mfalb.reference.user_portal.view import View

BYPASS_DEFAULT_S: Final = 300
_BYPASS_S: Final = range(15, 3601)  # the server takes more; nobody needs an hour to sign in once
_PHONE: Final = re.compile(r"\+?[0-9][0-9 ()/.-]{3,30}[0-9]").fullmatch
_USER_PIN: Final = re.compile(r"[0-9]{4,16}").fullmatch
_REASON_LIMIT: Final = 200

Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a change: exactly one of `notice` and `error`, and a code for the app where one was made."""

    notice: str = ""
    error: str = ""
    activation_code: str = field(default="", repr=False)


Change = Callable[[str, Form], Awaitable[Outcome]]


class Account:
    """The forms of the account page."""

    def __init__(self, sdk: SdkClient, view: View) -> None:
        self._sdk = sdk
        self._view = view

    def forms(self) -> dict[str, Handler]:
        """Who answers which form."""
        changes: dict[str, Change] = {
            "phone": self.change_phone,
            "user-pin": self.change_user_pin,
            "bypass": self.bypass,
            "activation": self.activate,
            "device": self.remove_device,
        }
        return {path: self._handler(path, change) for path, change in changes.items()}

    def _handler(self, event: str, change: Change) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            posted = await self._view.posted(request)
            if isinstance(posted, web.Response):
                return posted
            if not isinstance(posted.session, SignedIn):
                return await self._view.session_page(posted.session, HTTPStatus.FORBIDDEN)
            return await self._made(event, posted.session, change(posted.session.user, posted.form))

        return handle

    async def _made(self, event: str, session: SignedIn, change: Awaitable[Outcome]) -> web.Response:
        try:
            outcome = await change
        except SdkUnavailable as error:
            self._view.tell(f"{event}: not available", session.user, error)
            return await self._view.session_page(session, HTTPStatus.SERVICE_UNAVAILABLE, error=str(error))
        except MasterUnavailable as error:
            self._view.tell(f"{event}: no master", session.user)
            return await self._view.session_page(session, HTTPStatus.SERVICE_UNAVAILABLE, error=str(error))
        self._view.tell(f"{event}: {'refused' if outcome.error else 'done'}", session.user)
        status = HTTPStatus.BAD_REQUEST if outcome.error else HTTPStatus.OK
        told = {"notice": outcome.notice, "error": outcome.error, "activation_code": outcome.activation_code}
        return await self._view.session_page(session, status, **told)

    # ------------------------------------------------------------------------------ changes

    async def change_phone(self, user: str, form: Form) -> Outcome:
        """Another phone (an empty one stays as it is), another way to be asked."""
        typed, method = form.get("phone", "").strip(), read_method(form.get("method", ""))
        phone = read_phone(typed)
        if typed and not phone:
            return Outcome(error=wording.BAD_PHONE)
        if method is None:
            return Outcome(error=wording.BAD_METHOD)
        is_made = await self._sdk.update_user(user, phone=phone, method=method)
        return Outcome(notice=wording.PHONE_CHANGED) if is_made else Outcome(error=wording.NOT_CHANGED)

    async def change_user_pin(self, user: str, form: Form) -> Outcome:
        new = form.get("new", "")
        if not _USER_PIN(new):
            return Outcome(error=wording.BAD_USER_PIN)
        if new != form.get("again", ""):
            return Outcome(error=wording.USER_PINS_DIFFER)
        is_made = await self._sdk.change_user_pin(user, form.get("current", ""), new)
        return Outcome(notice=wording.USER_PIN_CHANGED) if is_made else Outcome(error=wording.USER_PIN_REFUSED)

    async def bypass(self, user: str, form: Form) -> Outcome:
        """The next sign-in passes without a second factor."""
        typed = form.get("seconds", "").strip() or str(BYPASS_DEFAULT_S)
        seconds = int(typed) if typed.isascii() and typed.isdigit() and len(typed) < 6 else 0  # noqa: PLR2004 - no flood
        if seconds not in _BYPASS_S:
            return Outcome(error=wording.BAD_BYPASS)
        reason = form.get("reason", "").strip()[:_REASON_LIMIT]
        if not await self._sdk.one_time_bypass(user, reason, seconds):
            return Outcome(error=wording.NOT_CHANGED)
        return Outcome(notice=f"For {seconds} seconds your next sign-in needs no second factor.")

    async def activate(self, user: str, _form: Form) -> Outcome:
        code = await self._sdk.new_activation(user)
        if not code:
            return Outcome(error=wording.NOT_CHANGED)
        return Outcome(notice="Type the activation code into the app within ten minutes.", activation_code=code)

    async def remove_device(self, user: str, form: Form) -> Outcome:
        device = form.get("name", "").strip()
        is_made = bool(device) and await self._sdk.remove_device(user, device)
        return Outcome(notice=wording.DEVICE_REMOVED) if is_made else Outcome(error=wording.DEVICE_REFUSED)


def read_phone(text: str) -> str:
    """The phone number that was typed; "" when it cannot be one."""
    phone = " ".join(text.split())
    return phone if _PHONE(phone) else ""


def read_method(text: str) -> Method | None:
    """The way to be asked that was chosen; None when it is none of ours."""
    return next((method for method in Method if method.value == text), None)
