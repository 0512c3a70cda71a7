"""How many sockets and files the process may have open."""

from __future__ import annotations

import resource


def allow_many_descriptors() -> int:
    """Raise the soft limit to the hard one; returns it.

    The usual soft limit, 1024, is there for programs that use select(2). Idle connections alone would reach it, and
    then nothing more could be asked of any backend, and no health check be made.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
