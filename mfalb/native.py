"""What only the compiler of the optional compiled form (setup.py) reads.

mypyc knows its decorators by the names they have in `mypy_extensions`. At run time they do nothing, so that package is
no requirement of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

__all__ = ["mypyc_attr"]

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:
    Decorated = TypeVar("Decorated", bound=type)

    def mypyc_attr(**_attributes: bool) -> Callable[[Decorated], Decorated]:
        """Say how a class is compiled, e.g. `allow_interpreted_subclasses=True`."""
        return lambda decorated: decorated
