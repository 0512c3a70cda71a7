"""What two supervisors say to one another when the balancer's code is exchanged: the former one hands everything over.

    former                                     heir, a process that the former one started
    hello                                 ──▶
    memory, place ..., admin ..., kin ...
    standing (and the ticket secret)      ──▶  reads its configuration, starts workers, which wait
                                          ◀──  prepared, or unfit
    (its workers begin nothing more)
    kept ..., exchanges                   ──▶  once for each seat
    serve                                 ──▶  its workers serve
                                          ◀──  serving
    released                              ──▶  it is the service from now on
                                          ◀──  backends, reopen, stop: while the former one's connections end

Between hello and released each may also just be gone: then the other one serves on, or ends.

Messages are frames of `net.control_channel`: words by the models below, and descriptors. What is handed over has the
form FORMAT, which stands for all of it: these messages, the memory of pins (`affinity.hub`) and flights
(`exchange.flight_log`), and exchanges (`exchange.handed_exchanges`). Whoever changes one of them counts FORMAT up; who
has another one is refused, and the former one serves on.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mfalb.balancer.config.models import WORKERS_LIMIT
from mfalb.errors import MalformedMessage, MfalbError
from mfalb.net.control_channel import Message

FORMAT: Final = 1
_SEATS = Annotated[int, Field(ge=0, lt=WORKERS_LIMIT)]
_TEXT = Annotated[str, Field(max_length=4096)]


class CannotUpgrade(MfalbError):  # noqa: N818 - says what, in the operator's words
    """Nobody else took over; everything is served as before."""


class Word(BaseModel):
    """Unknown keys fail."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class Hello(Word):
    """Who hands over, and how the shared memory is laid out; `generation` is for the heir to write into."""

    kind: Literal["hello"] = "hello"
    format: int
    version: _TEXT
    pid: Annotated[int, Field(gt=0)]
    workers: Annotated[int, Field(ge=1, le=WORKERS_LIMIT)]
    pin_limit: Annotated[int, Field(ge=1)]
    generation: Annotated[int, Field(ge=0)]
    own_generation: Annotated[int, Field(ge=0)]


class Memory(Word):
    """The pins and the flights: two descriptors."""

    kind: Literal["memory"] = "memory"


class Place(Word):
    """The sockets that are bound to one address, one for each worker: as many descriptors."""

    kind: Literal["place"] = "place"
    is_udp: bool
    host: _TEXT
    port: Annotated[int, Field(ge=0, le=65535)]


class AdminPort(Word):
    """The sockets of the admin port."""

    kind: Literal["admin_port"] = "admin_port"
    host: _TEXT
    port: Annotated[int, Field(ge=0, le=65535)]


class AdminSocket(Word):
    """The Unix socket of the admin API: one descriptor."""

    kind: Literal["admin_socket"] = "admin_socket"
    path: _TEXT


class Kin(Word):
    """One more former supervisor whose connections still end, and the channel to it: one descriptor."""

    kind: Literal["kin"] = "kin"
    pid: Annotated[int, Field(gt=0)]
    generation: Annotated[int, Field(ge=0)]


class HandedDrain(Word):
    """A drain under way. `deadline_at`: monotonic seconds."""

    pool: _TEXT
    backend: _TEXT
    deadline_at: float | None
    is_maint_next: bool


class Standing(Word):
    """What is known and ordered of backends (`pools.backend_state`); the ticket secret is the message's bytes."""

    kind: Literal["standing"] = "standing"
    states: list[dict[str, Any]]
    drains: list[HandedDrain]


class Kept(Word):
    """Sockets towards RADIUS backends of the worker in that seat: number, owner and backend of each descriptor."""

    kind: Literal["kept"] = "kept"
    seat: _SEATS
    sockets: list[tuple[int, str, str]]


class Exchanges(Word):
    """What the worker in that seat was doing: the memory that has it. `last_socket`: the last number it has given."""

    kind: Literal["exchanges"] = "exchanges"
    seat: _SEATS
    last_socket: Annotated[int, Field(ge=0, lt=1 << 32)]


class Serve(Word):
    """All is said: serve. What operators have ordered meanwhile."""

    kind: Literal["serve"] = "serve"
    states: list[dict[str, Any]]
    drains: list[HandedDrain]


class Released(Word):
    """Whoever has to know knows who is in charge now."""

    kind: Literal["released"] = "released"


class Prepared(Word):
    """The heir's workers only wait to be allowed."""

    kind: Literal["prepared"] = "prepared"


class Unfit(Word):
    """The heir cannot take over, and ends."""

    kind: Literal["unfit"] = "unfit"
    reason: str


class Serving(Word):
    """The heir serves: there is no way back."""

    kind: Literal["serving"] = "serving"


class Backends(Word):
    """States of backends that have changed."""

    kind: Literal["backends"] = "backends"
    states: list[dict[str, Any]]


class Reopen(Word):
    """The access log was renamed."""

    kind: Literal["reopen"] = "reopen"


class Stop(Word):
    """The service ends: so does what is left of the former one."""

    kind: Literal["stop"] = "stop"


ToHeir = Hello | Memory | Place | AdminPort | AdminSocket | Kin | Standing | Kept | Exchanges | Serve | Released
ToFormer = Prepared | Unfit | Serving | Backends | Reopen | Stop
_Said = TypeVar("_Said")
_TO_HEIR: Final[TypeAdapter[ToHeir]] = TypeAdapter(Annotated[ToHeir, Field(discriminator="kind")])
_TO_FORMER: Final[TypeAdapter[ToFormer]] = TypeAdapter(Annotated[ToFormer, Field(discriminator="kind")])


def said(word: Word, data: bytes = b"", descriptors: tuple[int, ...] = ()) -> Message:
    """As a message for the channel."""
    return Message(word.model_dump(mode="json"), data, descriptors)


def read_to_heir_untrusted(message: Message) -> ToHeir:
    """What the former supervisor says. Raises MalformedMessage, also where descriptors are missing or too many."""
    word = _read(_TO_HEIR, message)
    if not _fits(word, len(message.descriptors)):
        raise MalformedMessage("hand_over_descriptors")
    return word


def read_to_former_untrusted(message: Message) -> ToFormer:
    """What the heir says. Raises MalformedMessage."""
    word = _read(_TO_FORMER, message)
    if message.descriptors:
        raise MalformedMessage("hand_over_descriptors")
    return word


def _read(adapter: TypeAdapter[_Said], message: Message) -> _Said:
    try:
        return adapter.validate_json(json.dumps(message.words))  # so that strict lists may be tuples
    except ValidationError:
        raise MalformedMessage("hand_over_words") from None


def _fits(word: ToHeir, count: int) -> bool:
    match word:
        case Memory():
            return count == 2  # noqa: PLR2004 - pins and flights
        case Place():
            return 1 <= count <= WORKERS_LIMIT
        case AdminPort():
            return count >= 1
        case AdminSocket() | Kin() | Exchanges():
            return count == 1
        case Kept():
            return count == len(word.sockets)
        case _:
            return count == 0
