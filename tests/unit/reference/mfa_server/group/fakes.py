"""Stand-ins for what a member of a group meets outside its process."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Self, cast

import aiohttp

from mfalb.reference.mfa_server.group.activation import CloudAway, CloudRefused
from mfalb.reference.mfa_server.group.standing import Membership


@dataclass
class FakeRegistry:
    """A cloud that says what the test has told it to."""

    says: Membership | Exception
    promotions: list[int] = field(default_factory=list)
    asked: int = 0
    promotion_fails: CloudAway | CloudRefused | None = None

    async def activate(self, _rpc_address: str) -> Membership:
        self.asked += 1
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def promote(self, epoch: int) -> None:
        if self.promotion_fails is not None:
            raise self.promotion_fails
        self.promotions.append(epoch)


class FakeResponse:
    """An HTTP answer."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.content = self
        self._body = body

    async def read(self, _limit: int) -> bytes:
        return self._body

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


@dataclass
class FakeSession:
    """An HTTP client that gets one answer to everything, or fails."""

    answer: tuple[int, Any] | Exception
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def post(self, url: str, *, json: dict[str, Any], timeout: aiohttp.ClientTimeout) -> FakeResponse:
        assert timeout.total
        self.asked.append((url, json))
        if isinstance(self.answer, Exception):
            raise self.answer
        status, content = self.answer
        return FakeResponse(status, content if isinstance(content, bytes) else _body(content))

    @property
    def session(self) -> aiohttp.ClientSession:
        return cast("aiohttp.ClientSession", self)


def _body(content: Any) -> bytes:
    return json.dumps(content).encode()
