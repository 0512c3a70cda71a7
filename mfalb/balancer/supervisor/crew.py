"""The workers: begun, briefed, listened to, and replaced when one is gone."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final

from mfalb.balancer.supervisor.sockets import CannotBind
from mfalb.net.control_channel import ControlChannel, Message

_LINE_BYTES: Final = 4096
_STEADY_S: Final = 3.0  # who lived for so long did not crash at its start
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 30.0
_START_TIMEOUT_S: Final = 30.0
_STOP_TIMEOUT_S: Final = 5.0
REPORT_TIMEOUT_S: Final = 2.0  # one that stands still must not hold up a scrape
SILENT_AFTER: Final = 5  # signs of life, one a second, that have not come: it is no worker that serves
_LONG_WORK: Final = frozenset({"prepare", "commit", "serve", "hand_over"})  # a large configuration is read at one go

_log = logging.getLogger("mfalb.supervisor")


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is begun with: the words, the briefing as a value to pickle, and its descriptors.

    `before` is said first: descriptors that are too many for one message.
    """

    words: dict[str, Any]
    briefing: object
    descriptors: tuple[int, ...]
    before: tuple[Message, ...] = ()


@dataclass(slots=True, eq=False)
class Seat:
    """A worker's place: who sits there now, and how it went with those before."""

    number: int
    channel: ControlChannel | None = None
    pid: int = 0
    born_at: float = 0.0
    quick_deaths: int = 0
    restarts: int = 0
    silences: int = 0  # signs of life that were asked for and did not come in time
    kills: int = 0
    unanswered: int = 0  # how many of those in a row, up to now
    sign: asyncio.Future[dict[str, Any]] | None = None  # the one that is awaited
    heard: int = 0  # the number of the last question that was answered, whatever it was
    long_work: int = 0  # the number of the last question that may take it long
    killed_after: int = 0  # `unanswered` then, or 0
    is_ready: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    fault: str = ""

    @property
    def is_silent(self) -> bool:
        """It should serve, and gives no sign of life."""
        return self.is_ready and self.unanswered >= SILENT_AFTER

    @property
    def is_at_long_work(self) -> bool:
        """It was asked for something that it may do at one go, and has answered neither that nor anything later."""
        return self.long_work > self.heard

    def forget_silence(self) -> None:
        """Nobody sits here any more, or who does begins to serve."""
        if self.sign is not None:
            self.sign.cancel()
        self.sign, self.unanswered, self.heard, self.long_work, self.killed_after = None, 0, 0, 0, 0


