"""Who is told what a stream of HTTP/1.1 messages says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from mfalb.native import mypyc_attr
from mfalb.wire.http_heads import RequestHead, ResponseHead

NO_TRAILERS: Final[list[bytes]] = []


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestEvents(ABC):
    """Who is told what a client sent, in order."""

    __slots__ = ()

    @abstractmethod
    def request_head(self, head: RequestHead) -> None: ...

    @abstractmethod
    def request_body(self, data: bytes) -> None: ...

    @abstractmethod
    def request_end(self, trailers: list[bytes]) -> None:
        """The request is complete. `trailers` are finished lines that stood behind its chunks."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseEvents(ABC):
    """Who is told what a backend sent, in order. Interim heads (1xx) come before the real one and have no end."""

    __slots__ = ()

    @abstractmethod
    def response_head(self, head: ResponseHead) -> None: ...

    @abstractmethod
    def response_body(self, data: bytes) -> None: ...

    @abstractmethod
    def response_end(self, trailers: list[bytes]) -> None: ...


class _NobodyAsks(RequestEvents):
    __slots__ = ()

    def request_head(self, head: RequestHead) -> None:
        """Nobody wants to know."""

    def request_body(self, data: bytes) -> None:
        """Nobody wants to know."""

    def request_end(self, trailers: list[bytes]) -> None:
        """Nobody wants to know."""


class _NobodyAsked(ResponseEvents):
    __slots__ = ()

    def response_head(self, head: ResponseHead) -> None:
        """Nobody wants to know."""

    def response_body(self, data: bytes) -> None:
        """Nobody wants to know."""

    def response_end(self, trailers: list[bytes]) -> None:
        """Nobody wants to know."""


# For readers whose connection is gone. A connection and its reader know each other; such a pair is garbage that only a
# full collection finds, and those are rare: 20 MB in a storm of broken connections (tests/scenarios/test_http_chaos.py)
NOBODY_ASKS: Final = _NobodyAsks()
NOBODY_ASKED: Final = _NobodyAsked()
