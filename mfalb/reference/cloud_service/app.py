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
from mfalb.reference.cloud_service.outbox import Outbox, Text
from mfalb.reference.config.cloud import CloudSettings
from mfalb.wire.pfp_message import PATH, PfpMode, PfpRequest, PfpResponse, read_request_untrusted, response_xml

_BODY_LIMIT_BYTES: Final = 64 * 1024
_OTP_DIGITS: Final = 6

_log = logging.getLogger("mfalb.reference.cloud_service")


class CloudService:
    """Sends texts and makes calls; the OTP of a text goes back to the server that asked, and to nobody else."""

    def __init__(self, settings: CloudSettings) -> None:
        self._settings = settings
        self._outbox = Outbox()
        state = None if settings.state is None else Path(settings.state)
        self._activation = Activation(settings.activation_codes, state)
        templates = FileSystemLoader(Path(__file__).parent / "templates")
        self._pages = Environment(loader=templates, autoescape=True)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES)
        application.router.add_post(PATH, self._authenticate)
        self._activation.add_routes(application.router)
        application.router.add_get("/outbox", self._outbox_page)
        application.router.add_get("/outbox.json", self._outbox_json)
        application.router.add_get("/counters.json", self._counters_json)
        return application

    async def _authenticate(self, request: web.Request) -> web.Response:
        try:
            wanted = read_request_untrusted(await request.read())
        except MalformedMessage as error:
            _log.warning("request refused", extra={"reason": error.reason})
            return web.Response(status=400, text=f"not a pfpMessage request: {error.reason}\n")
        answer = self._text(wanted) if wanted.mode is PfpMode.SMS_ONE_WAY_OTP else await self._call(wanted)
        _log.info("authentication", extra={"mode": wanted.mode.value, "server": wanted.server})
        return web.Response(body=response_xml(answer), content_type="text/xml", charset="utf-8")

    def _text(self, wanted: PfpRequest) -> PfpResponse:
        otp = "".join(secrets.choice("0123456789") for _ in range(_OTP_DIGITS))
        message = f"Your verification code is {otp}"
        self._outbox.send(Text(wanted.username, wanted.phone, message, otp, time.time()))
        return PfpResponse(wanted.request_id, is_success=True, is_authenticated=True, otp=otp)

    async def _call(self, wanted: PfpRequest) -> PfpResponse:
        self._outbox.ring(wanted.username)
        await asyncio.sleep(self._settings.answer_delay_s)  # a person reaches for the phone
        return PfpResponse(wanted.request_id, is_success=True, is_authenticated=True)

    async def _outbox_page(self, _request: web.Request) -> web.Response:
        page = self._pages.get_template("outbox.html").render(texts=self._outbox.newest_first(), clock=_clock)
        return web.Response(text=page, content_type="text/html")

    async def _outbox_json(self, _request: web.Request) -> web.Response:
        texts = [
            {"user": text.user, "phone": text.phone, "message": text.message, "otp": text.otp, "sent_at": text.sent_at}
            for text in self._outbox.newest_first()
        ]
        return web.json_response(texts)

    async def _counters_json(self, _request: web.Request) -> web.Response:
        return web.json_response({"texts": dict(self._outbox.texts_sent), "calls": dict(self._outbox.calls_made)})


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
