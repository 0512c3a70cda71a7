"""What a probe found out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mfalb.balancer.pools.backend import Backend


@dataclass(frozen=True, slots=True)
class Works:
    """The backend works. `text` says by what that was seen; `degraded` what it lacks nevertheless, "" for nothing.

    Both are words of our own: nothing that a server chose gets into logs and pages this way.
    """

    text: str
    degraded: str = ""


class ProbeFailed(Exception):  # noqa: N818 - a finding, not a fault of ours
    """The backend did not answer as a working one does; the text is a short reason in words of our own."""


class ProbeUnsent(Exception):  # noqa: N818 - a finding, too
    """For want of a descriptor, buffer or memory of this host nobody was asked; the text says which."""


Probe = Callable[[Backend], Awaitable[Works]]
