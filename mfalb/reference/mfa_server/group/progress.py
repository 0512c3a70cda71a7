"""What a slave says on its stream: hello, and then how far it is."""

from __future__ import annotations

import asyncio
from typing import Self

from mfalb.reference.mfa_server.group.messages import Applied, Hello, message_bytes


class Progress:
    """The messages of one stream, as gRPC asks for them.

    Of what was applied only the newest is said: it says the rest as well. So a master that does not listen holds up
    nobody here and costs no memory; one of an older version takes the hello and leaves the rest unread for ever.
    """

    def __init__(self, hello: Hello) -> None:
        self._hello: Hello | None = hello
        self._applied = 0
        self._is_news = asyncio.Event()
        self._has_ended = False

    def has_applied(self, sequence: int) -> None:
        """Tell the master so, when the stream takes it."""
        self._applied = sequence
        self._is_news.set()

    def end(self) -> None:
        """The stream is over."""
        self._has_ended = True
        self._is_news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._hello is not None:
            hello, self._hello = self._hello, None
            return message_bytes(hello)
        await self._is_news.wait()
        if self._has_ended:
            raise StopAsyncIteration
        self._is_news.clear()
        return message_bytes(Applied(self._applied))
