from __future__ import annotations

import errno
import logging
import os
from pathlib import Path
from stat import S_IMODE

import pytest

from mfalb.telemetry.log import AccessLog, LineForm
from mfalb.telemetry.log_file import LogFile


def test_lines_are_appended_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n", "utf-8")
    file = LogFile(path)
    file.write("one\ntwo ü\n")
    file.close()
    assert path.read_text("utf-8") == "before\none\ntwo ü\n"


def test_a_new_file_is_not_for_everybody(tmp_path: Path) -> None:
    LogFile(tmp_path / "access.log").close()
    assert not S_IMODE((tmp_path / "access.log").stat().st_mode) & 0o007


def test_after_a_rotation_lines_go_to_the_new_file_and_none_is_lost(tmp_path: Path) -> None:
    path, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    file = LogFile(path)
    file.write("one\n")
    path.rename(rotated)
    file.write("two\n")
    file.reopen()
    file.write("three\n")
    file.close()
    assert (rotated.read_text(), path.read_text()) == ("one\ntwo\n", "three\n")


def test_a_file_that_cannot_be_opened_at_first_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LogFile(tmp_path / "missing" / "access.log")


def test_a_full_disk_costs_its_lines_and_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = LogFile(tmp_path / "access.log")
    full = os.open("/dev/full", os.O_WRONLY)
    file.write("kept\n")
    os.dup2(full, int(file._descriptor or 0))
    os.close(full)
    with caplog.at_level(logging.ERROR):
        file.write("lost\nlost\n")
    assert file.left_out == 2
    file.write("kept again\n")  # opened anew
    file.close()
    assert (tmp_path / "access.log").read_text() == "kept\nkept again\n"
    assert [vars(record)["reason"] for record in caplog.records] == [os.strerror(errno.ENOSPC)]


def test_a_folder_that_vanished_is_tried_again_with_each_batch(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    file = LogFile(folder / "access.log")
    folder.rename(tmp_path / "gone")
    file.reopen()
    file.write("lost\n")
    folder.mkdir()
    file.write("kept\n")
    file.close()
    assert (file.left_out, (folder / "access.log").read_text()) == (1, "kept\n")


def test_what_the_file_did_not_take_counts_as_left_out_of_the_access_log(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "access.log")
    log = AccessLog(is_json=False, stream=file)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, int(file._descriptor or 0))
    os.close(full)
    log.add(LineForm("request", ("status",)), (200,))
    log.flush(0.0)
    assert log.left_out == 1