class Crew:
    """`brief` makes the orders for a seat's number; `heard` gets every message that is not about the crew itself.

    So does it get answers that nobody asked for.
    """

    def __init__(
        self,
        nursery: socket.socket,
        size: int,
        brief: Callable[[int], Orders],
        heard: Callable[[int, Message], None],
    ) -> None:
        self.seats = [Seat(number) for number in range(size)]
        self._nursery = nursery
        self._brief = brief
        self._heard = heard
        self._loop = asyncio.get_running_loop()
        self._expected: deque[Seat] = deque()
        self._is_stopping = False
        self._is_winding_up = False
        self._leaving: list[Seat] = []
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._questions: dict[int, tuple[Seat, asyncio.Future[dict[str, Any]]]] = {}
        self._last_question = 0
        self._loop.add_reader(nursery.fileno(), self._nursery_says)

    @property
    def alive(self) -> int:
        return sum(seat.is_ready for seat in self.seats)

    @property
    def silent(self) -> int:
        """How many of those give no sign of life."""
        return sum(seat.is_silent for seat in self.seats)

    @property
    def everyone(self) -> list[Seat]:
        """All who run: those who begin, serve, or end what they have begun while others sit in their seats."""
        return [seat for seat in (*self.seats, *self._leaving) if seat.channel is not None]

    async def start(self) -> None:
        """Begin all workers, and wait until they serve. Raises CannotBind with the reason of the first that cannot."""
        for seat in self.seats:
            self._begin(seat)
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                for seat in self.seats:
                    await seat.ready.wait()
        except TimeoutError:
            raise CannotBind("the workers do not start") from None
        fault = next((seat.fault for seat in self.seats if seat.fault), "")
        if fault:
            raise CannotBind(fault)

    async def stop(self) -> None:
        """Tell all to stop and wait for it; who does not is killed."""
        self._is_stopping = True
        for timer in self._timers.values():
            timer.cancel()
        everyone = [*self.seats, *self._leaving]
        for seat in everyone:
            if seat.channel is not None:
                seat.channel.send(Message({"kind": "stop"}))
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                for seat in everyone:
                    if seat.channel is not None:
                        await seat.gone.wait()
        for seat in everyone:
            if seat.channel is not None:
                _log.warning("a worker does not stop and is killed", extra={"worker": seat.number})
                self.kill(seat)
                seat.channel.close()
        self._loop.remove_reader(self._nursery.fileno())
        self._nursery.close()

    def replace_nobody(self) -> None:
        """From now on, until `renew`: others may sit there already."""
        self._is_winding_up = True

    async def all_gone(self) -> None:
        """Until everybody has ended."""
        for seat in self.seats:
            if seat.channel is not None:
                await seat.gone.wait()

    def renew(self) -> None:
        """Make room for others in all seats. Those who sit there end by themselves when they have nothing to do."""
        self._is_winding_up = False
        for number, seat in enumerate(self.seats):
            timer = self._timers.pop(number, None)
            if timer is not None:
                timer.cancel()
            if seat.channel is not None:
                self._leaving.append(seat)
            self.seats[number] = Seat(number, restarts=seat.restarts, silences=seat.silences, kills=seat.kills)

    def tell_all(self, message: Message) -> None:
        for seat in self.seats:
            if seat.channel is not None:
                seat.channel.send(message)

    async def reports(self) -> dict[int, dict[str, Any]]:
        """The numbers of all workers that answer in time, by the number of their seats. Silent ones are not asked."""
        lively = [seat for seat in self.seats if seat.is_ready and not seat.is_silent]
        return await self._ask_each(lively, lambda _: Message({"kind": "report"}), REPORT_TIMEOUT_S)

    async def ask_all(self, question: Callable[[int], Message], timeout_s: float) -> dict[int, dict[str, Any]]:
        """Ask each worker that serves; the answers of those who answer in time, by the number of their seats."""
        return await self._ask_each([seat for seat in self.seats if seat.is_ready], question, timeout_s)

    async def _ask_each(
        self, seats: list[Seat], question: Callable[[int], Message], timeout_s: float
    ) -> dict[int, dict[str, Any]]:
        asked = {seat.number: self.ask(seat, question(seat.number)) for seat in seats}
        if asked:
            await asyncio.wait(asked.values(), timeout=timeout_s)
        for answer in asked.values():
            answer.cancel()
        return {number: answer.result() for number, answer in asked.items() if not answer.cancelled()}

    def ask(self, seat: Seat, question: Message) -> asyncio.Future[dict[str, Any]]:
        """The answer is its words, `id` with the question's number. Who asks cancels it when it waits no longer."""
        self._last_question += 1
        number = self._last_question
        answer: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._questions[number] = seat, answer
        answer.add_done_callback(lambda _: self._questions.pop(number, None))
        if seat.channel is not None:
            words = question.words | {"id": number}
            if question.kind in _LONG_WORK:
                seat.long_work = number
            seat.channel.send(Message(words, question.data, question.descriptors))
        return answer

    # ------------------------------------------------------------------------------ birth and death

    def kill(self, seat: Seat) -> None:
        """SIGKILL, by its parent: who has ended already is nobody else by now. The next one follows its end."""
        if not seat.pid:  # it is not born yet, and 0 would be all of us (kill(2)); without a channel it ends at once
            return
        try:
            self._nursery.send(b"k%d" % seat.pid)
        except OSError:  # the nursery is gone, which was told
            with suppress(ProcessLookupError):
                os.kill(seat.pid, signal.SIGKILL)

    def give_up(self, seat: Seat) -> None:
        """Wait no longer for the end of one that was killed; the kernel lets it do nothing more."""
        if seat.channel is not None:
            seat.channel.close()
            self._ended(seat)

    def replace_beginners(self) -> None:
        """Let those who have not begun to serve end, and others begin, with orders as they are now."""
        for seat in self.seats:
            if seat.channel is not None and not seat.is_ready:
                seat.channel.send(Message({"kind": "stop"}))

    def _begin(self, seat: Seat) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        seat.channel = ControlChannel(ours, lambda message: self._received(seat, message), lambda: self._ended(seat))
        seat.born_at, seat.is_ready, seat.pid = monotonic(), False, 0
        seat.gone.clear()
        self._expected.append(seat)
        socket.send_fds(self._nursery, [b"w"], [theirs.fileno()])
        theirs.close()
        orders = self._brief(seat.number)
        data = pickle.dumps(orders.briefing)
        for message in orders.before:
            seat.channel.send(message)
        seat.channel.send(Message({"kind": "begin", **orders.words}, data, orders.descriptors))

    def _nursery_says(self) -> None:
        try:
            line = self._nursery.recv(_LINE_BYTES)
        except BlockingIOError:
            return
        if not line:
            self._loop.remove_reader(self._nursery.fileno())
            if not self._is_stopping:
                _log.error("the nursery is gone: no worker can be replaced, restart soon")
            return
        words = json.loads(line)
        if "born" in words:
            self._expected.popleft().pid = words["born"]
            if not words["born"]:  # the end of its channel, which nobody has, is the end of a worker
                _log.error("a worker cannot be begun", extra={"reason": os.strerror(words["errno"])})
        elif not self._is_stopping:
            self._died(words["died"], words["status"])

    def _died(self, pid: int, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        facts = {"pid": pid, "signal": -code} if code < 0 else {"pid": pid, "exit_code": code}
        is_due = code == 0 and (self._is_winding_up or pid in [seat.pid for seat in self._leaving])
        _log.log(logging.INFO if is_due else logging.ERROR, "a worker has ended", extra=facts)

    def _received(self, seat: Seat, message: Message) -> None:
        if message.kind == "ready":
            seat.is_ready, seat.fault = True, ""
            seat.forget_silence()
            seat.ready.set()
            if seat.restarts:
                took_ms = round((monotonic() - seat.born_at) * 1000)
                _log.info("a worker was replaced", extra={"worker": seat.number, "took_ms": took_ms})
        elif message.kind == "unfit":
            seat.fault = str(message.words.get("reason", ""))
            seat.ready.set()
        elif message.kind not in ("report", "answer", "handed") or not self._answered(seat, message):
            self._heard(seat.number, message)

    def _answered(self, seat: Seat, message: Message) -> bool:
        """False for what answers no question that this worker was ever asked. It may come too late."""
        number = message.words.get("id")
        if not isinstance(number, int) or not 0 < number <= self._last_question:
            return False
        asked, answer = self._questions.get(number, (seat, None))
        if asked is seat:
            seat.heard = max(seat.heard, number)
        if asked is seat and answer is not None and not answer.done():
            answer.set_result(message.words | ({"descriptors": message.descriptors} if message.descriptors else {}))
        return asked is seat

    def _ended(self, seat: Seat) -> None:
        """Its channel is closed: it has stopped, or crashed."""
        seat.channel, seat.is_ready = None, False
        seat.forget_silence()
        seat.gone.set()
        if seat in self._leaving:
            self._leaving.remove(seat)
            return
        if self._is_stopping or self._is_winding_up:
            return
        if not seat.ready.is_set():  # it never came up: whoever starts the balancer is told
            seat.fault = seat.fault or "a worker ends as soon as it starts; its error is in the log"
            seat.ready.set()
            return
        seat.restarts += 1
        pause_s = self._pause_s(seat)
        if pause_s:
            facts = {"worker": seat.number, "crashes": seat.quick_deaths, "pause_s": round(pause_s, 1)}
            _log.error("a worker crashes again and again: the next one waits", extra=facts)
        self._timers[seat.number] = self._loop.call_later(pause_s, self._begin, seat)

    @staticmethod
    def _pause_s(seat: Seat) -> float:
        """Nothing for a worker that had served for a while; for those that die at once longer and longer."""
        seat.quick_deaths = seat.quick_deaths + 1 if monotonic() - seat.born_at < _STEADY_S else 0
        if seat.quick_deaths <= 1:
            return 0.0
        return min(_FIRST_PAUSE_S * 2.0 ** min(seat.quick_deaths - 2, 20), _LONGEST_PAUSE_S)
