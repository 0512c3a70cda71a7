from __future__ import annotations

import asyncio
from typing import cast

import pytest

from mfalb.net.rounds import BULK_BYTES, GatheredWrites, WriteRound


class Transport:
    """Remembers what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)


def connection(write_round: WriteRound) -> tuple[GatheredWrites, Transport]:
    writes, transport = GatheredWrites(write_round), Transport()
    writes.transport = cast(asyncio.Transport, transport)
    return writes, transport


async def end_of_round() -> None:
    await asyncio.sleep(0)


async def test_what_gathers_in_a_round_is_written_once_at_its_end() -> None:
    writes, transport = connection(WriteRound())
    writes.write(b"head ")
    writes.write(b"body")
    assert transport.written == []
    await end_of_round()
    assert transport.written == [b"head body"]
    writes.write(b"next")
    await end_of_round()
    assert transport.written == [b"head body", b"next"]


async def test_a_large_piece_is_written_at_once_and_behind_what_gathered() -> None:
    writes, transport = connection(WriteRound())
    large = bytes(BULK_BYTES + 1)
    writes.write(b"head")
    writes.write(large)
    assert transport.written == [b"head" + large]
    await end_of_round()
    assert len(transport.written) == 1


async def test_what_gathered_for_a_connection_that_is_gone_or_given_up_is_written_nowhere() -> None:
    write_round = WriteRound()
    gone, _ = connection(write_round)
    given_up, transport = connection(write_round)
    gone.write(b"lost")
    gone.transport = None
    given_up.write(b"lost")
    given_up.clear()
    await end_of_round()
    assert transport.written == []


async def test_one_connection_that_fails_does_not_keep_its_neighbours_from_writing() -> None:
    failures: list[BaseException | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context.get("exception")))
    write_round = WriteRound()

    def fail() -> None:
        raise OSError("gone")

    write_round.add(fail)
    writes, transport = connection(write_round)
    writes.write(b"ours")
    await end_of_round()
    await end_of_round()
    assert transport.written == [b"ours"]
    with pytest.raises(OSError, match="gone"):
        raise failures[0] or AssertionError
