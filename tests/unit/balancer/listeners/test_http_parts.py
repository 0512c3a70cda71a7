from __future__ import annotations

import asyncio
import io
from typing import Any, Final, cast

from mfalb.balancer.config.http_models import HttpLimits
from mfalb.balancer.listeners.http_parts import HttpParts
from mfalb.net.rounds import WriteRound
from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.metrics import ListenerCounters
from mfalb.wire.http_fields import FieldReader

LINE: Final = LineForm("http", ("path",))
UNUSED: Final = cast(Any, None)


def logging_parts() -> tuple[HttpParts, AccessLog, io.StringIO]:
    stream = io.StringIO()
    log = AccessLog(is_json=False, stream=stream)
    parts = HttpParts(
        exchanges=UNUSED,
        upstreams={},
        pins=UNUSED,
        limits=HttpLimits(),
        counters=ListenerCounters("web", "http"),
        access_log=log,
        backend_refused=UNUSED,
        backend_broke=UNUSED,
        backend_answered=UNUSED,
        writes=WriteRound(),
        fields=cast(FieldReader, None),
        identity_headers=None,
    )
    return parts, log, stream


async def test_a_few_lines_wait_for_the_tick() -> None:
    parts, log, stream = logging_parts()
    for number in range(AccessLog.FLUSH_ROWS - 1):
        parts.log_line(log, LINE, (number,))
    await asyncio.sleep(0)
    assert stream.getvalue() == ""


async def test_many_lines_are_written_once_each_at_the_end_of_their_round_and_not_before() -> None:
    """All that a fast balancer gathers between two ticks would hold up everybody for milliseconds."""
    parts, log, stream = logging_parts()
    count = AccessLog.FLUSH_ROWS + 3
    for number in range(count):
        parts.log_line(log, LINE, (number,))
    assert stream.getvalue() == "", "what clients wait for is written first"
    await asyncio.sleep(0)
    assert [line.rpartition("=")[2] for line in stream.getvalue().splitlines()] == [str(one) for one in range(count)]
