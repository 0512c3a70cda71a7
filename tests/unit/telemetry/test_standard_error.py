from __future__ import annotations

import os
from select import PIPE_BUF

import pytest

from mfalb.telemetry import log_file
from mfalb.telemetry.log_file import StandardError


def test_whole_lines_are_written_in_pieces_that_a_pipe_takes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []

    def write(_descriptor: int, piece: bytes) -> int:
        pieces.append(piece)
        return len(piece)

    monkeypatch.setattr(os, "write", write)
    lines = "".join(f"line {number} {'x' * (number % 300)}\n" for number in range(500))
    StandardError().write(lines)
    assert b"".join(pieces).decode() == lines
    assert len(pieces) > 1
    assert all(len(piece) <= PIPE_BUF and piece.endswith(b"\n") for piece in pieces)


def test_a_line_longer_than_that_is_written_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    monkeypatch.setattr(log_file, "_STANDARD_ERROR", write_end)
    line = "y" * (2 * PIPE_BUF + 7) + "\n"
    StandardError().write(line)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as file:
        assert file.read().decode() == line
