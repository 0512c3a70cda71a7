"""Rendezvous hashing: nodes that agree on the members agree on the choice, and only a lost member's share moves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from math import ceil, log
from typing import Final

from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.choice import NO_KEY, Choice
from mfalb.balancer.pools.round_robin import RoundRobin

_DIGEST_BYTES: Final = 8
_SPARE_BITS: Final = 12  # of the digest: what is left fits a float with room for the half that is added to it


_ROUNDING: Final = 1e-9  # so that a limit that is a whole number is not lifted to the next one


def _digest(key: bytes, backend: Backend) -> bytes:
    return blake2b(key + backend.name.encode(), digest_size=_DIGEST_BYTES).digest()


def highest_for(key: bytes, backends: Iterable[Backend]) -> Backend | None:
    """The backend whose digest with `key` is the highest, whatever its weight; None when there is none."""
    return max(backends, key=lambda backend: _digest(key, backend), default=None)


def score(key: bytes, backend: Backend) -> float:
    """How much `backend` wants `key`: over all keys, each wins as many as its weight says.

    w / -ln(u) for a digest u in (0, 1): the logarithmic method of weighted rendezvous hashing (Schindelhauer and
    Schomaker 2005). Another's weight is not in it, so a change of weight moves keys to or from that backend only.
    """
    whole = int.from_bytes(_digest(key, backend), "big") >> _SPARE_BITS
    return backend.weight / -log((whole + 0.5) / (1 << (8 * _DIGEST_BYTES - _SPARE_BITS)))


class RendezvousHash(Choice):
    """The same backend for the same key, unless it has too much to do (Mirrokni, Thorup, Zadimoghaddam 2016).

    Nobody gets more than ceil(load_factor x average by weight) exchanges at a time: what is above goes to the one that
    wants the key next most. Requests without the key are balanced by round robin.
    """

    __slots__ = ("_backends", "_keyless", "_load_factor")

    def __init__(self, load_factor: float) -> None:
        self._load_factor = load_factor
        self._backends: list[Backend] = []
        self._keyless = RoundRobin()

    def set_backends(self, backends: Sequence[Backend]) -> None:
        self._backends = list(backends)
        self._keyless.set_backends(backends)

    def next(self, key: bytes = NO_KEY) -> Backend | None:
        return self._wanting(key, self._backends) if key else self._keyless.next()

    def peek(self, key: bytes = NO_KEY) -> Backend | None:
        return self._wanting(key, self._backends) if key else self._keyless.peek()

    def next_except(self, tried: frozenset[str], key: bytes = NO_KEY) -> Backend | None:
        if not key:
            return self._keyless.next_except(tried)
        return self._wanting(key, [backend for backend in self._backends if backend.name not in tried])

    def _wanting(self, key: bytes, backends: list[Backend]) -> Backend | None:
        """Who wants the key most of those that have room. Their room together is more than all there is to do."""
        weights = active = 0
        for backend in backends:
            weights += backend.weight
            active += backend.active
        chosen, highest = None, 0.0
        for backend in backends:
            limit = self._load_factor * (active + 1) * backend.weight / weights
            if backend.active < ceil(limit - _ROUNDING):
                wanted = score(key, backend)
                if chosen is None or wanted > highest:
                    chosen, highest = backend, wanted
        return chosen
