from __future__ import annotations

import asyncio
import json
import re
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from mfalb.reference.cloud_service.app import CloudService
from mfalb.reference.config.cloud import CloudSettings
from mfalb.wire.pfp_message import (
    PATH,
    CallStatus,
    PfpMode,
    PfpRequest,
    PfpResponse,
    read_response_untrusted,
    request_xml,
)


class Cloud:
    """Asks the cloud's application without a socket."""

    def __init__(self) -> None:
        self._application = CloudService(CloudSettings(answer_delay_s=0.0)).application()
        self._application.freeze()

    async def ask(self, method: str, path: str, body: bytes = b"") -> web.Response:
        payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
        payload.feed_data(body)
        payload.feed_eof()
        request = make_mocked_request(method, path, app=self._application, payload=payload)
        response = await self._application._handle(request)
        assert isinstance(response, web.Response)
        return response

    async def authenticate(self, mode: PfpMode, user: str = "alice", request_id: str = "7") -> PfpResponse:
        wanted = PfpRequest(request_id, mode, user, "+1 555 0101", "mfa1")
        response = await self.ask("POST", PATH, request_xml(wanted))
        assert response.status == 200
        assert isinstance(response.body, bytes)
        return read_response_untrusted(response.body)

    async def json(self, path: str) -> object:
        return json.loads((await self.ask("GET", path)).text or "")


@pytest.fixture
def cloud() -> Cloud:
    return Cloud()


async def test_a_text_is_on_the_phone_and_its_code_goes_back_to_the_server_that_asked(cloud: Cloud) -> None:
    answer = await cloud.authenticate(PfpMode.SMS_ONE_WAY_OTP)
    assert (answer.request_id, answer.is_success, answer.is_authenticated) == ("7", True, True)
    assert answer.otp is not None
    assert re.fullmatch("[0-9]{6}", answer.otp)
    texts = await cloud.json("/outbox.json")
    assert isinstance(texts, list)
    assert [(text["user"], text["phone"], text["otp"]) for text in texts] == [("alice", "+1 555 0101", answer.otp)]
    assert await cloud.json("/counters.json") == {"texts": {"alice": 1}, "calls": {}}


async def test_a_call_is_answered_without_a_code(cloud: Cloud) -> None:
    assert await cloud.authenticate(PfpMode.STANDARD) == PfpResponse(
        "7", True, True, call_status=CallStatus.NO_PIN_ENTERED
    )
    assert await cloud.json("/outbox.json") == []
    assert await cloud.json("/counters.json") == {"texts": {}, "calls": {"alice": 1}}


async def test_codes_differ_from_text_to_text(cloud: Cloud) -> None:
    codes = {(await cloud.authenticate(PfpMode.SMS_ONE_WAY_OTP)).otp for _ in range(20)}
    assert len(codes) > 15


async def test_the_page_of_phones_shows_a_users_markup_as_text(cloud: Cloud) -> None:
    await cloud.authenticate(PfpMode.SMS_ONE_WAY_OTP, user="<script>alert(1)</script>")
    page = (await cloud.ask("GET", "/outbox")).text or ""
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page


@pytest.mark.parametrize("body", [b"", b"<a/>", b"<!DOCTYPE a><a/>", b"{}"])
async def test_what_is_no_request_is_refused_and_rings_nobody(cloud: Cloud, body: bytes) -> None:
    assert (await cloud.ask("POST", PATH, body)).status == 400
    assert await cloud.json("/counters.json") == {"texts": {}, "calls": {}}
