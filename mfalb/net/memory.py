"""How often Python looks for cycles of garbage."""

from __future__ import annotations

import gc


def calm_the_garbage_collector() -> None:
    """Tables of 100,000 live entries and no cycles on the hot path: looking for cycles often finds nothing.

    What exists at the start is never looked at again, and a young collection comes after 50,000 allocations instead of
    700: 10 to 15 % of the CPU time of a RADIUS transaction (measured).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
