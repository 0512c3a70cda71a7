from __future__ import annotations

import asyncio

import pytest

from mfalb.reference.mfa_server.group.messages import Applied, Hello, Message, read_message_untrusted
from mfalb.reference.mfa_server.group.progress import Progress

HELLO = Hello("hq", "standalone", "mfa2", epoch=1, sequence=7, known_epoch=1)


async def said(progress: Progress) -> Message:
    return read_message_untrusted(await anext(progress))


async def test_hello_is_the_first_word_whatever_was_applied_before() -> None:
    progress = Progress(HELLO)
    progress.has_applied(8)
    assert [await said(progress) for _ in range(2)] == [HELLO, Applied(8)]


async def test_a_master_that_does_not_read_is_told_the_newest_only() -> None:
    progress = Progress(HELLO)
    await said(progress)
    for sequence in range(8, 1_000):
        progress.has_applied(sequence)
    assert await said(progress) == Applied(999)
    progress.has_applied(999)
    assert await said(progress) == Applied(999), "a slave that is level says so again and again"


async def test_nothing_is_said_until_there_is_news() -> None:
    progress = Progress(HELLO)
    await said(progress)
    for sequence in (8, 9):
        async with asyncio.TaskGroup() as tasks:
            word = tasks.create_task(said(progress))
            await asyncio.sleep(0)
            assert not word.done()
            progress.has_applied(sequence)
        assert word.result() == Applied(sequence)


@pytest.mark.parametrize("has_news", [False, True])
async def test_when_the_stream_is_over_there_are_no_more_words(*, has_news: bool) -> None:
    progress = Progress(HELLO)
    await said(progress)
    if has_news:
        progress.has_applied(8)
    progress.end()
    assert [word async for word in progress] == []
