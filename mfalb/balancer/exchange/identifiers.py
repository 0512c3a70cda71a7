"""The 256 identifiers of one upstream socket (RFC 2865 section 3: one octet), and who holds each."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Generic, TypeVar

IDENTIFIERS: Final = 256

Holder = TypeVar("Holder")


class IdentifierTable(Generic[Holder]):
    """Fixed slots. When all are held the upstream opens another socket; the table itself never grows.

    An identifier comes back only when its exchange was answered or given up (RFC 5080 section 2.2.2), and the one that
    has been free longest is given first: a backend then meets a late copy of an old request as rarely as can be.
    """

    __slots__ = ("_free", "_holders")

    def __init__(self) -> None:
        # Longest free first. Not a plain dict: finding the first key of one that shrinks at its head takes linear time
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(IDENTIFIERS))
        self._holders: list[Holder | None] = [None] * IDENTIFIERS

    @property
    def held(self) -> int:
        return IDENTIFIERS - len(self._free)

    @property
    def has_room(self) -> bool:
        return bool(self._free)

    def is_free(self, identifier: int) -> bool:
        return identifier in self._free

    def take(self, preferred: int | None, holder: Holder) -> int | None:
        """An identifier for `holder`: the preferred one when free, else the longest free; None when all are held."""
        free = self._free
        if preferred is not None and preferred in free:
            del free[preferred]
            identifier = preferred
        elif free:
            identifier, _ = free.popitem(last=False)
        else:
            return None
        self._holders[identifier] = holder
        return identifier

    def holder(self, identifier: int) -> Holder | None:
        return self._holders[identifier]

    def holders(self) -> list[Holder]:
        """Everyone who holds an identifier now."""
        return [holder for holder in self._holders if holder is not None]

    def release(self, identifier: int) -> None:
        self._holders[identifier] = None
        self._free.setdefault(identifier)  # one that was free already keeps its place
