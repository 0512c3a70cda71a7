"""A backend that answers checks by a script, without sockets."""

from __future__ import annotations

import asyncio

from mfalb.balancer.config.models import Backend as BackendConfig
from mfalb.balancer.config.values import Address
from mfalb.balancer.health.outcomes import ProbeFailed
from mfalb.balancer.health.web_calls import Answer, Question
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.health_state import HealthState, Thresholds

BACKEND = Backend(
    "mfa", BackendConfig(name="b1", address=Address("192.0.2.1", 443)), HealthState(Thresholds(), is_probed=True)
)


class FakeCalls:
    """Gives its answers in turn; None is one that never comes."""

    def __init__(self, *answers: Answer | ProbeFailed | None) -> None:
        self.questions: list[Question] = []
        self._answers = list(answers)

    async def call(self, address: Address, question: Question) -> Answer:
        assert address == BACKEND.address
        self.questions.append(question)
        answer = self._answers.pop(0)
        if answer is None:
            await asyncio.Event().wait()
            raise AssertionError
        if isinstance(answer, ProbeFailed):
            raise answer
        return answer
