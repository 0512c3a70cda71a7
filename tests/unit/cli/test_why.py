from pathlib import Path

import pytest
from typer.testing import CliRunner

from mfalb.cli import command_line
from mfalb.cli.why import _read_cookie

SECRET = "a-value-that-nobody-may-repeat"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one of --cookie, --state, --request-id and --source"),
        (["--state", "00", "--source", "10.0.0.1"], "give one of --cookie, --state, --request-id and --source"),
        (["--state", SECRET, "--pool", "p", "--client", "c", "--user", "u"], "--state must be hexadecimal"),
        (["--state", "00", "--pool", "p"], "--client is missing; --user is missing"),
        (["--request-id", SECRET, "--user", "u"], "--pool is missing"),
        (["--source", "10.0.0.1", "--user", "u"], "--user has no meaning here"),
        (["--cookie", "/nowhere/to/be/found", "--pool", "p"], "--cookie takes a file"),
    ],
)
def test_wrong_usage_is_explained_without_repeating_what_was_asked(arguments: list[str], said: str) -> None:
    result = CliRunner(env={"COLUMNS": "400"}).invoke(command_line(), ["why", *arguments, "--socket", "/nowhere"])
    assert result.exit_code == 2
    assert said in result.output
    assert SECRET not in result.output


@pytest.mark.parametrize("written", ["value-1_2", "mfalb=value-1_2\n", "  mfalb = value-1_2 \n"])
def test_a_cookie_is_read_as_its_value_or_with_its_name(tmp_path: Path, written: str) -> None:
    file = tmp_path / "cookie"
    file.write_text(written)
    assert _read_cookie(str(file)) == "value-1_2"
