from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Self, cast

import aiohttp
import pytest

from mfalb.reference.relying_party.key_source import KeySource, KeysUnavailable


@dataclass
class Farm:
    """A session that answers with this, and counts."""

    body: bytes = b'{"keys": []}'
    status: int = 200
    error: Exception | None = None
    asked: int = 0
    content: asyncio.StreamReader = field(default_factory=asyncio.StreamReader)

    def get(self, url: str, *, allow_redirects: bool) -> Self:
        assert (url, allow_redirects) == ("https://adfs.example/keys", False)
        self.asked += 1
        return self

    async def __aenter__(self) -> Self:
        if self.error is not None:
            raise self.error
        self.content = cast("asyncio.StreamReader", Content(self.body))
        return self

    async def __aexit__(self, *_: object) -> None: ...


@dataclass
class Content:
    """A body that comes in pieces."""

    left: bytes

    async def readany(self) -> bytes:
        piece, self.left = self.left[:1000], self.left[1000:]
        return piece


class World:
    def __init__(self, farm: Farm) -> None:
        self.now, self.farm = 1000.0, farm
        session = cast("aiohttp.ClientSession", farm)
        self.source = KeySource("https://adfs.example/keys", session, lambda: self.now)


async def test_keys_are_fetched_once_and_again_after_five_minutes() -> None:
    world = World(Farm())
    assert [await world.source.keys() for _ in range(3)] == [{"keys": []}] * 3
    assert world.farm.asked == 1
    world.now += 301
    await world.source.keys()
    assert world.farm.asked == 2


async def test_made_up_key_ids_do_not_make_us_ask_more_than_once_in_five_seconds() -> None:
    world = World(Farm())
    for _ in range(10):
        await world.source.keys(is_anew=True)
    assert world.farm.asked == 1
    world.now += 6
    await world.source.keys(is_anew=True)
    assert world.farm.asked == 2


@pytest.mark.parametrize(
    ("farm", "reason"),
    [
        (Farm(status=503), "status_503"),
        (Farm(error=TimeoutError()), "TimeoutError"),
        (Farm(error=aiohttp.ServerDisconnectedError()), "ServerDisconnectedError"),
        (Farm(body=b"<html>"), "JSONDecodeError"),
        (Farm(body=b"[]"), "no_key_set"),
        (Farm(body=b" " * 70_000), "too_long"),
    ],
)
async def test_what_is_no_key_set_is_told(farm: Farm, reason: str) -> None:
    source: Any = World(farm).source
    with pytest.raises(KeysUnavailable) as caught:
        await source.keys()
    assert caught.value.reason == reason
