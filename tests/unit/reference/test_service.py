from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Iterator

import pytest

from mfalb.reference.service import _is_piped, _stop_at_end


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.FileIO]:
    """The starter's end of a pipe that is standard input."""
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "r") as standard_input, io.FileIO(write_end, "w") as starter:
        monkeypatch.setattr(sys, "stdin", standard_input)
        yield starter


def test_a_pipe_is_one_and_a_device_or_nothing_at_all_is_none(pipe: io.FileIO) -> None:
    assert _is_piped(sys.stdin)
    with open(os.devnull) as nothing:  # noqa: PTH123 - a device, not a path of ours
        assert not _is_piped(nothing)
    assert not _is_piped(None)


async def test_the_end_of_the_starters_pipe_stops_the_service_and_words_before_it_do_not(pipe: io.FileIO) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    pipe.write(b"words")
    _stop_at_end(stop)
    assert not stop.is_set()
    loop.add_reader(sys.stdin.fileno(), _stop_at_end, stop)
    pipe.close()
    await asyncio.wait_for(stop.wait(), 5)
    assert not loop.remove_reader(sys.stdin.fileno()), "an ended pipe is always readable: it must not be watched"
