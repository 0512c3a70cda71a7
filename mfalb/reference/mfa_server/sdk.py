"""The Web Service SDK front of an MFA Server: SOAP 1.1 over HTTP, callers signed in by HTTP Basic.

`PfAuthUser_4`, `TestSecurity` and `TestMasterConnection` are as seen in public code (MFA facts, section 1.4).
`VerifyOneWayOtp` is a stand-in of our own naming for the method that takes a one-way SMS's code: the real one's name
is not public.
"""

from __future__ import annotations

import hmac
import logging
from base64 import b64decode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from aiohttp import web
from aiohttp.typedefs import Handler
from jinja2 import Environment, FileSystemLoader

from mfalb.errors import MalformedMessage
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.directory import Directory
from mfalb.reference.mfa_server.master import reaches
from mfalb.reference.mfa_server.second_factor import Begun, SecondFactor, new_request_id
from mfalb.reference.mfa_server.verification import Outcome
from mfalb.wire.soap import Envelope, read_envelope_untrusted

PATH: Final = "/MultiFactorAuthWebServiceSdk/PfWsSdk.asmx"
NAMESPACE: Final = "http://www.phonefactor.com/PfWsSdk"  # by analogy with the sister service; the real one is not known
_BODY_LIMIT_BYTES: Final = 64 * 1024

# CallResult codes. The real numeric table is not public; these are ours.
CALL_ANSWERED: Final = 1
CALL_NOT_ANSWERED: Final = 2
NOT_ATTEMPTED: Final = 0
TEXT_SENT: Final = 5

# Error codes: 0 is "no error" in the sister service; the others are ours.
NO_ERROR: Final = (0, "")
UNKNOWN_USER: Final = (1, "The user is not known.")
SERVICE_UNAVAILABLE: Final = (2, "The multi-factor authentication service is not available.")
CODE_REFUSED: Final = (3, "The code was not accepted.")
NO_MASTER: Final = (4, "The master server cannot be reached.")

_log = logging.getLogger("mfalb.reference.mfa_server.sdk")

Operation = Callable[[dict[str, str]], Awaitable[str]]


