from __future__ import annotations

import asyncio
import threading

import pytest

from mfalb.reference.threads import Threads


async def test_work_is_done_in_another_thread_and_its_value_or_error_comes_back() -> None:
    threads = Threads("test", 1)
    assert await threads.run(threading.get_ident) != threading.get_ident()
    assert await threads.run(int, "7") == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.run(int, "seven")


async def test_what_is_past_the_limit_waits_for_its_turn() -> None:
    threads, lock = Threads("test", 2), threading.Lock()
    are_two, may_end = threading.Event(), threading.Event()
    running: list[int] = []
    seen: list[int] = []

    def work() -> None:
        with lock:
            running.append(1)
            seen.append(len(running))
        if len(running) == 2:
            are_two.set()
        assert may_end.wait(30)
        with lock:
            running.pop()

    tasks = [asyncio.ensure_future(threads.run(work)) for _ in range(6)]  # noqa: TID251 - own
    assert await asyncio.to_thread(are_two.wait, 30)
    may_end.set()
    await asyncio.gather(*tasks)
    assert max(seen) == 2
