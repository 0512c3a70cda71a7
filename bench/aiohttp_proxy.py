"""A balancing proxy as one would write it in an afternoon: an aiohttp handler that calls aiohttp's client, on uvloop.

    python bench/aiohttp_proxy.py --plain-port 8080 --tls-port 8443 --cert server.crt --key server.key
                                  --access-log access.log http://10.0.0.1:80 http://10.0.0.2:80

It streams bodies both ways, keeps connections to backends, pins by a cookie and logs with aiohttp's own access log.
It stands beside mfalb in bench/https.py and is nothing for production.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

import uvloop
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web
from multidict import CIMultiDict, CIMultiDictProxy

COOKIE: Final = "SERVERID"
HOST: Final = "127.0.0.1"
TIMEOUT: Final = ClientTimeout(total=None, sock_connect=5, sock_read=120)
# RFC 9110 section 7.6.1: they belong to one connection. Lengths of bodies that are streamed are told anew.
HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


def _end_to_end(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in HOP_BY_HOP)


@dataclass(slots=True)
class Proxy:
    """The handler; a client without a cookie that we know gets the next of `backends`, by name."""

    session: ClientSession
    backends: dict[str, str]
    turn: cycle[str] = field(init=False)

    def __post_init__(self) -> None:
        self.turn = cycle(self.backends)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Passes one request on and its answer back."""
        pinned = request.cookies.get(COOKIE)
        name = pinned if pinned in self.backends else next(self.turn)
        headers = _end_to_end(request.headers)
        headers["X-Forwarded-For"] = request.remote or ""
        body = request.content if request.can_read_body else None
        url = self.backends[name] + request.path_qs
        try:
            async with self.session.request(
                request.method, url, headers=headers, data=body, allow_redirects=False
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_end_to_end(answer.headers))
                if pinned != name:
                    response.set_cookie(COOKIE, name, httponly=True)
                await response.prepare(request)
                async for piece in answer.content.iter_any():
                    await response.write(piece)
                await response.write_eof()
                return response
        except ClientError as error:
            raise web.HTTPBadGateway(text=f"backend failed: {type(error).__name__}\n") from error


async def serve(options: argparse.Namespace) -> None:
    """Serves both ports until SIGTERM."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.cert, options.key)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    connector = TCPConnector(limit=0)  # the default of 100 would be a queue of its own
    async with ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=DummyCookieJar(), timeout=TIMEOUT
    ) as session:
        proxy = Proxy(session, {f"b{number}": url for number, url in enumerate(options.backends)})
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", proxy.handle)
        runner = web.AppRunner(application, access_log=logging.getLogger("access"))
        await runner.setup()
        await web.TCPSite(runner, HOST, options.plain_port).start()
        await web.TCPSite(runner, HOST, options.tls_port, ssl_context=context).start()
        print("ready", flush=True)
        await ended.wait()
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(description="a proxy as an aiohttp handler")
    parser.add_argument("--plain-port", type=int, required=True)
    parser.add_argument("--tls-port", type=int, required=True)
    for name in ("--cert", "--key", "--access-log"):
        parser.add_argument(name, required=True)
    parser.add_argument("backends", nargs="+", help="base URLs")
    options = parser.parse_args(arguments)
    logging.basicConfig(filename=options.access_log, level=logging.INFO, format="%(message)s")
    uvloop.run(serve(options))


if __name__ == "__main__":
    main()
