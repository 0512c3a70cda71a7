"""A name for each request, by which it is found again in every log on its way."""

from __future__ import annotations

import re
from typing import Final

from mfalb.balancer.config.http_models import RequestId
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.wire.http_heads import RequestHead

_SOUND: Final = re.compile(rb"[0-9A-Za-z._:@/+=-]{1,128}")  # nothing that could break a log line


class RequestIds:
    """Gives names, or keeps those that trusted proxies gave."""

    __slots__ = ("_answers", "_field", "_name")

    def __init__(self, config: RequestId) -> None:
        self._name = config.header.encode() + b": "
        self._field = config.header.lower().encode()
        self._answers = config.answer

    def id_for(self, head: RequestHead, client: ClientFacts, entropy: bytes) -> bytes:
        """The request's name; the field that claimed one is taken out of the head. `entropy` is 16 random bytes."""
        given = head.field(self._field)
        if given:
            start = self._field + b":"
            head.lines[:] = [line for line in head.lines if not line.lower().startswith(start)]
            if client.is_trusted and _SOUND.fullmatch(given) is not None:
                return given
        return entropy.hex().encode()

    def line(self, request_id: bytes) -> bytes:
        """The finished header line for the backend."""
        return b"%b%b\r\n" % (self._name, request_id)

    def answer_line(self, request_id: bytes) -> bytes:
        """The finished header line for the client; b"" where it is not told."""
        return self.line(request_id) if self._answers else b""
