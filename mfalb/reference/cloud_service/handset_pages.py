"""`/handset/<user>`: a phone as a web page. It works without JavaScript; a small script only reloads it in time.

    GET  /handset/<user>                  the page
    GET  /handset/<user>.json             what rings: [{"key", "kind", "needs_pin", "code"}], for tests and scripts
    POST /handset/<user>/answers/<key>    a form: action (approve, deny, ignore, report), typed (user PIN or reply)
    POST /handset/<user>/answering        a form: mode (auto, manual), for this user's phone from now on

`key` cannot be guessed, so no strange page can answer a phone. These pages show codes to whoever opens them: they are
the phones of a demonstration, and there is nothing to sign in to on a phone that lies on the table.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from aiohttp import web
from jinja2 import Environment, FileSystemLoader

from mfalb.reference.cloud_service.outbox import Outbox
from mfalb.reference.cloud_service.phones import Action, Kind, Phones
from mfalb.reference.config.cloud import Answering

_CHOICE_LIMIT: Final = 10_000  # users with a choice of their own; past it, the oldest choice is forgotten
_SHOWN: Final = 20  # texts on a page
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_TITLES: Final = {Kind.CALL: "Incoming call", Kind.TEXT: "Text message to answer", Kind.PUSH: "Sign-in request"}
_FILES: Final = {"handset.css": "text/css", "handset.js": "text/javascript"}


class HandsetPages:
    """The pages of all phones."""

    def __init__(self, outbox: Outbox, phones: Phones, answering: Answering) -> None:
        self._outbox = outbox
        self._phones = phones
        self._answering = answering
        self._choices: dict[str, Answering] = {}
        self._directory = Path(__file__).parent / "templates"
        self._pages = Environment(loader=FileSystemLoader(self._directory), autoescape=True)

    def answering_of(self, user: str) -> Answering:
        return self._choices.get(user.casefold(), self._answering)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/handset/{user}.json", self._json)
        router.add_get("/handset/{user}", self._page)
        router.add_post("/handset/{user}/answers/{key}", self._answer)
        router.add_post("/handset/{user}/answering", self._choose)
        router.add_get("/handset-files/{name}", self._file)

    async def _page(self, request: web.Request, note: str = "", status: int = 200) -> web.Response:
        user = request.match_info["user"]
        page = self._pages.get_template("handset.html").render(
            user=user,
            ringing=self._phones.of(user),
            titles=_TITLES,
            kinds=Kind,
            texts=self._outbox.last_of(user, _SHOWN),
            is_manual=self.answering_of(user) is Answering.MANUAL,
            note=note,
            clock=clock,
            state=self._state(user),
        )
        return web.Response(text=page, content_type="text/html", headers=_HEADERS, status=status)

    def _state(self, user: str) -> str:
        """Changes with what the page shows."""
        sent = self._outbox.texts_sent[user], self._outbox.calls_made[user]
        return f"{sent[0]}-{sent[1]}-{len(self._phones.of(user))}"

    async def _json(self, request: web.Request) -> web.Response:
        user = request.match_info["user"]
        ringing = [
            {"key": one.key, "kind": one.kind.value, "needs_pin": one.pin is not None, "code": one.code}
            for one in self._phones.of(user)
        ]
        return web.json_response({"state": self._state(user), "ringing": ringing}, headers=_HEADERS)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        try:
            action = Action(form.get("action"))
        except ValueError:
            return await self._page(request, "That is no answer.", 400)
        typed = str(form.get("typed", ""))
        user, key = request.match_info["user"], request.match_info["key"]
        if not await self._phones.answer(user, key, action, typed):
            return await self._page(request, "It has stopped ringing.", 410)
        return _back_to_page(request)

    async def _choose(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        try:
            mode = Answering(form.get("mode"))
        except ValueError:
            return await self._page(request, "That is no way to answer.", 400)
        user = request.match_info["user"].casefold()
        self._choices.pop(user, None)
        if len(self._choices) >= _CHOICE_LIMIT:
            del self._choices[next(iter(self._choices))]
        self._choices[user] = mode
        return _back_to_page(request)

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _FILES:
            return web.Response(status=404, text="There is nothing here.\n")
        text = (self._directory / name).read_text("utf-8")
        return web.Response(text=text, content_type=_FILES[name], headers=_HEADERS)


def _back_to_page(request: web.Request) -> web.Response:
    """To the page by GET, so that reloading answers nothing twice. Relative: the page may be behind a prefix."""
    up = ".." if "key" in request.match_info else "."
    user = request.rel_url.raw_parts[2]
    return web.Response(status=303, headers={**_HEADERS, "Location": f"{up}/../{user}"})


def clock(seconds: float) -> str:
    """The time of day, as a phone shows it."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))
