from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import dataclass, field
from typing import cast
from unittest.mock import Mock
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest
from aiohttp import web
from aiohttp.streams import StreamReader
from aiohttp.test_utils import make_mocked_request

from mfalb.reference.config.mfa_server import MfaServerSettings, RadiusSettings
from mfalb.reference.config.values import Account, Endpoint, User
from mfalb.reference.directory import Directory
from mfalb.reference.mfa_server import sdk
from mfalb.reference.mfa_server.master import reaches
from mfalb.reference.mfa_server.sdk import NAMESPACE, PATH, SdkFront
from mfalb.reference.mfa_server.second_factor import Begun, FirstHalf, SecondFactor
from mfalb.reference.mfa_server.verification import Outcome
from mfalb.wire.soap import Envelope, read_envelope_untrusted

ACCOUNT = Account("CONTOSO\\svc-mfa", "pa:ss wörd")
RADIUS = RadiusSettings(Endpoint(), "127.0.0.0/8", "secret")
MASTER = Endpoint("192.0.2.1", 443)
DIRECTORY = Directory([User("alice", "password-a", "+1 555 0101")])


def basic(name: str, password: str, scheme: str = "Basic") -> dict[str, str]:
    return {"Authorization": f"{scheme} {b64encode(f'{name}:{password}'.encode()).decode()}"}


SIGNED_IN = basic(ACCOUNT.name, ACCOUNT.password)


@dataclass
class FakeSecondFactor:
    """Rings nobody: what it answers is set by the test, and what it was asked is kept."""

    begun: Begun = Begun.TEXT_SENT
    outcome: Outcome = Outcome.ACCEPTED
    asked: list[tuple[str, ...]] = field(default_factory=list)

    async def begin(self, user: User, request_id: str) -> FirstHalf:
        self.asked.append(("begin", user.name, request_id))
        return FirstHalf(self.begun, request_id)

    def verify(self, user_name: str, request_id: str, otp: str) -> Outcome:
        self.asked.append(("verify", user_name, request_id, otp))
        return self.outcome


class Caller:
    """Calls an SDK's application without a socket."""

    def __init__(self, factor: FakeSecondFactor) -> None:
        settings = MfaServerSettings("mfa1", "http://cloud.test", Endpoint(), RADIUS, ACCOUNT, (), MASTER)
        front = SdkFront(settings, DIRECTORY, cast("SecondFactor", factor))
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
def factor() -> FakeSecondFactor:
    return FakeSecondFactor()


@pytest.fixture
def caller(factor: FakeSecondFactor) -> Caller:
    return Caller(factor)


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (Begun.TEXT_SENT, ("true", sdk.TEXT_SENT, sdk.NO_ERROR)),
        (Begun.AUTHENTICATED, ("true", sdk.CALL_ANSWERED, sdk.NO_ERROR)),
        (Begun.DENIED, ("false", sdk.CALL_NOT_ANSWERED, sdk.NO_ERROR)),
        (Begun.CLOUD_UNAVAILABLE, ("false", sdk.NOT_ATTEMPTED, sdk.SERVICE_UNAVAILABLE)),
    ],
)
async def test_half_one_says_how_it_ended_and_gives_the_id_for_half_two(
    factor: FakeSecondFactor, caller: Caller, begun: Begun, expected: tuple[str, int, tuple[int, str]]
) -> None:
    result, code, (_, description) = expected
    factor.begun = begun
    told = await caller.call("PfAuthUser_4", username="ALICE", authenticationType="adfs")
    assert told.method == "PfAuthUser_4Response"
    ((verb, user, request_id),) = factor.asked
    assert (verb, user) == ("begin", "alice"), "the directory's own spelling"
    assert told.texts["PfAuthUser_4Result"] == result
    assert told.texts["Code"] == str(code)
    assert told.texts["authreqid"] == request_id
    assert told.texts["Description"] == description


@pytest.mark.parametrize("texts", [{"username": "nobody"}, {"username": ""}, {}])
async def test_an_unknown_user_is_told_and_nobody_is_rung(
    factor: FakeSecondFactor, caller: Caller, texts: dict[str, str]
) -> None:
    told = await caller.call("PfAuthUser_4", **texts)
    assert told.texts["PfAuthUser_4Result"] == "false"
    assert told.texts["Description"] == sdk.UNKNOWN_USER[1]
    assert factor.asked == []


