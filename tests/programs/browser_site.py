"""A portal as browsers see it: sessions in the memory of one process, pages with parts, uploads, events, WebSockets."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import secrets
import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

from aiohttp import web

from programs.ports import LOOPBACK, free_tcp_port
from programs.process import Launch, Logged, Program

PARTS: Final = 12
EVENTS: Final = 4
_READY: Final = "portal is listening"
_ACKNOWLEDGED_IN_S: Final = 10.0

_SIGN_IN: Final = """<!doctype html><title>Sign in</title>
<form method=post action=/sign-in><input name=user><button>Sign in</button></form>"""
_HOME: Final = """<!doctype html><title>Home</title>
<h1>{user}</h1><p id=server>{server}</p>{parts}
<form method=post action=/upload enctype=multipart/form-data><input type=file name=file><button>Send</button></form>
<a id=more href=/more>more</a> <a id=export href=/export download>export</a>"""
_MORE: Final = "<!doctype html><title>More</title><p id=server>{server}</p>"
_PART: Final = '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="10"></svg>'


class Portal(Program):
    """A process that can be killed. Who is not signed in *here* is sent to the page that asks for a name."""

    def __init__(self, name: str, run_dir: Path) -> None:
        self.port: Final = free_tcp_port()
        argv = [sys.executable, "-m", "programs.browser_site", "--port", str(self.port), "--name", name]
        environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
        super().__init__(name, argv, run_dir, ready=Logged(_READY), launch=Launch(environment=environment))

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"


def export() -> bytes:
    """What is downloaded."""
    return b"".join(b"%07d,row\n" % number for number in range(200_000))


class _Service:
    def __init__(self, name: str) -> None:
        self._name = name
        self._users: dict[str, str] = {}
        self._acknowledged: defaultdict[tuple[str, int], asyncio.Event] = defaultdict(asyncio.Event)

    def application(self) -> web.Application:
        application = web.Application(client_max_size=64 << 20)
        application.router.add_get("/", self._ask)
        application.router.add_post("/sign-in", self._sign_in)
        application.router.add_get("/home", self._home)
        application.router.add_get("/more", self._more)
        application.router.add_get("/part/{number}", self._part)
        application.router.add_get("/export", self._export)
        application.router.add_post("/upload", self._upload)
        application.router.add_get("/events", self._events)
        application.router.add_post("/events/{number}", self._acknowledge)
        application.router.add_get("/socket", self._socket)
        return application

    def _user(self, request: web.Request) -> str:
        user = self._users.get(request.cookies.get("session", ""))
        if user is None:
            raise web.HTTPSeeOther("/")
        return user

    async def _ask(self, _request: web.Request) -> web.Response:
        return web.Response(text=_SIGN_IN, content_type="text/html")

    async def _sign_in(self, request: web.Request) -> web.Response:
        session = secrets.token_hex(16)
        self._users[session] = str((await request.post())["user"])
        response = web.Response(status=303, headers={"Location": "/home"})
        response.set_cookie("session", session, httponly=True)
        return response

    async def _home(self, request: web.Request) -> web.Response:
        parts = "".join(f'<img src="/part/{number}">' for number in range(1, PARTS + 1))
        text = _HOME.format(user=self._user(request), server=self._name, parts=parts)
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

    async def _more(self, request: web.Request) -> web.Response:
        self._user(request)
        return web.Response(text=_MORE.format(server=self._name), content_type="text/html")

    async def _part(self, request: web.Request) -> web.Response:
        self._user(request)
        text = _PART.format(width=10 * int(request.match_info["number"]))
        headers = {"Cache-Control": "no-store", "X-Server": self._name}
        return web.Response(text=text, content_type="image/svg+xml", headers=headers)

    async def _export(self, request: web.Request) -> web.Response:
        self._user(request)
        return web.Response(body=export(), headers={"Content-Disposition": "attachment; filename=export.csv"})

    async def _upload(self, request: web.Request) -> web.Response:
        self._user(request)
        sent = (await request.post())["file"]
        if not isinstance(sent, web.FileField):
            raise web.HTTPBadRequest
        digest = hashlib.sha256(sent.file.read()).hexdigest()
        return web.Response(text=f"{sent.filename} {digest}")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Each event waits until the page has told that it has the one before."""
        self._user(request)
        session = request.cookies["session"]
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for number in range(EVENTS):
            await response.write(f"data: {number}\n\n".encode())
            async with asyncio.timeout(_ACKNOWLEDGED_IN_S):
                await self._acknowledged[session, number].wait()
        await response.write(b"data: end\n\n")
        return response

    async def _acknowledge(self, request: web.Request) -> web.Response:
        self._user(request)
        self._acknowledged[request.cookies["session"], int(request.match_info["number"])].set()
        return web.Response(status=204)

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        user = self._user(request)
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        async for message in websocket:
            await websocket.send_str(f"{user}@{self._name}: {message.data}")
        return websocket


async def _serve(arguments: argparse.Namespace) -> None:
    runner = web.AppRunner(_Service(arguments.name).application(), access_log=None, keepalive_timeout=120)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, arguments.port).start()
    sys.stderr.write(_READY + "\n")
    sys.stderr.flush()
    await asyncio.Event().wait()


def main() -> None:
    """The portal's process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
