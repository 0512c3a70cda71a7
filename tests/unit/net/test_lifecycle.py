import asyncio
import logging

import pytest

from mfalb.net.lifecycle import Tasks


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_has_a_name_that_tells_its_owner_and_leaves_when_it_ends() -> None:
    tasks = Tasks("pool web")
    may_end = asyncio.Event()

    async def work() -> None:
        await may_end.wait()

    task = tasks.start("probe mfa1", work())
    assert (task.get_name(), len(tasks)) == ("pool web: probe mfa1", 1)
    may_end.set()
    await task
    assert len(tasks) == 0


async def test_closing_ends_all_tasks_and_waits_until_they_have_ended() -> None:
    tasks = Tasks("owner")
    ended: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    for name in ("a", "b"):
        tasks.start(name, work(name))
    await asyncio.sleep(0)
    await tasks.close()
    assert sorted(ended) == ["a", "b"]
    assert len(tasks) == 0
    await tasks.close()


async def test_a_task_that_fails_is_logged_once_with_its_name_and_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks("owner")

    async def fail() -> None:
        raise ValueError("out of order")

    other = tasks.start("other", forever())
    failing = tasks.start("failing", fail())
    with caplog.at_level(logging.ERROR):
        await asyncio.wait((failing,))
    (record,) = caplog.records
    assert vars(record)["task"] == "owner: failing"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)
    assert not other.done()
    await tasks.close()
    assert (other.cancelled(), len(caplog.records)) == (True, 1)


async def test_a_task_that_fails_while_it_is_closed_is_logged_and_closing_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks("owner")

    async def fail_late() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("could not say goodbye")

    tasks.start("late", fail_late())
    other = tasks.start("other", forever())
    await asyncio.sleep(0)
    await tasks.close()
    assert other.cancelled()
    assert [vars(record)["task"] for record in caplog.records] == ["owner: late"]
