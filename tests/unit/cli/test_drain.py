from __future__ import annotations

import pytest

from mfalb.balancer.admin.api_models import Leaving
from mfalb.cli.drain import _line

COUNTED = Leaving(
    pool="mfa",
    backend="a",
    admin_state="drain",
    active=1,
    pins=2,
    longest_s=125.0,
    deadline_in_s=None,
    then=None,
    is_done=False,
    needs_deadline=False,
    text="",
)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "mfa/a drain: 2 pins (the last for 2m 5s), 1 under way."),
        (
            {"deadline_in_s": 600.0},
            "mfa/a drain: 2 pins (the last for 2m 5s), 1 under way, ends in 10m at the latest.",
        ),
        ({"pins": 0, "active": 0, "is_done": True}, "mfa/a drain: no pins, 0 under way, nothing is left."),
        ({"is_done": True, "admin_state": "maint"}, "mfa/a maint: 2 pins (the last for 2m 5s), 1 under way, ended."),
        (
            {"pins": None, "longest_s": None, "needs_deadline": True, "text": "They live in cookies."},
            "mfa/a drain: 1 under way. They live in cookies.",
        ),
        (
            {"pins": None, "longest_s": None, "active": 0, "needs_deadline": True, "is_done": True},
            "mfa/a drain: 0 under way, ended.",
        ),
    ],
)
def test_a_line_tells_what_is_left_and_never_that_nothing_is_when_nobody_can_know(
    changes: dict[str, object], line: str
) -> None:
    assert _line(COUNTED.model_copy(update=changes)) == line
