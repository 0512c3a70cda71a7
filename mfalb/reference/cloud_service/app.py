"""The cloud MFA Service over HTTP: the pfpMessage exchange, and the pages that show what phones received."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from pathlib import Path
from typing import Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader

from mfalb.errors import MalformedMessage
from mfalb.reference.cloud_service.activation import Activation
from mfalb.reference.cloud_service.handset_pages import HandsetPages, clock
from mfalb.reference.cloud_service.outbox import Outbox, Text
from mfalb.reference.cloud_service.phones import Kind, Phones, Ringing, ringing
from mfalb.reference.config.cloud import Answering, CloudSettings
from mfalb.reference.faults import Faults
from mfalb.wire.pfp_message import (
    PATH,
    CallStatus,
    ErrorId,
    PfpRequest,
    PfpResponse,
    read_request_untrusted,
    response_xml,
)

_BODY_LIMIT_BYTES: Final = 64 * 1024
_OTP_DIGITS: Final = 6
_GOOD: Final = (CallStatus.NO_PIN_ENTERED, CallStatus.PIN_ENTERED)

_log = logging.getLogger("mfalb.reference.cloud_service")


class CloudService:
    """Sends texts and makes calls; the OTP of a text goes back to the server that asked, and to nobody else."""

    def __init__(self, settings: CloudSettings) -> None:
        """Raises what reading the file of the groups raises."""
        self._settings = settings
        self._outbox = Outbox()
        self._phones = Phones()
        state = None if settings.state is None else Path(settings.state)
        self._activation = Activation(settings.activation_codes, state)
        self._handsets = HandsetPages(self._outbox, self._phones, settings.answering)
        self.faults = Faults("slow_s", "hang", "down", "die_mid_challenge", "duplicate", "deny")
        templates = FileSystemLoader(Path(__file__).parent / "templates")
        self._pages = Environment(loader=templates, autoescape=True)

    def application(self) -> web.Application:
        """What MFA Servers call. The pages are there, too, where nobody needs a certificate and no other place is."""
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[self.faults.middleware])
        application.router.add_post(PATH, self._authenticate)
        self._activation.add_routes(application.router)
        if self._settings.handsets is None and self._settings.endpoint.client_ca is None:
            self._add_pages(application.router)
        return application

    def pages_application(self) -> web.Application:
        """The phones, for browsers. Nothing is ever wrong with these: faults are the service's, not the phones'."""
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES)
        self._add_pages(application.router)
        return application

    def _add_pages(self, router: web.UrlDispatcher) -> None:
        self._handsets.add_routes(router)
        router.add_get("/outbox", self._outbox_page)
        router.add_get("/outbox.json", self._outbox_json)
        router.add_get("/counters.json", self._counters_json)

    async def _authenticate(self, request: web.Request) -> web.Response:
        try:
            wanted = read_request_untrusted(await request.read())
        except MalformedMessage as error:
            _log.warning("request refused", extra={"reason": error.reason})
            return web.Response(status=400, text=f"not a pfpMessage request: {error.reason}\n")
        answer = await self._answer(wanted)
        status = CallStatus(answer.call_status).name.lower()
        _log.info("authentication", extra={"mode": wanted.mode.value, "server": wanted.server, "status": status})
        return web.Response(body=response_xml(answer), content_type="text/xml", charset="utf-8")

    async def _answer(self, wanted: PfpRequest) -> PfpResponse:
        if self._activation.is_required and not self._activation.has_issued(wanted.license_key):
            return _nobody_asked(wanted, ErrorId.NOT_ACTIVATED)
        if self._phones.are_busy:
            return _nobody_asked(wanted, ErrorId.TOO_BUSY)
        if wanted.mode.is_one_way:
            return self._text(wanted)
        status = await self._ring(wanted)
        is_good = status in _GOOD
        return PfpResponse(wanted.request_id, is_success=True, is_authenticated=is_good, call_status=status)

    def _text(self, wanted: PfpRequest) -> PfpResponse:
        if self.faults.now.deny:
            return PfpResponse(wanted.request_id, True, False, call_status=CallStatus.PHONE_BUSY)
        otp = _new_code()
        for _ in range(self._times):
            self._send(wanted, f"Your verification code is {otp}", otp)
        self.faults.challenge_begun()
        return PfpResponse(wanted.request_id, True, True, otp=otp, call_status=CallStatus.TEXT_SENT)

    async def _ring(self, wanted: PfpRequest) -> CallStatus:
        one = ringing(wanted, _new_code(), time.time())
        for _ in range(self._times):
            if one.kind is Kind.TEXT:
                self._send(wanted, f"Reply with {one.code} to verify", one.code)
            else:
                self._outbox.ring(wanted.username)
        self.faults.challenge_begun()
        if self.faults.now.deny:
            return CallStatus.APP_DENIED if one.kind is Kind.PUSH else CallStatus.USER_HUNG_UP
        return await self._answered(one)

    async def _answered(self, one: Ringing) -> CallStatus:
        if self._handsets.answering_of(one.user) is Answering.MANUAL:
            return await self._phones.wait(one, self._settings.ring_s)
        await asyncio.sleep(self._settings.answer_delay_s)  # a person reaches for the phone, and knows the user PIN
        return CallStatus.NO_PIN_ENTERED if one.pin is None else CallStatus.PIN_ENTERED

    @property
    def _times(self) -> int:
        return 2 if self.faults.now.duplicate else 1

    def _send(self, wanted: PfpRequest, message: str, code: str) -> None:
        self._outbox.send(Text(wanted.username, wanted.phone, message, code, time.time()))

    async def _outbox_page(self, _request: web.Request) -> web.Response:
        page = self._pages.get_template("outbox.html").render(texts=self._outbox.newest_first(), clock=clock)
        return web.Response(text=page, content_type="text/html")

    async def _outbox_json(self, _request: web.Request) -> web.Response:
        texts = [
            {"user": text.user, "phone": text.phone, "message": text.message, "otp": text.otp, "sent_at": text.sent_at}
            for text in self._outbox.newest_first()
        ]
        return web.json_response(texts)

    async def _counters_json(self, _request: web.Request) -> web.Response:
        return web.json_response({"texts": dict(self._outbox.texts_sent), "calls": dict(self._outbox.calls_made)})


def _new_code() -> str:
    return "".join(secrets.choice("0123456789") for _ in range(_OTP_DIGITS))


def _nobody_asked(wanted: PfpRequest, error: ErrorId) -> PfpResponse:
    return PfpResponse(wanted.request_id, is_success=False, is_authenticated=False, error_id=error)
