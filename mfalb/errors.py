"""What can go wrong, named by whose fault it is and whether anything was sent.

Each error is caught once, at the shell of the exchange it belongs to: answered, counted, logged once.
"""

from __future__ import annotations

from dataclasses import dataclass


class MfalbError(Exception):
    """Root of every error that mfalb raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding of a configuration check.

    `line` and `column` count from 1; both are 0 when a finding is about the file as a whole.
    """

    file: str
    line: int
    column: int
    message: str
    is_error: bool = True

    def __str__(self) -> str:
        level = "error" if self.is_error else "warning"
        return f"{self.file}:{self.line}:{self.column}: {level}: {self.message}"


class ConfigError(MfalbError):
    """The operator's configuration cannot be used; nothing was started or changed."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class MalformedMessage(MfalbError):  # noqa: N818 - a noun of the house, not a suffix habit
    """The peer sent bytes that are not a message; `reason` is a short metric label, never peer-controlled.

    `culprit` is the part that was found wanting and `offset` where in it: the peer's bytes, secrets and all, and so no
    part of the text.
    """

    def __init__(self, reason: str, culprit: bytes = b"", offset: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.culprit = culprit
        self.offset = offset


class BackendFailure(MfalbError):  # noqa: N818
    """A backend could not carry an exchange.

    `sent` says whether any byte of the exchange may have reached it: only when nothing was sent may another
    backend be tried without asking. `is_answered` says whether any byte of an answer came back.
    """

    def __init__(self, backend: str, reason: str, *, sent: bool, is_answered: bool = False) -> None:
        super().__init__(f"backend {backend}: {reason}")
        self.backend = backend
        self.reason = reason
        self.sent = sent
        self.is_answered = is_answered


class NoBackend(MfalbError):  # noqa: N818
    """No backend of the pool may take this exchange; `reason` is a short metric label."""

    def __init__(self, pool: str, reason: str) -> None:
        super().__init__(f"pool {pool}: {reason}")
        self.pool = pool
        self.reason = reason
