"""The http check: one request, and whether its answer is the one that is expected."""

from __future__ import annotations

import asyncio

from mfalb.balancer.config.health_models import HttpCheck
from mfalb.balancer.config.secret_sources import read_file
from mfalb.balancer.health.outcomes import ProbeFailed, Works
from mfalb.balancer.health.web_calls import Answer, Caller, Question
from mfalb.balancer.pools.backend import Backend


class HttpProbe:
    """Asks, and compares. Raises OSError when its body file cannot be read."""

    def __init__(self, check: HttpCheck, calls: Caller) -> None:
        self._check = check
        self._calls = calls
        body = read_file(check.body_file) if check.body_file is not None else None
        self._question = Question(check.method.value, check.path, check.headers, body)

    async def __call__(self, backend: Backend) -> Works:
        try:
            async with asyncio.timeout(self._check.timeout_s):
                answer = await self._calls.call(backend.address, self._question)
        except TimeoutError:
            raise ProbeFailed("timeout") from None
        fault = fault_of(answer, self._check)
        if fault:
            raise ProbeFailed(fault)
        return Works(f"status {answer.status}")


def fault_of(answer: Answer, check: HttpCheck) -> str:
    """What an answer lacks of what is expected; "" for nothing."""
    if answer.status not in check.expect_status:
        return f"status {answer.status}"
    header = check.expect_header
    if header is not None:
        values = [value for name, value in answer.headers if name == header.name.lower()]
        if not values:
            return f"no {header.name}"
        if header.value is not None and header.value not in values:
            return f"another {header.name}"
    if check.expect_body is not None and check.expect_body.encode() not in answer.body[: check.body_limit]:
        return "another body"
    return ""
