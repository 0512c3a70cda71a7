"""Memory that all workers map, and that outlives each of them: the pins and the flights of a node.

It outlives the supervisor, too, when another takes over (`hand_over`). While the former one's workers still end what
they have begun, both write: so there is a share for each of several generations of workers, and who reads reads all.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from mfalb.balancer.affinity.hub import HubPlan, HubReader
from mfalb.balancer.exchange.flight_log import RING_BYTES

GENERATIONS: Final = 3  # two supervisors that were replaced may still drain while the third one serves


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """How the memory is laid out. `generation` is the one whose regions our workers write into."""

    workers: int
    pin_limit: int
    generation: int = 0

    @property
    def hub(self) -> HubPlan:
        return HubPlan(self.workers * GENERATIONS, self.pin_limit, self.workers)

    @property
    def flights_bytes(self) -> int:
        return self.workers * GENERATIONS * RING_BYTES

    def region(self, seat: int) -> int:
        """The number of a worker's region, in both memories."""
        return self.generation * self.workers + seat


def free_generation(taken: Collection[int]) -> int | None:
    """One that nobody writes into; None when there is none."""
    return next((one for one in range(GENERATIONS) if one not in taken), None)


class SharedMemory:
    """Made once, or taken over, and the process's until its end: its workers' descriptors lead to it."""

    def __init__(self, plan: MemoryPlan, handed: tuple[int, int] | None = None) -> None:
        """`handed` are the descriptors of a predecessor's, ours now. Raises ValueError when they are too small."""
        self.plan = plan
        wanted = (("mfalb-pins", plan.hub.size_bytes), ("mfalb-flights", plan.flights_bytes))
        if handed is not None and any(
            os.fstat(one).st_size < size_bytes for one, (_, size_bytes) in zip(handed, wanted, strict=True)
        ):
            raise ValueError("the memory that was handed over is smaller than its plan")
        self.descriptors = handed or (_made(*wanted[0]), _made(*wanted[1]))
        self.pins = HubReader(mmap.mmap(self.descriptors[0], plan.hub.size_bytes), plan.hub)


def _made(name: str, size_bytes: int) -> int:
    """The descriptor of so much memory, of which the system gives only the pages that are used."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size_bytes)
    return descriptor
