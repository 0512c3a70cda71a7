"""What a supervisor hands over before anything changes: sockets, memory, what is known and ordered of backends."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from mfalb.balancer.config.values import Address
from mfalb.balancer.supervisor.hand_over import (
    FORMAT,
    AdminPort,
    AdminSocket,
    CannotUpgrade,
    HandedDrain,
    Hello,
    Kin,
    Memory,
    Place,
    Standing,
    ToHeir,
    read_to_heir_untrusted,
    said,
)
from mfalb.balancer.supervisor.shared_memory import MemoryPlan
from mfalb.balancer.supervisor.sockets import Places
from mfalb.errors import MalformedMessage
from mfalb.net.control_channel import FD_LIMIT, FrameReader, Message, NotAMessage
from mfalb.net.ticket_keys import SECRET_BYTES

_READ_BYTES: Final = 256 * 1024


@dataclass(slots=True)
class Offer:
    """Everything. `plan` has the heir's generation; `kin` are former supervisors whose connections still end."""

    version: str
    pid: int
    own_generation: int
    plan: MemoryPlan
    memory: tuple[int, int]
    secret: bytes
    places: Places = field(default_factory=dict)
    admin_port: tuple[Address, list[socket.socket]] | None = None
    admin_socket: tuple[Path, socket.socket] | None = None
    kin: list[tuple[int, int, socket.socket]] = field(default_factory=list)  # process, generation, channel
    states: list[dict[str, Any]] = field(default_factory=list)
    drains: list[HandedDrain] = field(default_factory=list)

    def messages(self) -> Iterator[Message]:
        """What is said, in order. Descriptors stay the caller's."""
        plan = self.plan
        yield said(
            Hello(
                format=FORMAT,
                version=self.version,
                pid=self.pid,
                workers=plan.workers,
                pin_limit=plan.pin_limit,
                generation=plan.generation,
                own_generation=self.own_generation,
            )
        )
        yield said(Memory(), descriptors=self.memory)
        for (is_udp, address), shared in self.places.items():
            yield said(Place(is_udp=is_udp, host=address.host, port=address.port), descriptors=_numbers(shared))
        if self.admin_port is not None:
            address, shared = self.admin_port
            yield said(AdminPort(host=address.host, port=address.port), descriptors=_numbers(shared))
        if self.admin_socket is not None:
            path, sock = self.admin_socket
            yield said(AdminSocket(path=str(path)), descriptors=(sock.fileno(),))
        for pid, generation, channel in self.kin:
            yield said(Kin(pid=pid, generation=generation), descriptors=(channel.fileno(),))
        yield said(Standing(states=self.states, drains=self.drains), data=self.secret)


def _numbers(shared: list[socket.socket]) -> tuple[int, ...]:
    return tuple(sock.fileno() for sock in shared)


class OfferReader:
    """Messages to an offer. Raises CannotUpgrade for another format, MalformedMessage for what is none."""

    def __init__(self) -> None:
        self._offer: Offer | None = None
        self._memory: tuple[int, int] | None = None

    def take_untrusted(self, message: Message) -> Offer | None:
        """One more message; the offer when it was the last one."""
        if self._offer is None:
            self._greet(message)
            return None
        word = read_to_heir_untrusted(message)
        if isinstance(word, Standing):
            return self._complete(self._offer, word, message.data)
        self._add(self._offer, word, message.descriptors)
        return None

    def _greet(self, message: Message) -> None:
        theirs = message.words.get("format")
        if message.kind == "hello" and theirs != FORMAT:  # whatever else it says may mean something else
            raise CannotUpgrade(
                f"this version takes over what has form {FORMAT}, the running one hands over form {theirs}: restart it"
            )
        hello = read_to_heir_untrusted(message)
        if not isinstance(hello, Hello):
            raise MalformedMessage("hand_over_order")
        plan = MemoryPlan(hello.workers, hello.pin_limit, hello.generation)
        self._offer = Offer(hello.version, hello.pid, hello.own_generation, plan, (-1, -1), b"")

    def _add(self, offer: Offer, word: ToHeir, descriptors: tuple[int, ...]) -> None:
        match word:
            case Memory():
                self._memory = (descriptors[0], descriptors[1])
            case Place():
                offer.places[word.is_udp, Address(word.host, word.port)] = _sockets(descriptors)
            case AdminPort():
                offer.admin_port = (Address(word.host, word.port), _sockets(descriptors))
            case AdminSocket():
                offer.admin_socket = (Path(word.path), _sockets(descriptors)[0])
            case Kin():
                offer.kin.append((word.pid, word.generation, _sockets(descriptors)[0]))
            case _:
                raise MalformedMessage("hand_over_order")

    def _complete(self, offer: Offer, word: Standing, secret: bytes) -> Offer:
        if self._memory is None or len(secret) != SECRET_BYTES:
            raise MalformedMessage("hand_over_order")
        offer.memory, offer.secret = self._memory, secret
        offer.states, offer.drains = word.states, word.drains
        return offer


def _sockets(descriptors: tuple[int, ...]) -> list[socket.socket]:
    made: list[socket.socket] = []
    for descriptor in descriptors:
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError:
            for other in set(descriptors) - {one.fileno() for one in made}:
                with suppress(OSError):
                    os.close(other)
            raise MalformedMessage("hand_over_descriptors") from None
        sock.setblocking(False)
        made.append(sock)
    return made


def read_offer_untrusted(channel: socket.socket, timeout_s: float) -> Offer:
    """Wait for the whole offer. Raises CannotUpgrade and MalformedMessage."""
    channel.settimeout(timeout_s)
    frames, reader = FrameReader(), OfferReader()
    try:
        while True:
            data, descriptors, _, _ = socket.recv_fds(channel, _READ_BYTES, FD_LIMIT)
            if not data:
                raise CannotUpgrade("the former process is gone")
            for message in frames.feed_untrusted(data, descriptors):
                offer = reader.take_untrusted(message)
                if offer is not None:
                    return offer
    except NotAMessage:
        raise MalformedMessage("hand_over_frame") from None
    except OSError as error:
        raise CannotUpgrade(f"the former process does not tell what it has: {error}") from None
