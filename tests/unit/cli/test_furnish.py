from __future__ import annotations

import shutil
from pathlib import Path

from typer.testing import CliRunner

from mfalb.cli import command_line
from mfalb.cli.deployment import CONTOSO


def test_a_copy_of_the_deployment_gets_its_files_once(tmp_path: Path) -> None:
    folder = tmp_path / "contoso"
    shutil.copytree(CONTOSO, folder)
    made = CliRunner().invoke(command_line(), ["reference", "furnish", str(folder)])
    assert (made.exit_code, "Copy each folder to its host." in made.output) == (0, True)
    key = folder / "mfa1/tls/mfa1.key"
    before = key.read_bytes()
    again = CliRunner().invoke(command_line(), ["reference", "furnish", str(folder)])
    assert (again.exit_code, "is there already: nothing was written" in again.output) == (1, True)
    assert key.read_bytes() == before


def test_what_is_no_deployment_is_refused_with_a_line(tmp_path: Path) -> None:
    for problem in ("hosts", "has no HOST/SERVICE.yaml"):
        refused = CliRunner().invoke(command_line(), ["reference", "furnish", str(tmp_path)])
        assert (refused.exit_code, problem in refused.output) == (1, True), refused.output
        (tmp_path / "hosts").touch()
