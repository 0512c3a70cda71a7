"""The suspects page: requests that were refused because they could be read in two ways, with the place of the fault."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from mfalb.balancer.listeners.http_parts import Suspicion


def suspects(by_listener: Mapping[str, Iterable[Suspicion]]) -> dict[str, object]:
    """The whole page, newest first.

    `excerpt` is the masked message as an escaped text; `position` counts its bytes, and `at` shows the byte there.
    `left_out` bytes of the message stand before the excerpt.
    """
    entries = [(name, one) for name, suspicions in by_listener.items() for one in suspicions]
    entries.sort(key=lambda entry: entry[1].at, reverse=True)
    return {"suspects": [_entry(name, one) for name, one in entries]}


def _entry(listener: str, one: Suspicion) -> dict[str, object]:
    suspect = one.suspect
    return {
        "time": datetime.fromtimestamp(one.at, UTC).isoformat(timespec="milliseconds"),
        "listener": listener,
        "client": one.client,
        "reason": suspect.reason,
        "position": suspect.position,
        "at": _shown(suspect.excerpt[suspect.position : suspect.position + 1]),
        "excerpt": _shown(suspect.excerpt),
        "left_out": suspect.cut_bytes,
    }


def _shown(data: bytes) -> str:
    r"""Bytes as text in which every one that is not plain ASCII is escaped, as in Python: `\r\n`, `\x00`."""
    return repr(data)[2:-1]
