"""What a check found, in the order of the file."""

from __future__ import annotations

from mfalb.balancer.config.document import Position
from mfalb.errors import Problem


class Findings:
    """Collects the problems of one file, each once."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._problems: dict[Problem, None] = {}

    def error(self, position: Position, message: str) -> None:
        """The file cannot be used."""
        self._problems[Problem(self._file, position.line, position.column, message)] = None

    def warning(self, position: Position, message: str) -> None:
        """The file can be used, but probably not with the outcome its author wants."""
        self._problems[Problem(self._file, position.line, position.column, message, is_error=False)] = None

    @property
    def has_errors(self) -> bool:
        return any(problem.is_error for problem in self._problems)

    def sorted(self) -> list[Problem]:
        """All problems by line and column."""
        return sorted(self._problems, key=lambda problem: (problem.line, problem.column))
