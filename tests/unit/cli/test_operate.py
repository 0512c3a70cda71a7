"""What `mfalb status` says of a node that is not complete."""

from __future__ import annotations

import pytest

from mfalb.balancer.admin import api_models as api
from mfalb.cli.operate import workers_text


@pytest.mark.parametrize(
    ("serving", "silent", "text"),
    [
        (1, 0, "1 of 2 workers serve."),
        (1, 1, "1 of 2 workers serve; no sign of life: 1."),
        (0, 2, "0 of 2 workers serve; no sign of life: 2."),
    ],
)
def test_workers_that_are_missing_and_those_that_stand_still_are_told_apart(
    serving: int, silent: int, text: str
) -> None:
    assert workers_text(api.WorkersStatus(configured=2, serving=serving, silent=silent, restarts=0, kills=0)) == text
