"""The portal's pages, as text: three forms' worth of HTML that works without scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATES: Final = Path(__file__).parent / "templates"


class Pages:
    """Pages of one server; every text is escaped. `notice` tells, `error` says what went wrong; both may be empty."""

    def __init__(self, server: str, root: str) -> None:
        loader = FileSystemLoader(_TEMPLATES)
        environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
        environment.globals.update(server=server, root=root)
        self._login, self._otp, self._account = (
            environment.get_template(f"{name}.html") for name in ("login", "otp", "account")
        )
        self.style = (_TEMPLATES / "portal.css").read_text("utf-8")

    def login(self, csrf: str, *, notice: str = "", error: str = "") -> str:
        return self._login.render(csrf=csrf, notice=notice, error=error)

    def otp(self, csrf: str, user: str, *, error: str = "") -> str:
        return self._otp.render(csrf=csrf, user=user, notice="", error=error)

    def account(self, csrf: str, user: str, *, error: str = "") -> str:
        return self._account.render(csrf=csrf, user=user, notice="", error=error)
