"""The pin table of a node with one worker, in memory of its own."""

from __future__ import annotations

import mmap

from mfalb.balancer.affinity.hub import Hub, HubPlan


def pin_hub(limit: int = 100) -> Hub:
    """An empty one."""
    plan = HubPlan(1, limit)
    return Hub(mmap.mmap(-1, plan.size_bytes), plan, 0)
