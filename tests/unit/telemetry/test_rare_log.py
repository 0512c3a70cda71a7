from __future__ import annotations

import logging

import pytest

from mfalb.telemetry import rare_log
from mfalb.telemetry.rare_log import EVERY_S, RareLog

LOG = logging.getLogger("test.rare_log")


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str | None]]:
    """What was logged: the event and how many were left unlogged before it."""
    return [(record.getMessage(), vars(record).get("unlogged")) for record in caplog.records]


def test_the_first_of_a_kind_is_logged_at_once_with_its_facts(caplog: pytest.LogCaptureFixture) -> None:
    RareLog(LOG, Clock()).warning("vpn/loop", "requests go round", {"client": "vpn", "host": lambda: "192.0.2.1"})
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("WARNING", "requests go round")
    assert (vars(record)["client"], vars(record)["host"]) == ("vpn", "192.0.2.1")
    assert "unlogged" not in vars(record)


def test_a_fault_of_the_program_is_logged_with_its_traceback_and_as_rarely(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    rare = RareLog(LOG, clock)
    for _ in range(3):
        rare.error("fault", "it broke", ZeroDivisionError("why"))
    clock.now += EVERY_S
    rare.error("fault", "it broke", ZeroDivisionError("why"))
    assert lines(caplog) == [("it broke", None), ("it broke", "2")]
    assert all(record.levelname == "ERROR" and record.exc_info is not None for record in caplog.records)


def test_the_next_line_of_a_kind_comes_a_minute_later_and_says_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    rare = RareLog(LOG, clock)
    for second in range(62):
        clock.now = 1000.0 + second
        rare.warning("kind", "event", {})
    assert lines(caplog) == [("event", None), ("event", "59")]
    clock.now += EVERY_S
    rare.warning("kind", "event", {})
    assert lines(caplog)[2:] == [("event", "1")]
    clock.now += EVERY_S
    rare.warning("kind", "event", {})
    assert lines(caplog)[3:] == [("event", None)], "none was left out since"


def test_one_kind_keeps_no_other_out_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    rare = RareLog(LOG, Clock())
    for kind in ("vpn/loop", "vpn/rate_limit", "wifi/loop", "vpn/loop"):
        rare.warning(kind, kind, {})
    assert [event for event, _ in lines(caplog)] == ["vpn/loop", "vpn/rate_limit", "wifi/loop"]


def test_a_fact_that_is_dear_to_make_is_made_for_lines_only(caplog: pytest.LogCaptureFixture) -> None:
    made: list[str] = []

    def host() -> str:
        made.append("made")
        return "192.0.2.1"

    rare = RareLog(LOG, Clock())
    for _ in range(1000):
        rare.warning("unknown_client", "a client that is not configured", {"host": host})
    assert (len(made), len(caplog.records)) == (1, 1)


def test_kinds_without_number_do_not_fill_the_memory(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rare_log, "_KINDS_LIMIT", 10)
    rare = RareLog(LOG, Clock())
    for number in range(100):
        rare.warning(f"kind {number}", "event", {})
        assert len(rare._told) <= 10
    assert len(caplog.records) == 100
