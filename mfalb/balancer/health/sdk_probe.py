"""The sdk check: Azure MFA's Web Service SDK asked by calls that ring nobody's phone (MFA facts, section 1.6).

    TestSecurity           `secure`: it works, and knows as whom we ask      anything else: it does not
    TestMasterConnection   `true`: it reaches the master                     anything else: it is degraded

One that does not reach its master still signs users in; what it cannot do is take changes.
"""

from __future__ import annotations

import asyncio
from typing import Final

from mfalb.balancer.config.health_models import SdkCheck
from mfalb.balancer.health.outcomes import ProbeFailed, Works
from mfalb.balancer.health.web_calls import Caller, Question
from mfalb.balancer.pools.backend import Backend
from mfalb.errors import MalformedMessage
from mfalb.wire.soap import empty_call, read_envelope_untrusted

_OK: Final = 200
_SECURITY: Final = "TestSecurity"
_MASTER: Final = "TestMasterConnection"


class SdkProbe:
    """Makes the calls, each on a connection of its own, within one timeout."""

    def __init__(self, check: SdkCheck, calls: Caller) -> None:
        self._check = check
        self._calls = calls
        self._security = _question(check, _SECURITY)
        self._master = _question(check, _MASTER) if check.check_master else None

    async def __call__(self, backend: Backend) -> Works:
        deadline = asyncio.get_running_loop().time() + self._check.timeout_s
        said = await self._result(backend, self._security, _SECURITY, deadline)
        if said.lower() != "secure":
            raise ProbeFailed("not secure")
        if self._master is None:
            return Works("secure")
        return Works("secure", await self._missing(backend, self._master, deadline))

    async def _missing(self, backend: Backend, master: Question, deadline: float) -> str:
        try:
            said = await self._result(backend, master, _MASTER, deadline)
        except ProbeFailed as failure:
            return f"{_MASTER}: {failure}"
        return "" if said.lower() == "true" else "does not reach the master"

    async def _result(self, backend: Backend, question: Question, method: str, deadline: float) -> str:
        try:
            async with asyncio.timeout_at(deadline):
                answer = await self._calls.call(backend.address, question)
        except TimeoutError:
            raise ProbeFailed("timeout") from None
        if len(answer.body) > self._check.body_limit:
            raise ProbeFailed("answer too long")
        return result_untrusted(method, answer.status, answer.body)


def result_untrusted(method: str, status: int, body: bytes) -> str:
    """The result of a call, as it stands in its answer. Raises ProbeFailed when that has none."""
    if status != _OK:  # SOAP faults have 500, callers that are not known 401
        raise ProbeFailed(f"status {status}")
    try:
        envelope = read_envelope_untrusted(body, (f"{method}Result",))
    except MalformedMessage as error:
        raise ProbeFailed(error.reason) from None
    if envelope.method == "Fault":
        raise ProbeFailed("soap fault")
    if envelope.method != f"{method}Response" or f"{method}Result" not in envelope.texts:
        raise ProbeFailed("no result")
    return envelope.texts[f"{method}Result"]


def _question(check: SdkCheck, method: str) -> Question:
    namespace = check.namespace.rstrip("/")
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": f'"{namespace}/{method}"'}
    return Question("POST", check.path, headers, empty_call(method, check.namespace))
