import logging
from types import SimpleNamespace
from typing import Any

import pytest

from mfalb.telemetry.unraisable import UnraisableLog


def args(error: BaseException, source: object, message: str | None = None) -> Any:
    return SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=message, object=source)


def not_ascii(octets: bytes) -> UnicodeDecodeError:
    with pytest.raises(UnicodeDecodeError) as caught:
        octets.decode("ascii")
    return caught.value


def test_names_that_are_not_ascii_make_one_line_a_minute_without_the_name(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = UnraisableLog(clock=lambda: now[0])
    for _ in range(3):
        log(args(not_ascii(b"evil\xff\nlevel=error"), b"evil\xff\nlevel=error"))
    now[0] = 61.0
    log(args(not_ascii(b"\xff"), b"\xff"))
    assert [(record.levelname, vars(record).get("unlogged")) for record in caplog.records] == [
        ("WARNING", None),
        ("WARNING", "2"),
    ]
    assert "evil" not in caplog.text


@pytest.mark.parametrize(
    ("error", "source"), [(ValueError("broken"), b"octets"), (not_ascii(b"\xff"), object()), (KeyError("x"), None)]
)
def test_every_other_one_is_a_fault_of_ours_and_told_whole(
    caplog: pytest.LogCaptureFixture, error: BaseException, source: object
) -> None:
    UnraisableLog()(args(error, source, "Exception ignored in"))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_an_answer_after_the_end_of_the_loop_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        UnraisableLog()(args(RuntimeError("Event loop is closed"), None))
        assert not caplog.records
        UnraisableLog()(args(RuntimeError("another one"), None))
    assert [record.levelname for record in caplog.records] == ["ERROR"]
