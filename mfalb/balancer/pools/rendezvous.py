"""Rendezvous hashing: nodes that agree on the members agree on the choice, and only a lost member's share moves."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from mfalb.balancer.pools.backend import Backend


def highest_for(key: bytes, backends: Iterable[Backend]) -> Backend | None:
    """The backend whose digest with `key` is the highest; None when there is none."""
    return max(backends, key=lambda backend: blake2b(key + backend.name.encode(), digest_size=8).digest(), default=None)
