"""One HTTP request and its answer, on a connection of its own, by aiohttp.

A new connection each time: an old one would not notice that nobody listens any more, nor that a certificate ran out.
aiohttp is given connections that are ready: a PROXY protocol header was sent on them, and TLS, if any, stands.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.tracing import Trace
from yarl import URL

from mfalb.balancer.config.health_models import WebCheck
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.values import Address
from mfalb.balancer.health.outcomes import ProbeFailed, ProbeUnsent
from mfalb.net.opened_sockets import opened_socket
from mfalb.net.udp_sockets import is_local_shortage
from mfalb.wire.proxy_protocol import own_header

_GOODBYE_S: Final = 2.0  # how long a server may take to answer TLS's close_notify before the connection is cut


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: `target` as it stands in a request line."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came. Names of headers are in lower case; of the body there are the first bytes, one more than the limit."""

    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


class Caller(Protocol):
    """Who asks a backend."""

    async def call(self, address: Address, question: Question) -> Answer:
        """Ask once. Raises ProbeFailed; cancel it to give up."""
        ...


class WebCalls:
    """How the backends of one pool are asked, as its check says; over TLS when there is a context."""

    def __init__(self, check: WebCheck, pool: PoolConfig, context: ssl.SSLContext | None) -> None:
        tls = pool.upstream_tls
        self._opening = said_first(pool)
        self._body_limit = check.body_limit
        self._server_name = tls.server_name if tls is not None else None
        self._context = context
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "mfalb-health"}
        if check.host is not None:
            self._headers["Host"] = check.host
        if check.user is not None and check.password is not None:
            credentials = check.user.encode() + b":" + check.password.reveal()
            self._headers["Authorization"] = "Basic " + b64encode(credentials).decode("ascii")  # RFC 7617, UTF-8

    async def call(self, address: Address, question: Question) -> Answer:
        connector = _OneConnection(address, self._opening, self._context, self._server_name or address.host)
        session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(),  # none: whoever calls has one deadline for everything
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # nobody may make a small answer large
        )
        try:
            async with session:
                return await self._ask(session, address, question)
        except OSError as error:  # aiohttp's own ones of that kind among them
            raise fault_of_connecting(error) from None
        except aiohttp.ClientError as error:
            raise ProbeFailed(_said(error)) from None

    async def _ask(self, session: aiohttp.ClientSession, address: Address, question: Question) -> Answer:
        named = {name.lower() for name in question.headers}
        headers = {name: value for name, value in self._headers.items() if name.lower() not in named}
        scheme = "https" if self._context is not None else "http"
        url = URL(f"{scheme}://{address}{question.target}", encoded=True)
        async with session.request(
            question.method, url, data=question.body, headers=headers | question.headers, allow_redirects=False
        ) as response:
            body = await _read(response.content, self._body_limit)
            fields = tuple((name.lower(), value) for name, value in response.headers.items())
            return Answer(response.status, fields, body)


async def _read(content: aiohttp.StreamReader, limit: int) -> bytes:
    parts, size = [], 0
    while size <= limit and (part := await content.read(limit + 1 - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def said_first(pool: PoolConfig) -> bytes:
    """What the balancer's own connections to a pool begin with: its PROXY protocol header, b"" where none is sent."""
    return own_header(pool.send_proxy) if pool.send_proxy is not None else b""


def fault_of_connecting(error: OSError) -> ProbeFailed | ProbeUnsent:
    """What it means that there is no connection."""
    # The event loop's own words name the address, and those of a name that is not known have no errno of the system
    number = error.errno or 0
    reason = os.strerror(number) if number > 0 else error.strerror or "unreachable"
    return ProbeUnsent(reason) if is_local_shortage(error) else ProbeFailed(reason)


def _said(error: aiohttp.ClientError) -> str:
    """What went wrong, without what the server said."""
    if isinstance(error, aiohttp.ServerConnectionError):
        return "connection closed"
    return "answer not complete" if isinstance(error, aiohttp.ClientPayloadError) else "no HTTP"


class _OneConnection(aiohttp.BaseConnector):
    """Where aiohttp gets its connection from."""

    def __init__(self, address: Address, opening: bytes, context: ssl.SSLContext | None, server_name: str) -> None:
        super().__init__(force_close=True)
        self._address = address
        self._opening = opening
        self._context = context
        self._server_name = server_name

    async def _create_connection(
        self, _req: aiohttp.ClientRequest, _traces: list[Trace], _timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        opened = await opened_socket(*self._address, self._opening)
        loop = asyncio.get_running_loop()
        if self._context is None:
            _, plain = await loop.create_connection(self._factory, sock=opened)
            return plain
        try:
            _, secured = await loop.create_connection(
                self._factory,
                sock=opened,
                ssl=self._context,
                server_hostname=self._server_name,
                ssl_shutdown_timeout=_GOODBYE_S,
            )
        except ssl.SSLCertVerificationError as error:
            raise ProbeFailed(f"TLS: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise ProbeFailed(f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}") from None
        return secured
