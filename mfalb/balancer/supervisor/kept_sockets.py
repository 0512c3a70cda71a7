"""Workers' sockets towards RADIUS backends, held for those who come after them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.radius import SOCKET_LIMIT
from mfalb.net.control_channel import FD_LIMIT, Message

_NAME_LIMIT: Final = 256  # of an owner: a listener and its service


class _Kept(NamedTuple):
    number: int
    owner: str
    backend: str
    descriptor: int


class KeptSockets:
    """By the number of the worker's seat. All are closed with `close`: who stops in order has no successor."""

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools  # which a reload exchanges
        self._kept: dict[int, dict[int, _Kept]] = {}
        self._counts: Counter[tuple[int, str, str]] = Counter()

    def take_untrusted(self, seat: int, message: Message) -> bool:
        """Hold what a worker says it opened. False, and its descriptors closed, for what cannot be true."""
        kept = self._sound(seat, message)
        if kept is None:
            for descriptor in message.descriptors:
                os.close(descriptor)
            return False
        self._kept.setdefault(seat, {})[kept.number] = kept
        self._counts[seat, kept.owner, kept.backend] += 1
        return True

    def take_handed_untrusted(self, seat: int, message: Message) -> None:
        """Hold what another supervisor has held. What is of no use here is closed."""
        for (number, owner, backend), descriptor in zip(message.words["sockets"], message.descriptors, strict=True):
            words = {"kind": "keep", "number": number, "owner": owner, "backend": backend}
            self.take_untrusted(seat, Message(words, descriptors=(descriptor,)))

    def let_go_untrusted(self, seat: int, number: object) -> bool:
        """A worker has no more use for a socket of its own. False when it never had it."""
        kept = self._kept.get(seat, {}).pop(number, None) if isinstance(number, int) else None
        if kept is None:
            return False
        self._counts[seat, kept.owner, kept.backend] -= 1
        os.close(kept.descriptor)
        return True

    def _is_known(self, backend: str) -> bool:
        return any(backend in pool.backends for pool in self._pools.values())

    def _sound(self, seat: int, message: Message) -> _Kept | None:
        words: dict[str, Any] = message.words
        number, owner, backend = words.get("number"), words.get("owner"), words.get("backend")
        if message.kind != "keep" or len(message.descriptors) != 1 or type(number) is not int:
            return None
        if not isinstance(owner, str) or len(owner) > _NAME_LIMIT:
            return None
        if not isinstance(backend, str) or not self._is_known(backend):
            return None
        if not 0 < number < 1 << 32 or number in self._kept.get(seat, {}):
            return None
        if self._counts[seat, owner, backend] >= SOCKET_LIMIT:
            return None
        return _Kept(number, owner, backend, message.descriptors[0])

    def messages(self, seat: int, owners: Collection[str] | None = None) -> tuple[Message, ...]:
        """What the next worker there is told before it begins. The descriptors stay open here.

        `owners` None: of all.
        """
        kept = [one for one in self._kept.get(seat, {}).values() if owners is None or one.owner in owners]
        return tuple(_told(kept[at : at + FD_LIMIT]) for at in range(0, len(kept), FD_LIMIT))

    def close(self) -> None:
        for some in self._kept.values():
            for kept in some.values():
                os.close(kept.descriptor)
        self._kept.clear()


def _told(some: list[_Kept]) -> Message:
    words = {"kind": "kept", "sockets": [[one.number, one.owner, one.backend] for one in some]}
    return Message(words, descriptors=tuple(one.descriptor for one in some))
