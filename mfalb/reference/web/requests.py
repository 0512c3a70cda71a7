"""What a service reads from a browser's request, and how it sets cookies."""

from __future__ import annotations

from aiohttp import web

from mfalb.errors import MalformedMessage
from mfalb.reference.web.forms import is_own_form, read_form_untrusted


async def form_of(request: web.Request) -> dict[str, str]:
    """Raises HTTPBadRequest; a body over the application's limit raises HTTPRequestEntityTooLarge."""
    try:
        return read_form_untrusted(await request.read())
    except MalformedMessage as error:
        raise web.HTTPBadRequest(text=f"{error.reason}\n") from None


def is_own(request: web.Request, form: dict[str, str], wanted: str) -> bool:
    """Whether a form was posted from our own page, which holds the token `wanted`."""
    return is_own_form(form.get("csrf", ""), wanted, request.headers.get("Sec-Fetch-Site"))


def is_https(request: web.Request) -> bool:
    """Whether the browser speaks TLS, be it with us or with a balancer before us."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"


def set_cookie(request: web.Request, response: web.Response, name: str, value: str, path: str) -> None:
    """A cookie that scripts cannot read, and that goes over TLS only where the browser speaks it."""
    response.set_cookie(name, value, path=path, httponly=True, samesite="Lax", secure=is_https(request))
