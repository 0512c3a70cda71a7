"""The process that is to take over: started with the code that is on the disk now, told, and listened to."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from mfalb.balancer.supervisor.detached_process import DetachedProcess
from mfalb.balancer.supervisor.hand_over import (
    CannotUpgrade,
    Prepared,
    Serving,
    ToFormer,
    Unfit,
    Word,
    read_to_former_untrusted,
    said,
)
from mfalb.errors import MalformedMessage
from mfalb.net.control_channel import ControlChannel, Message

PREPARE_TIMEOUT_S: Final = 60.0  # it loads its code and configuration, and probes backends first
SERVE_TIMEOUT_S: Final = 10.0
_EXIT_TIMEOUT_S: Final = 2.0
_OPTION: Final = "--takeover"
_ONCE_ONLY: Final = (_OPTION, "--ready-fd")  # options of one process's life, each with its value

_log = logging.getLogger("mfalb.supervisor.heir")


def heirs_command(own: Sequence[str], executable: str, descriptor: int) -> list[str]:
    """How the next process is started: as this one was (`own` is sys.orig_argv), by whatever lies on the disk now."""
    kept: list[str] = []
    words = iter(own[1:])
    for word in words:
        if word in _ONCE_ONLY:
            next(words, None)
        elif not word.startswith(tuple(f"{option}=" for option in _ONCE_ONLY)):
            kept.append(word)
    return [executable, *kept, _OPTION, str(descriptor)]


class Heir:
    """One attempt. Every wait raises CannotUpgrade with the reason when the heir says no, or is no more."""

    def __init__(self) -> None:
        self._channel: ControlChannel
        self._process: DetachedProcess
        self._said: asyncio.Queue[ToFormer | None] = asyncio.Queue()  # None: it is gone
        self._is_over = False

    @property
    def pid(self) -> int:
        return self._process.pid

    async def start(self, offer: Iterable[Message], environment: Mapping[str, str]) -> None:
        """Begin it, and tell it everything. Raises CannotUpgrade."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            command = heirs_command(sys.orig_argv, sys.executable, theirs.fileno())
            try:
                self._process = await DetachedProcess.start(command, environment, theirs.fileno())
            except OSError as error:
                ours.close()
                raise CannotUpgrade(f"{command[0]} cannot be started: {error.strerror or error}") from error
        _log.info("another process is started to take over", extra={"pid": self.pid})
        self._channel = ControlChannel(ours, self._received, self._ended)
        for message in offer:
            self._channel.send(message)

    def tell(self, word: Word, descriptors: tuple[int, ...] = ()) -> None:
        self.send(said(word, descriptors=descriptors))

    def send(self, message: Message) -> None:
        self._channel.send(message)

    async def prepared(self) -> None:
        """It could serve."""
        await self._wait_for(Prepared, PREPARE_TIMEOUT_S)

    async def serving(self) -> None:
        """It serves, and is nobody's child."""
        await self._wait_for(Serving, SERVE_TIMEOUT_S)
        await self._process.let_go()

    async def next_word(self) -> ToFormer | None:
        """What it says afterwards; None when it is gone."""
        return None if self._is_over else await self._said.get()

    async def give_up(self) -> None:
        """It will not take over: end it, if it has not ended by itself."""
        self._channel.close()
        await self._process.kill()

    async def _wait_for(self, kind: type[Word], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                word = await self._said.get()
        except TimeoutError:
            raise CannotUpgrade(f"the new process is not ready after {timeout_s:g} s") from None
        if isinstance(word, Unfit):
            raise CannotUpgrade(word.reason)
        if word is None:
            raise CannotUpgrade(await self._why_gone())
        if not isinstance(word, kind):
            raise CannotUpgrade("the new process talks nonsense")

    async def _why_gone(self) -> str:
        try:
            async with asyncio.timeout(_EXIT_TIMEOUT_S):
                code = await self._process.exit_code()
        except TimeoutError:
            return "the new process does not answer any more"
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        return f"the new process {how} before it was ready; its error is in the log"

    def _received(self, message: Message) -> None:
        try:
            self._said.put_nowait(read_to_former_untrusted(message))
        except MalformedMessage as error:
            _log.error("the new process talks nonsense", extra={"reason": error.reason})
            self._channel.close()
            self._ended()

    def _ended(self) -> None:
        self._is_over = True
        self._said.put_nowait(None)
