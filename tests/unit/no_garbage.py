"""That something leaves no cycle of objects behind, which would wait for the garbage collector.

with leaves_no_garbage():
    refuse_a_request()

The balancer looks for cycles seldom (`mfalb.net.memory`), and what waits in one may hold all that was being read.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def leaves_no_garbage() -> Iterator[None]:
    """Fails with the kinds of objects that only the garbage collector would have freed."""
    was_enabled = gc.isenabled()
    gc.disable()
    gc.freeze()  # what was there before is not looked at
    try:
        yield
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = Counter(type(one).__qualname__ for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        if was_enabled:
            gc.enable()
    assert not found, f"in cycles: {dict(found)}"
