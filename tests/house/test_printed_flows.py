"""The firewall matrix that stands beside conf/contoso is the one that is printed from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mfalb.cli import command_line

CONF = Path(__file__).parents[2] / "conf" / "contoso"


def test_the_matrix_in_the_readme_is_what_the_command_above_it_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CONF)
    found = re.search(r"```\n\$ mfalb (check --flows .*)\n((?s:.*?))```", Path("README.md").read_text("utf-8"))
    assert found is not None
    words = [
        name
        for word in found[1].split()
        for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])  # as a shell does
    ]
    assert CliRunner().invoke(command_line(), words).stdout == found[2]
