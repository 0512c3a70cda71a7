"""The 256 identifiers of one upstream socket (RFC 2865 section 3: one octet), and who holds each."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

IDENTIFIERS: Final = 256

Holder = TypeVar("Holder")


class IdentifierTable(Generic[Holder]):
    """Fixed slots. When all are held the upstream opens another socket; the table itself never grows.

    An identifier comes back only when its exchange was answered or given up (RFC 5080 section 2.2.2). The search for a
    free one goes round, so the identifier that was freed last is used again last.
    """

    __slots__ = ("_busy", "_holders", "_start", "held")

    def __init__(self) -> None:
        self._busy = bytearray(IDENTIFIERS)  # bytearray.find makes the search one C call
        self._holders: list[Holder | None] = [None] * IDENTIFIERS
        self._start = 0
        self.held = 0

    def is_free(self, identifier: int) -> bool:
        return not self._busy[identifier]

    def take(self, preferred: int, holder: Holder) -> int | None:
        """An identifier for `holder`: the preferred one when free, else the next free one; None when all are held."""
        identifier = preferred
        if self._busy[preferred]:
            identifier = self._busy.find(0, self._start)
            if identifier < 0:
                identifier = self._busy.find(0)
                if identifier < 0:
                    return None
            self._start = (identifier + 1) % IDENTIFIERS
        self._busy[identifier] = 1
        self._holders[identifier] = holder
        self.held += 1
        return identifier

    def holder(self, identifier: int) -> Holder | None:
        return self._holders[identifier]

    def holders(self) -> list[Holder]:
        """Everyone who holds an identifier now."""
        return [holder for holder in self._holders if holder is not None]

    def release(self, identifier: int) -> None:
        if self._busy[identifier]:
            self._busy[identifier] = 0
            self._holders[identifier] = None
            self.held -= 1
