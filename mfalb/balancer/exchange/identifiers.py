"""The 256 identifiers of one upstream socket (RFC 2865 section 3: one octet), and who holds each."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

IDENTIFIERS: Final = 256
_FOR_EVER: Final = float("inf")

Holder = TypeVar("Holder")


class IdentifierTable(Generic[Holder]):
    """Fixed slots. When all are held the upstream opens another socket; the table itself never grows.

    An identifier comes back only when its exchange was answered or given up (RFC 5080 section 2.2.2), and the one that
    has been free longest is given first: a backend then meets a late copy of an old request as rarely as can be. One
    that is asked for by number is given only when it has rested: what is still to come under it looks like a forgery.
    """

    __slots__ = ("_after", "_aside", "_before", "_holders", "_rests_until", "held")

    def __init__(self) -> None:
        # The free ones in a ring, longest free first: who stands after and before each, and at IDENTIFIERS its two
        # ends. Lists, because an OrderedDict's methods cost 0.3 us more a transaction (compiled, measured).
        self._after = [*range(1, IDENTIFIERS + 1), 0]
        self._before = [IDENTIFIERS, *range(IDENTIFIERS)]
        self._holders: list[Holder | None] = [None] * IDENTIFIERS
        self._rests_until = [0.0] * IDENTIFIERS
        self._aside: set[int] = set()
        self.held = 0

    @property
    def has_room(self) -> bool:
        return self.held < IDENTIFIERS

    def is_rested(self, identifier: int, now: float) -> bool:
        """Whether it is free, and nothing that was asked under it is still to be answered."""
        return self._holders[identifier] is None and self._rests_until[identifier] <= now

    def take(self, preferred: int | None, holder: Holder, now: float) -> int | None:
        """An identifier for `holder`: the preferred one when rested, else the longest free; None when all are held.

        `now` is monotonic seconds.
        """
        if self.held == IDENTIFIERS:
            return None
        holders, after, before = self._holders, self._after, self._before
        if preferred is not None and holders[preferred] is None and self._rests_until[preferred] <= now:
            identifier = preferred
        else:
            identifier = after[IDENTIFIERS]
        left, right = before[identifier], after[identifier]
        after[left] = right
        before[right] = left
        holders[identifier] = holder
        self.held += 1
        return identifier

    def set_aside(self, identifier: int) -> None:
        """Give a free one to nobody: a predecessor asked something under it that may not be over."""
        after, before = self._after, self._before
        left, right = before[identifier], after[identifier]
        after[left] = right
        before[right] = left
        self._rests_until[identifier] = _FOR_EVER
        self._aside.add(identifier)
        self.held += 1

    def reclaim(self, identifier: int, holder: Holder) -> bool:
        """Go on under one that was set aside; False when it no longer is."""
        if identifier not in self._aside:
            return False
        self._aside.remove(identifier)
        self._holders[identifier] = holder
        return True

    def give_back(self, identifier: int) -> None:
        """What was asked under one that was set aside is over. Nothing happens where somebody reclaimed it."""
        if identifier in self._aside:
            self._aside.remove(identifier)
            self._free(identifier, 0.0)

    def holder(self, identifier: int) -> Holder | None:
        return self._holders[identifier]

    def holders(self) -> list[Holder]:
        """Everyone who holds an identifier now."""
        return [holder for holder in self._holders if holder is not None]

    def release(self, identifier: int, rests_until: float = 0.0) -> None:
        """Nobody holds it any more. `rests_until`: when the last late answer under it may have come."""
        if self._holders[identifier] is None:
            return  # free already: it keeps its place
        self._holders[identifier] = None
        self._free(identifier, rests_until)

    def _free(self, identifier: int, rests_until: float) -> None:
        after, before = self._after, self._before
        self._rests_until[identifier] = rests_until
        last = before[IDENTIFIERS]
        after[last] = before[IDENTIFIERS] = identifier
        before[identifier] = last
        after[identifier] = IDENTIFIERS
        self.held -= 1
