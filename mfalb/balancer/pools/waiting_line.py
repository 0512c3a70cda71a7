"""Exchanges that wait until a backend may take them: in order, bounded, and none longer than it may."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from mfalb.balancer.pools.backend import Backend

_ANY: Final = ""


class Ticket:
    """One place in the line. `backend` is a name for what must go there, "" for what any backend may take."""

    __slots__ = ("backend", "holder", "number")

    def __init__(self, holder: object, backend: str, number: int) -> None:
        self.holder = holder
        self.backend = backend
        self.number = number


class WaitingLine:
    """The line of one pool. A line of its own for each backend's pinned work: it must not hold up everybody else.

    Whoever leaves is gone from it at once, since nobody's turn may come for as long as all backends are full. Ordered
    dictionaries, because a plain one looks for its first entry among all that were taken out before.
    """

    __slots__ = ("_lines", "_number", "limit", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.waiting = 0
        self._number = 0
        self._lines: dict[str, OrderedDict[int, Ticket]] = {_ANY: OrderedDict()}

    def join(self, holder: object, backend: str = _ANY) -> Ticket | None:
        """A place at the end; None when the line is full."""
        if self.waiting >= self.limit:
            return None
        self._number += 1
        self.waiting += 1
        ticket = Ticket(holder, backend, self._number)
        self._lines.setdefault(backend, OrderedDict())[ticket.number] = ticket
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give up waiting."""
        if self._lines[ticket.backend].pop(ticket.number, None) is not None:
            self.waiting -= 1

    def next_for(self, backend: Backend) -> Ticket | None:
        """Who has waited longest for a place there; it has left the line then."""
        own = self._first(self._lines.get(backend.name)) if backend.takes_pinned else None
        general = self._first(self._lines[_ANY]) if backend.takes_new else None
        if own is None or (general is not None and general.number < own.number):
            own = general
        if own is not None:
            self.leave(own)
        return own

    @staticmethod
    def _first(line: OrderedDict[int, Ticket] | None) -> Ticket | None:
        return next(iter(line.values())) if line else None

    def hand_out(self, backends: Mapping[str, Backend]) -> list[tuple[Ticket, Backend]]:
        """Everybody whose turn it is, with a place reserved (`Backend.active`) that is theirs to give back."""
        turns: list[tuple[Ticket, Backend]] = []
        if not self.waiting:
            return turns
        for backend in backends.values():
            while not backend.is_full:
                ticket = self.next_for(backend)
                if ticket is None:
                    break
                backend.active += 1
                turns.append((ticket, backend))
        return turns
