"""A browser without scripts: cookies, pages, forms, and a connection of its own for each request.

A new connection each time is what shows whether a site needs a session to stay somewhere: nothing is kept by chance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urljoin

import requests
from requests.adapters import HTTPAdapter

_TIMEOUT_S: Final = 60.0


@dataclass
class Form:
    """A form of a page: where it goes, and what its fields hold before anybody types."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(values["action"]))
        elif tag == "input":
            self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "select":
            self._select = values["name"]
        elif tag == "option" and ("selected" in values or self._select not in self.forms[-1].fields):
            self.forms[-1].fields[self._select] = values["value"]


@dataclass(frozen=True, slots=True)
class Shown:
    """The page that is open."""

    status: int
    url: str
    served_by: str
    text: str

    def form(self, action: str = "") -> Form:
        """The first form, or the first one that goes to a path with this end."""
        reader = _Forms()
        reader.feed(self.text)
        found = [form for form in reader.forms if form.action.endswith(action)]
        assert found, f"no form to {action!r} on {self.url}:\n{self.text}"
        return found[0]


class _From(HTTPAdapter):
    """Connects from an address of our choice."""

    def __init__(self, address: str) -> None:
        self._address = address
        super().__init__()

    def init_poolmanager(self, *sizes: Any, **options: Any) -> None:
        super().init_poolmanager(*sizes, **options, source_address=(self._address, 0))


class FormBrowser:
    """One person at a browser; a context manager."""

    def __init__(self, ca: Path, address: str = "", *, timeout_s: float = _TIMEOUT_S) -> None:
        """`address` is where its connections come from, if that matters."""
        self._timeout_s = timeout_s
        self.session: Final = requests.Session()
        self.session.verify = str(ca)
        self.session.trust_env = False
        self.session.headers["Connection"] = "close"
        if address:
            self.session.mount("https://", _From(address))
        self.page = Shown(0, "", "", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def get(self, url: str) -> Shown:
        """Open a page, following redirects."""
        return self._open(self.session.get(url, timeout=self._timeout_s))

    def submit(self, action: str = "", **typed: str) -> Shown:
        """Fill in and post a form of the page that is open."""
        form = self.page.form(action)
        url = urljoin(self.page.url, form.action)
        return self._open(self.session.post(url, data=form.fields | typed, timeout=self._timeout_s))

    def _open(self, answer: requests.Response) -> Shown:
        served_by = answer.headers.get("X-Served-By", "")
        self.page = Shown(answer.status_code, answer.url, served_by, answer.text)
        return self.page
