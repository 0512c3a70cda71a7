from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Mapping
from unittest.mock import Mock
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from mfalb.reference.asmx import Content
from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.sdk import PATH, SdkFront
from mfalb.reference.mfa_server.sdk_answers import NAMESPACE
from mfalb.reference.mfa_server.sdk_schema import OPERATIONS
from mfalb.wire.soap import Envelope, read_envelope_untrusted

ACCOUNT = Account("CONTOSO\\svc-mfa", "pa:ss wörd")
RADIUS = RadiusSettings(Endpoint(), "127.0.0.0/8", "secret")


def basic(name: str, password: str, scheme: str = "Basic") -> dict[str, str]:
    return {"Authorization": f"{scheme} {b64encode(f'{name}:{password}'.encode()).decode()}"}


SIGNED_IN = basic(ACCOUNT.name, ACCOUNT.password)


class FakeOperations:
    """One operation, which keeps what it was called with."""

    def __init__(self) -> None:
        self.asked: list[Mapping[str, str]] = []

    async def echo(self, texts: Mapping[str, str]) -> dict[str, Content]:
        self.asked.append(texts)
        return {"EchoResult": True, "text": texts.get("text", "")}


class Caller:
    """Calls an SDK's application without a socket."""

    def __init__(self, operations: FakeOperations) -> None:
        settings = MfaServerSettings("mfa1", "http://cloud.test", Endpoint(), RADIUS, ACCOUNT, ())
        self.faults = Faults("down")
        front = SdkFront(settings, {"Echo": operations.echo}, self.faults)
        self._application = front.application()
        self._application.freeze()

    async def ask(
        self, method: str, path: str = PATH, body: bytes = b"", headers: dict[str, str] = SIGNED_IN
    ) -> web.Response:
        payload = StreamReader(Mock(), 2**16, loop=asyncio.get_running_loop())
        payload.feed_data(body)
        payload.feed_eof()
        request = make_mocked_request(
            method, path, {"Host": "mfa.test"} | headers, app=self._application, payload=payload
        )
        response = await self._application._handle(request)
        for sign in self._application.on_response_prepare:  # what aiohttp does before it sends
            await sign(request, response)
        assert isinstance(response, web.Response)
        return response

    async def call(self, method: str, **texts: str) -> Envelope:
        arguments = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in texts.items())
        body = f'<Envelope><Body><{method} xmlns="{NAMESPACE}">{arguments}</{method}></Body></Envelope>'
        return read_envelope_untrusted(bytes_of(await self.ask("POST", body=body.encode())))


def bytes_of(response: web.Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


@pytest.fixture
def operations() -> FakeOperations:
    return FakeOperations()


@pytest.fixture
def caller(operations: FakeOperations) -> Caller:
    return Caller(operations)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Envelope>",
        b"<Envelope><Body/></Envelope>",
        b'<!DOCTYPE x [<!ENTITY e "e">]><Envelope><Body><Echo>&e;</Echo></Body></Envelope>',
        b"<Envelope><Body><NoSuchOperation/></Body></Envelope>",
        b"<Envelope><Body><application/></Body></Envelope>",
        b"\0" * 100,
    ],
)
async def test_what_is_no_call_gets_a_fault_that_repeats_nothing_of_it(
    operations: FakeOperations, caller: Caller, body: bytes
) -> None:
    response = await caller.ask("POST", body=body)
    assert (response.status, response.content_type) == (500, "text/xml")
    told = read_envelope_untrusted(bytes_of(response))
    assert (told.method, told.texts["faultcode"]) == ("Fault", "soap:Client")
    assert "NoSuchOperation" not in bytes_of(response).decode()
    assert operations.asked == []


async def test_an_operation_gets_the_texts_of_a_call_and_its_answer_goes_back(
    operations: FakeOperations, caller: Caller
) -> None:
    told = await caller.call("Echo", text="a&<b>")
    assert operations.asked[0]["text"] == "a&<b>"
    assert (told.method, told.texts["EchoResult"], told.texts["text"]) == ("EchoResponse", "true", "a&<b>")


async def test_a_server_that_is_down_answers_nobody(operations: FakeOperations) -> None:
    caller = Caller(operations)
    caller.faults.set_untrusted({"down": True})
    assert (await caller.ask("GET", headers={})).status == 503


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic(ACCOUNT.name, "wrong"),
        basic("CONTOSO\\other", ACCOUNT.password),
        basic(ACCOUNT.name, ""),
        basic(ACCOUNT.name, ACCOUNT.password, scheme="Bearer"),
        {"Authorization": "Basic"},
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic é"},
        {"Authorization": f"Basic {SIGNED_IN['Authorization']}"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", PATH), ("POST", PATH), ("GET", "/elsewhere")])
async def test_who_has_not_the_account_is_turned_away_from_every_page(
    operations: FakeOperations, caller: Caller, headers: dict[str, str], method: str, path: str
) -> None:
    body = b"<Envelope><Body><Echo><text>alice</text></Echo></Body></Envelope>"
    response = await caller.ask(method, path, body, headers)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert operations.asked == []


async def test_the_word_basic_is_the_same_in_any_case(caller: Caller) -> None:
    response = await caller.ask("GET", headers=basic(ACCOUNT.name, ACCOUNT.password, scheme="bAsIc"))
    assert response.status == 200


@pytest.mark.parametrize(
    ("path", "status"), [(PATH, 200), (PATH.lower(), 200), (PATH.upper(), 200), ("/", 404), (PATH + "/x", 404)]
)
async def test_the_help_page_is_at_its_path_whatever_the_case_and_names_the_server(
    caller: Caller, path: str, status: int
) -> None:
    response = await caller.ask("GET", path)
    assert response.status == status
    assert response.headers["X-Served-By"] == "mfa1"


@pytest.mark.parametrize(("forwarded", "scheme"), [({}, "http"), ({"X-Forwarded-Proto": "https"}, "https")])
async def test_the_wsdl_names_the_operations_and_the_address_that_the_caller_used(
    caller: Caller, forwarded: dict[str, str], scheme: str
) -> None:
    response = await caller.ask("GET", f"{PATH}?wsdl", headers=SIGNED_IN | forwarded)
    root = ET.fromstring(bytes_of(response))  # noqa: S314 - our own document
    wsdl = "{http://schemas.xmlsoap.org/wsdl/}"
    names = {element.get("name") for element in root.iterfind(f"{wsdl}portType/{wsdl}operation")}
    assert names == set(OPERATIONS)
    address = next(element for element in root.iter() if element.tag.endswith("}address"))
    assert address.get("location") == f"{scheme}://mfa.test{PATH}"


async def test_a_hosts_markup_is_escaped_in_the_wsdl(caller: Caller) -> None:
    response = await caller.ask("GET", f"{PATH}?wsdl", headers=SIGNED_IN | {"X-Forwarded-Proto": '"><script>'})
    assert b"<script>" not in bytes_of(response)
    ET.fromstring(bytes_of(response))  # noqa: S314 - our own document
