"""The answer of one exchange on its way to the client: framed as the client understands it, held while it must be."""

from __future__ import annotations

from typing import Final

from mfalb.balancer.affinity.store import PinChange
from mfalb.balancer.exchange.forwarding import client_framing, response_bytes
from mfalb.balancer.exchange.http import HttpExchange, HttpExchanges
from mfalb.balancer.exchange.http_affinity import NO_CHANGES, Moment
from mfalb.balancer.listeners.http_host import FlowHost
from mfalb.wire.http_bodies import chunk, last_chunk
from mfalb.wire.http_fields import Framing
from mfalb.wire.http_heads import RequestHead, ResponseHead

# Members of an Enum are looked up by name wherever they stand: 0.1 us each in compiled code
_NONE: Final = Framing.NONE
_CHUNKED: Final = Framing.CHUNKED
_CLOSE: Final = Framing.CLOSE


class Answer:
    """Writes to the client's connection, `host`. Nothing is released before `begin` or while it is held for a pin."""

    __slots__ = (
        "_exchanges",
        "_held",
        "_hold_limit",
        "_host",
        "_is_chunked",
        "_moment",
        "_size",
        "head",
        "is_kept_alive",
    )

    def __init__(self, host: FlowHost, exchanges: HttpExchanges, moment: Moment) -> None:
        self._host = host
        self._exchanges = exchanges
        self._moment = moment
        self._held: list[bytes] | None = None
        self._hold_limit = 0
        self._size = 0
        self._is_chunked = False
        self.head: ResponseHead | None = None
        self.is_kept_alive = False

    @property
    def is_released(self) -> bool:
        """Whether the client has been told how the answer begins: then it can only be completed or broken off."""
        return self.head is not None and self._held is None

    def interim(self, head: ResponseHead, request: RequestHead) -> None:
        """Pass on that the answer is still to come (1xx); 1.0 knows nothing of that."""
        if request.minor_version:
            self._host.write(response_bytes(head, _NONE, b"", b""))

    def begin(self, head: ResponseHead, exchange: HttpExchange, *, may_keep: bool) -> None:
        """The real head. `may_keep`: the client's connection may serve another request afterwards."""
        self.head = head
        self.is_kept_alive = may_keep
        limit = self._exchanges.hold_limit(exchange, head) if exchange.affinity.body_limit else 0
        if limit:
            self._hold_limit = limit
            self._held = []
        else:
            self._release_head(head, exchange)

    def switch(self, head: ResponseHead, exchange: HttpExchange) -> None:
        """The backend has agreed to another protocol: its bytes follow as they are."""
        self.head = head
        upgrade = b"Upgrade: %b\r\n" % head.special.get(b"upgrade", exchange.head.upgrade)
        added = upgrade + self._exchanges.answer_lines(exchange, self._moment)
        self._host.write(response_bytes(head, _NONE, added, b"upgrade", self._exchanges.via))

    def _release_head(self, head: ResponseHead, exchange: HttpExchange) -> None:
        exchanges = self._exchanges
        request = exchange.head
        framing = head.framing
        if framing is _CHUNKED or framing is _CLOSE:
            framing = client_framing(head, request.minor_version)
        keep = self.is_kept_alive = self.is_kept_alive and framing is not _CLOSE
        connection = (b"" if request.minor_version else b"keep-alive") if keep else b"close"
        added = exchanges.answer_lines(exchange, self._moment)
        self._host.write(response_bytes(head, framing, added, connection, exchanges.via))
        # To HEAD framing is told, but no body follows and so no last chunk
        self._is_chunked = framing is _CHUNKED and request.method != b"HEAD"

    def body(self, data: bytes, exchange: HttpExchange) -> bool:
        """Some of the body. False when a held answer was let go: it is larger than any that begins a transaction."""
        held = self._held
        if held is None:
            self._host.write(chunk(data) if self._is_chunked else data)
            return True
        held.append(data)
        self._size += len(data)
        if self._size <= self._hold_limit:
            return True
        self.release(exchange)
        return False

    def pin_changes(self, exchange: HttpExchange, now: float) -> tuple[PinChange, ...]:
        """The pins that a held answer begins, which must be stored before `release`, or the end that it tells of."""
        return NO_CHANGES if self._held is None else self._exchanges.answer_held(exchange, b"".join(self._held), now)

    def release(self, exchange: HttpExchange) -> None:
        """Let go of what was held."""
        held, self._held = self._held, None
        if held is None or self.head is None:
            return
        self._release_head(self.head, exchange)
        for data in held:
            self._host.write(chunk(data) if self._is_chunked else data)

    def end(self, trailers: list[bytes]) -> None:
        """The body is complete."""
        if self._is_chunked:
            self._host.write(last_chunk(trailers))

    def forget(self) -> None:
        """Nothing of what is held will be released: a refusal takes its place."""
        self._held = None
