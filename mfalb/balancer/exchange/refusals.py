"""What the balancer itself answers: a clear status, a short text, and a reason that is counted."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of our own. `reason` is the metric label; `retry_after_s` tells a client when to come again."""

    status: HTTPStatus
    reason: str
    text: str
    retry_after_s: int | None = None

    def answer(self, *, is_keep_alive: bool, is_for_head: bool = False) -> bytes:
        """The whole response; to a HEAD request its head only, or its body would be taken for the next answer."""
        body = self.text.encode() + b"\n"
        retry = f"Retry-After: {self.retry_after_s}\r\n" if self.retry_after_s is not None else ""
        connection = "" if is_keep_alive else "Connection: close\r\n"
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{retry}{connection}\r\n"
        )
        return head.encode("latin-1") if is_for_head else head.encode("latin-1") + body


NO_ROUTE = Refusal(HTTPStatus.NOT_FOUND, "no_route", "No service is published at this address.")
NO_BACKEND = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "no_backend", "No server is available for this service. Please try again.", 5
)
PINNED_DOWN = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "pinned_down",
    "The server that began this sign-in is not available. Please sign in again.",
)
REFUSED_EVERYWHERE = Refusal(
    HTTPStatus.BAD_GATEWAY, "backend_refused", "The servers of this service refuse connections. Please try again.", 5
)
BACKEND_BROKE = Refusal(HTTPStatus.BAD_GATEWAY, "backend_broke", "The server did not complete its answer.")
BACKEND_GARBAGE = Refusal(HTTPStatus.BAD_GATEWAY, "backend_garbage", "The server's answer was not understood.")
BACKEND_SILENT = Refusal(HTTPStatus.GATEWAY_TIMEOUT, "backend_silent", "The server did not answer in time.")
HEADER_TIMEOUT = Refusal(HTTPStatus.REQUEST_TIMEOUT, "header_timeout", "The request was not completed in time.")

_TOO_MUCH = "This service has more work than it can bear. Please try again."
TOO_MANY_CONNECTIONS = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "connection_limit", _TOO_MUCH, 5)
TOO_MANY_FROM_SOURCE = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE, "source_connection_limit", "There are too many connections from your network.", 5
)
QUEUE_FULL = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "queue_full", _TOO_MUCH, 5)
QUEUE_TIMEOUT = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "queue_timeout", _TOO_MUCH, 5)
BODY_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_bytes", "The request's body is larger than is accepted here."
)
BODY_TOO_SLOW = Refusal(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", "The request's body came too slowly.")
EXPECTATION_FAILED = Refusal(HTTPStatus.EXPECTATION_FAILED, "expectation", "Only 100-continue can be expected here.")

_TOO_LARGE = frozenset(("header_bytes", "header_count"))


def malformed(reason: str) -> Refusal:
    """The refusal of a request that cannot be read, or can be read in two ways."""
    if reason in _TOO_LARGE:
        return Refusal(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason, "The request's header is larger than is accepted here."
        )
    if reason == "connect":
        return Refusal(HTTPStatus.METHOD_NOT_ALLOWED, reason, "This is no forward proxy.")
    if reason == "http_version":
        return Refusal(
            HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, reason, "Only versions 1.0 and 1.1 of HTTP are spoken here."
        )
    return Refusal(HTTPStatus.BAD_REQUEST, reason, "The request is not valid HTTP/1.1.")
