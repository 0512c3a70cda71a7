"""The process that this one takes over from, and former ones that still end what they have begun."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from dataclasses import dataclass
from typing import Final

from mfalb.balancer.supervisor.hand_over import (
    CannotUpgrade,
    Exchanges,
    Kept,
    Prepared,
    Released,
    Serve,
    Serving,
    Stop,
    ToHeir,
    Unfit,
    Word,
    read_to_heir_untrusted,
    said,
)
from mfalb.errors import MalformedMessage
from mfalb.net.control_channel import ControlChannel, Message, frame

_TELL_TIMEOUT_S: Final = 1.0

_log = logging.getLogger("mfalb.supervisor.formers")


def refuse(channel: socket.socket, reason: str) -> None:
    """Tell who hands over, and waits, that nobody takes over."""
    channel.settimeout(_TELL_TIMEOUT_S)
    try:
        channel.sendall(frame(said(Unfit(reason=reason))))
    except OSError:
        _log.debug("nobody hears that we do not take over")


@dataclass(slots=True)
class HandedSeat:
    """What the worker of one seat has left: its sockets' messages, and the memory that has its exchanges."""

    kept: list[Message]
    memory: tuple[int, ...] = ()
    last_socket: int = 0

    def close(self) -> None:
        """The memory is of no use any more."""
        for memory in self.memory:
            os.close(memory)
        self.memory = ()


class Predecessor:
    """Who hands over to us. Every wait raises CannotUpgrade when it is gone first."""

    def __init__(self, channel: socket.socket) -> None:
        self.seats: dict[int, HandedSeat] = {}
        self._socket = channel
        self._said: asyncio.Queue[ToHeir | None] = asyncio.Queue()
        self._channel = ControlChannel(channel, self._received, self._ended)

    def prepared(self) -> None:
        self._channel.send(said(Prepared()))

    def serving(self) -> None:
        self._channel.send(said(Serving()))

    async def order_to_serve(self) -> Serve:
        """Everything it had is ours to go on with."""
        word = await self._next()
        if not isinstance(word, Serve):
            raise CannotUpgrade("the former process talks nonsense")
        return word

    async def released(self) -> None:
        if not isinstance(await self._next(), Released):
            raise CannotUpgrade("the former process talks nonsense")

    def detach(self) -> socket.socket:
        """The channel to it, for `Formers`."""
        kept = self._socket.dup()
        self._channel.close()
        return kept

    async def _next(self) -> ToHeir:
        word = await self._said.get()
        if word is None:
            raise CannotUpgrade("the former process is gone")
        return word

    def _received(self, message: Message) -> None:
        try:
            word = read_to_heir_untrusted(message)
        except MalformedMessage as error:
            _log.error("the former process talks nonsense", extra={"reason": error.reason})
            self._channel.close()
            self._ended()
            return
        match word:
            case Kept():
                self._seat(word.seat).kept.append(message)
            case Exchanges():
                seat = self._seat(word.seat)
                seat.memory, seat.last_socket = message.descriptors, word.last_socket
            case _:
                self._said.put_nowait(word)

    def _seat(self, number: int) -> HandedSeat:
        return self.seats.setdefault(number, HandedSeat([]))

    def _ended(self) -> None:
        self._said.put_nowait(None)


@dataclass(slots=True)
class _Former:
    pid: int
    generation: int
    sock: socket.socket  # to be handed on
    channel: ControlChannel


class Formers:
    """All former ones that are still there. They hear what changes, and end by themselves."""

    def __init__(self) -> None:
        self._all: list[_Former] = []

    def add(self, pid: int, generation: int, channel: socket.socket) -> None:
        """One more; `channel` is ours."""
        handed_on = channel.dup()

        def ended() -> None:
            self._all.remove(former)
            handed_on.close()
            _log.info("a former process has ended", extra={"pid": pid})

        former = _Former(pid, generation, handed_on, ControlChannel(channel, lambda _: None, ended))
        self._all.append(former)

    @property
    def generations(self) -> set[int]:
        """What they write into."""
        return {one.generation for one in self._all}

    @property
    def pids(self) -> list[int]:
        return [one.pid for one in self._all]

    def handed_on(self) -> list[tuple[int, int, socket.socket]]:
        """For who takes over from us: process, generation and channel of each."""
        return [(one.pid, one.generation, one.sock) for one in self._all]

    def tell(self, word: Word) -> None:
        for one in self._all:
            one.channel.send(said(word))

    def close(self, *, is_end: bool) -> None:
        """Say nothing more. `is_end`: nobody goes on, so they end, too."""
        if is_end:
            self.tell(Stop())
        for one in self._all:
            one.channel.close()
            one.sock.close()
        self._all.clear()
