"""One probe a kind: asks a backend once whether it works. None of them carries a user."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, assert_never

import aiohttp

from mfalb.balancer.config.models import HttpCheck, RadiusCheck, TcpCheck, UpstreamTls
from mfalb.balancer.pools.backend import Backend
from mfalb.errors import MalformedMessage
from mfalb.net.tls import client_context
from mfalb.wire import radius
from mfalb.wire.radius import SharedSecret

Probe = Callable[[Backend], Awaitable[None]]
_STATUS_ANSWERS: Final = frozenset((radius.ACCESS_ACCEPT, radius.ACCOUNTING_RESPONSE))


class ProbeFailed(Exception):  # noqa: N818 - a finding, not a fault of ours
    """The backend did not answer as a working one does; the text is a short reason."""


def probe_for(check: HttpCheck | TcpCheck | RadiusCheck, tls: UpstreamTls | None) -> Probe:
    """The probe of a pool. It raises ProbeFailed, and gives up by itself after the check's timeout."""
    match check:
        case HttpCheck():
            return _HttpProbe(check, tls)
        case TcpCheck():
            return _limited(_tcp, check.timeout_s)
        case RadiusCheck():
            return _limited(_status_server, check.timeout_s)
    assert_never(check)


def _limited(probe: Probe, timeout_s: float) -> Probe:
    async def limited(backend: Backend) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await probe(backend)
        except TimeoutError:
            raise ProbeFailed("timeout") from None
        except OSError as error:
            raise ProbeFailed(error.strerror or "unreachable") from None

    return limited


async def _tcp(backend: Backend) -> None:
    _, writer = await asyncio.open_connection(backend.address.host, backend.address.port)
    writer.close()


class _HttpProbe:
    """GET with a new connection each time: an old one would not notice that nobody listens any more."""

    def __init__(self, check: HttpCheck, tls: UpstreamTls | None) -> None:
        self._check = check
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        if tls is not None:
            self._context = client_context(tls.ca, is_verified=tls.verify)

    async def __call__(self, backend: Backend) -> None:
        check = self._check
        scheme = "https" if self._context is not None else "http"
        host, port = backend.address.host, backend.address.port
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{check.path}"
        options: dict[str, Any] = {"allow_redirects": False}
        if self._context is not None:
            options["ssl"] = self._context
            options["server_hostname"] = (self._tls.server_name if self._tls else None) or host
        if check.host is not None:
            options["headers"] = {"Host": check.host}
        timeout = aiohttp.ClientTimeout(total=check.timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as session,
                session.get(url, **options) as response,
            ):
                status = response.status
        except TimeoutError:
            raise ProbeFailed("timeout") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ProbeFailed(type(error).__name__) from None
        if status not in check.expect_status:
            raise ProbeFailed(f"status {status}")


class _OneDatagram(asyncio.DatagramProtocol):
    """Waits for one datagram, or the host's word that nobody listens."""

    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _address: object) -> None:
        if not self.received.done():
            self.received.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.received.done():
            self.received.set_exception(error)


async def _status_server(backend: Backend) -> None:
    """Status-Server (RFC 5997) from a socket of its own: a random authenticator, signed, no user, never sent twice."""
    if backend.config.secret is None:
        raise ProbeFailed("no secret configured")
    secret = SharedSecret(backend.config.secret.reveal())
    authenticator = os.urandom(radius.AUTHENTICATOR_BYTES)
    request = radius.signed_request(radius.STATUS_SERVER, authenticator[0], authenticator, b"", secret)
    loop = asyncio.get_running_loop()
    address = (backend.address.host, backend.address.port)
    transport, protocol = await loop.create_datagram_endpoint(_OneDatagram, remote_addr=address)
    try:
        transport.sendto(request)
        datagram = await protocol.received
    finally:
        transport.close()
    fault = status_fault_untrusted(datagram, authenticator, secret)
    if fault is not None:
        raise ProbeFailed(fault)


def status_fault_untrusted(datagram: bytes, authenticator: bytes, secret: SharedSecret) -> str | None:
    """Why this is no answer to the Status-Server with that authenticator, whose first byte was its identifier.

    None when it is one: an Access-Accept, or an Accounting-Response from an accounting port (RFC 5997 section 4.2).
    """
    try:
        packet = radius.read_untrusted(datagram)
    except MalformedMessage as error:
        return error.reason
    if packet.identifier != authenticator[0] or packet.code not in _STATUS_ANSWERS:
        return "unexpected answer"
    if not radius.has_valid_response_authenticator(packet, secret, authenticator):
        return "wrong secret"
    return None
