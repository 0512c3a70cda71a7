"""Memory that all workers map, and that outlives each of them: the pins and the flights of a node."""

from __future__ import annotations

import mmap
import os

from mfalb.balancer.affinity.hub import HubPlan, HubReader
from mfalb.balancer.exchange.flight_log import RING_BYTES


class SharedMemory:
    """Made once, and the process's until its end: its workers' descriptors lead to it."""

    def __init__(self, workers: int, pin_limit: int) -> None:
        self.plan = HubPlan(workers, pin_limit)
        hub = _made("mfalb-pins", self.plan.size_bytes)
        self.descriptors = (hub, _made("mfalb-flights", workers * RING_BYTES))
        self.pins = HubReader(mmap.mmap(hub, self.plan.size_bytes), self.plan)


def _made(name: str, size_bytes: int) -> int:
    """The descriptor of so much memory, of which the system gives only the pages that are used."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size_bytes)
    return descriptor
