"""The admin API: JSON over HTTP on a Unix socket, from which the command line's verbs work.

Its file's mode says who may use it; it asks nobody who they are. No access log: what is asked may be a secret.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from socket import socket
from typing import Any, Final

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from mfalb.balancer.admin import api_models as api
from mfalb.balancer.admin.openapi import ROUTES, Route, description
from mfalb.balancer.admin.operations import Operations, Refused
from mfalb.balancer.config.outline import did_you_mean

_BODY_LIMIT_BYTES: Final = 64 * 1024
_SHUTDOWN_S: Final = 1.0  # nothing that is asked here takes long

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class BadRequest(Exception):  # noqa: N818 - what it is, not a suffix
    """The request cannot be used; the text says why and what is accepted."""


class AdminApi:
    """Serves `operations` on a socket that is bound already."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._description = description()
        self._bodies = {route.name: TypeAdapter(route.body) for route in ROUTES if route.body is not None}
        self.application = web.Application(middlewares=[_failures_in_json], client_max_size=_BODY_LIMIT_BYTES)
        for route in ROUTES:
            self.application.router.add_route(route.method, route.path, self._handler(route))
        self._runner = web.AppRunner(self.application, access_log=None, shutdown_timeout=_SHUTDOWN_S)

    async def start(self, sock: socket) -> None:
        """Serve on a bound Unix socket, which is then this server's to close."""
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()

    async def stop_accepting(self) -> None:
        """Whoever is connected is still answered."""
        for site in list(self._runner.sites):
            await site.stop()

    async def close(self) -> None:
        await self._runner.cleanup()

    def _handler(self, route: Route) -> _Handler:
        async def handle(request: web.Request) -> web.Response:
            if route.answer is None:
                return web.json_response(self._description)
            answer = await self._answer(route, request)
            return web.Response(text=answer.model_dump_json(), content_type="application/json")

        return handle

    async def _answer(self, route: Route, request: web.Request) -> api.Message:
        given = _query(route, request)
        operation = getattr(self._operations, route.name)
        if route.body is not None:
            return await self._called(operation, await self._body(route, request))
        return await self._called(operation, *(given.get(one.name) for one in route.parameters))

    @staticmethod
    async def _called(operation: Callable[..., Awaitable[api.Message]], *values: Any) -> api.Message:
        return await operation(*values)

    async def _body(self, route: Route, request: web.Request) -> Any:
        try:
            return self._bodies[route.name].validate_json(await request.read())
        except ValidationError as error:
            raise BadRequest(_words(error)) from None


def _query(route: Route, request: web.Request) -> dict[str, str]:
    known = {one.name: one for one in route.parameters}
    for name in request.query:
        if name not in known:
            accepted = f"accepted: {', '.join(known)}" if known else "this path takes none"
            raise BadRequest(f"there is no parameter of this name; {accepted}{did_you_mean(name, known)}")
    for one in route.parameters:
        if one.is_required and not request.query.get(one.name):
            raise BadRequest(f"{one.name} is missing: {one.text}")
    return dict(request.query)


def _words(error: ValidationError) -> str:
    """What is wrong with a body, by the names of its keys; never by its values."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in details)


@web.middleware
async def _failures_in_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except BadRequest as error:
        return _failure(400, str(error))
    except Refused as error:
        return _failure(404 if error.is_unknown else 409, str(error))
    except web.HTTPException as error:
        return _failure(error.status, _why_not(error))


def _why_not(error: web.HTTPException) -> str:
    match error:
        case web.HTTPNotFound():
            return f"there is no such path; paths: {', '.join(route.path for route in ROUTES)}"
        case web.HTTPMethodNotAllowed():
            return f"this path takes {', '.join(sorted(error.allowed_methods))}"
        case web.HTTPRequestEntityTooLarge():
            return f"the body is longer than {_BODY_LIMIT_BYTES} bytes, which nothing here needs"
        case _:
            return error.reason


def _failure(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=api.Failure(error=text).model_dump_json(), content_type="application/json")