@pytest.mark.parametrize("outcome", list(Outcome))
async def test_half_two_is_true_for_an_accepted_code_only_and_says_no_more(
    factor: FakeSecondFactor, caller: Caller, outcome: Outcome
) -> None:
    factor.outcome = outcome
    told = await caller.call("VerifyOneWayOtp", username="a&<b>", authreqid="7", otp="123456")
    is_good = outcome is Outcome.ACCEPTED
    assert told.texts["VerifyOneWayOtpResult"] == ("true" if is_good else "false")
    assert told.texts["Description"] == ("" if is_good else sdk.CODE_REFUSED[1])
    assert factor.asked == [("verify", "a&<b>", "7", "123456")]


async def test_half_two_without_its_arguments_is_judged_with_empty_ones(
    factor: FakeSecondFactor, caller: Caller
) -> None:
    await caller.call("VerifyOneWayOtp")
    assert factor.asked == [("verify", "", "", "")]


async def test_test_security_says_secure(caller: Caller) -> None:
    told = await caller.call("TestSecurity")
    assert (told.method, told.texts["TestSecurityResult"]) == ("TestSecurityResponse", "secure")


@pytest.mark.parametrize("is_reached", [True, False])
async def test_whether_the_master_is_reached_is_told(
    monkeypatch: pytest.MonkeyPatch, caller: Caller, *, is_reached: bool
) -> None:
    asked: list[Endpoint | None] = []

    async def look(master: Endpoint | None) -> bool:
        asked.append(master)
        return is_reached

    monkeypatch.setattr(sdk, "reaches", look)
    told = await caller.call("TestMasterConnection")
    assert told.method == "TestMasterConnectionResponse"
    assert told.texts["TestMasterConnectionResult"] == ("true" if is_reached else "false")
    assert told.texts["Description"] == ("" if is_reached else sdk.NO_MASTER[1])
    assert asked == [MASTER]


async def test_the_master_reaches_itself() -> None:
    assert await reaches(None)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<Envelope>",
        b"<Envelope><Body/></Envelope>",
        b'<!DOCTYPE x [<!ENTITY e "e">]><Envelope><Body><TestSecurity>&e;</TestSecurity></Body></Envelope>',
        b"<Envelope><Body><NoSuchOperation/></Body></Envelope>",
        b"<Envelope><Body><application/></Body></Envelope>",
        b"\0" * 100,
    ],
)
async def test_what_is_no_call_gets_a_fault_that_repeats_nothing_of_it(
    factor: FakeSecondFactor, caller: Caller, body: bytes
) -> None:
    response = await caller.ask("POST", body=body)
    assert (response.status, response.content_type) == (500, "text/xml")
    told = read_envelope_untrusted(bytes_of(response))
    assert (told.method, told.texts["faultcode"]) == ("Fault", "soap:Client")
    assert "NoSuchOperation" not in bytes_of(response).decode()
    assert factor.asked == []


async def test_a_texts_markup_is_escaped_in_faults() -> None:
    told = read_envelope_untrusted(bytes_of(sdk._fault("soap:Client", "<&>")))
    assert told.texts["faultstring"] == "<&>"


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
    factor: FakeSecondFactor, caller: Caller, headers: dict[str, str], method: str, path: str
) -> None:
    body = b"<Envelope><Body><PfAuthUser_4><username>alice</username></PfAuthUser_4></Body></Envelope>"
    response = await caller.ask(method, path, body, headers)
    assert response.status == 401
    assert response.headers["WWW-Authenticate"].startswith("Basic ")
    assert factor.asked == []


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
    assert names == {"PfAuthUser_4", "TestMasterConnection", "TestSecurity", "VerifyOneWayOtp"}
    address = next(element for element in root.iter() if element.tag.endswith("}address"))
    assert address.get("location") == f"{scheme}://mfa.test{PATH}"


async def test_a_hosts_markup_is_escaped_in_the_wsdl(caller: Caller) -> None:
    response = await caller.ask("GET", f"{PATH}?wsdl", headers=SIGNED_IN | {"X-Forwarded-Proto": '"><script>'})
    assert b"<script>" not in bytes_of(response)
    ET.fromstring(bytes_of(response))  # noqa: S314 - our own document