class SdkFront:
    """The SDK's HTTP application."""

    def __init__(self, settings: MfaServerSettings, directory: Directory, second_factor: SecondFactor) -> None:
        self._server = settings.name
        self._account = settings.account
        self._master = settings.master
        self._directory = directory
        self._second_factor = second_factor
        self._pages = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)
        self._operations: dict[str, Operation] = {
            "PfAuthUser_4": self._pf_auth_user_4,
            "TestMasterConnection": self._test_master_connection,
            "TestSecurity": self._test_security,
            "VerifyOneWayOtp": self._verify_one_way_otp,
        }

    def application(self) -> web.Application:
        application = web.Application(client_max_size=_BODY_LIMIT_BYTES, middlewares=[self._signed_in])
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.on_response_prepare.append(self._sign)
        return application

    @web.middleware
    async def _signed_in(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """IIS authenticates before it serves anything, the help page included."""
        if not self._is_account(request.headers.get("Authorization", "")):
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="PfWsSdk"'}, text="401\n")
        return await handler(request)

    async def _sign(self, _request: web.Request, response: web.StreamResponse) -> None:
        """Every answer says who made it, aiohttp's own refusals, too."""
        response.headers["X-Served-By"] = self._server

    def _is_account(self, authorization: str) -> bool:
        scheme, _, encoded = authorization.partition(" ")
        try:
            given = b64decode(encoded, validate=True)
        except ValueError:
            return False
        wanted = f"{self._account.name}:{self._account.password}".encode()
        return scheme.lower() == "basic" and hmac.compare_digest(given, wanted)

    async def _handle(self, request: web.Request) -> web.Response:
        if request.path.lower() != PATH.lower():  # IIS ignores case
            return web.Response(status=404, text="There is nothing here.\n")
        if request.method == "POST":
            return await self._call(request)
        location = f"{request.headers.get('X-Forwarded-Proto', request.scheme)}://{request.host}{PATH}"
        is_wsdl = request.query_string.lower() == "wsdl"
        page = self._pages.get_template("wsdl.xml" if is_wsdl else "help.html")
        text = page.render(location=location, namespace=NAMESPACE, operations=sorted(self._operations))
        return web.Response(text=text, content_type="text/xml" if is_wsdl else "text/html", charset="utf-8")

    async def _call(self, request: web.Request) -> web.Response:
        try:
            envelope = read_envelope_untrusted(await request.read())
        except MalformedMessage as error:
            _log.warning("call refused", extra={"server": self._server, "reason": error.reason})
            return _fault("soap:Client", "The request is not a SOAP 1.1 envelope.")
        operation = self._operations.get(envelope.method)
        if operation is None:
            return _fault("soap:Client", "The operation is not known.")
        return _envelope(await self._result(operation, envelope))

    @staticmethod
    async def _result(operation: Operation, envelope: Envelope) -> str:
        body = await operation(envelope.texts)
        return f'<{envelope.method}Response xmlns="{NAMESPACE}">{body}</{envelope.method}Response>'

    # ------------------------------------------------------------------------------ operations

    async def _test_security(self, _texts: dict[str, str]) -> str:
        """`secure` when the caller's identity was mapped, which the middleware has seen to."""
        return "<TestSecurityResult>secure</TestSecurityResult>"

    async def _test_master_connection(self, _texts: dict[str, str]) -> str:
        """Whether this server reaches the master of its group."""
        is_reached = await reaches(self._master)
        error = NO_ERROR if is_reached else NO_MASTER
        return f"<TestMasterConnectionResult>{_boolean(is_reached)}</TestMasterConnectionResult>{_error(error)}"

    async def _pf_auth_user_4(self, texts: dict[str, str]) -> str:
        """Half one (or all, for a call): rings or texts the user; `authreqid` ties half two to it."""
        user = self._directory.find(texts.get("username", ""))
        request_id = new_request_id()
        if user is None:
            return _auth_result(NOT_ATTEMPTED, request_id, UNKNOWN_USER, is_good=False)
        half = await self._second_factor.begin(user, request_id)
        match half.begun:
            case Begun.TEXT_SENT:
                return _auth_result(TEXT_SENT, request_id, NO_ERROR, is_good=True)
            case Begun.AUTHENTICATED:
                return _auth_result(CALL_ANSWERED, request_id, NO_ERROR, is_good=True)
            case Begun.DENIED:
                return _auth_result(CALL_NOT_ANSWERED, request_id, NO_ERROR, is_good=False)
            case Begun.CLOUD_UNAVAILABLE:
                return _auth_result(NOT_ATTEMPTED, request_id, SERVICE_UNAVAILABLE, is_good=False)

    async def _verify_one_way_otp(self, texts: dict[str, str]) -> str:
        """Half two, a stand-in of our own naming: true when the code is the one that this server had sent."""
        outcome = self._second_factor.verify(
            texts.get("username", ""), texts.get("authreqid", ""), texts.get("otp", "")
        )
        is_good = outcome is Outcome.ACCEPTED
        error = NO_ERROR if is_good else CODE_REFUSED
        return f"<VerifyOneWayOtpResult>{_boolean(is_good)}</VerifyOneWayOtpResult>{_error(error)}"


def _auth_result(code: int, request_id: str, error: tuple[int, str], *, is_good: bool) -> str:
    return (
        f"<PfAuthUser_4Result>{_boolean(is_good)}</PfAuthUser_4Result>"
        f"<callResult><Code>{code}</Code></callResult><authreqid>{request_id}</authreqid>{_error(error)}"
    )


def _error(error: tuple[int, str]) -> str:
    code, description = error
    return f"<error><Code>{code}</Code><Description>{escape(description)}</Description></error>"


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _fault(code: str, text: str) -> web.Response:
    body = f"<soap:Fault><faultcode>{code}</faultcode><faultstring>{escape(text)}</faultstring></soap:Fault>"
    response = _envelope(body)
    response.set_status(500)  # SOAP 1.1 section 6.2
    return response


def _envelope(body: str) -> web.Response:
    text = (
        '<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">'
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    )
    return web.Response(text=text, content_type="text/xml", charset="utf-8")
