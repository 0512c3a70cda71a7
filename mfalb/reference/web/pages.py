"""Pages as text and as answers: every value escaped, nothing kept by caches, nothing loaded from elsewhere."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

_OWN: Final = Path(__file__).parent / "templates"
_POLICY: Final = "default-src 'none'; style-src 'self'; form-action {}; frame-ancestors 'none'; base-uri 'none'"


class Pages:
    """The pages of one service, from its templates and those that all share.

    `shared` are values that each page has: `server`, `root` (the path that `style.css` is under), `brand` and
    `product`. Each page takes a `notice`, which tells, and an `error`, which says what went wrong; both may be empty.
    """

    def __init__(self, templates: Path, **shared: str) -> None:
        loader = ChoiceLoader([FileSystemLoader(templates), FileSystemLoader(_OWN)])
        self._environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        self._environment.globals.update(shared)
        self._style = (_OWN / "style.css").read_text("utf-8")

    def text(self, name: str, /, **values: object) -> str:
        """A page as HTML."""
        return self._environment.get_template(f"{name}.html").render({"notice": "", "error": "", **values})

    def answer(self, name: str, status: HTTPStatus = HTTPStatus.OK, /, **values: object) -> web.Response:
        """A page as an answer; its forms can be posted to this service only."""
        return html(self.text(name, **values), status)

    async def style(self, _request: web.Request) -> web.Response:
        """The style sheet."""
        return web.Response(text=self._style, content_type="text/css", headers={"Cache-Control": "max-age=300"})


def html(text: str, status: HTTPStatus, forms_to: str = "'self'") -> web.Response:
    """An answer whose forms can be posted to `forms_to` only (sources of a Content-Security-Policy)."""
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY.format(forms_to),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
    }
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8", headers=headers)
