import subprocess
import sys

import pytest
from typer.testing import CliRunner

from mfalb.cli import command_line

ALL = ["serve", "check", "schema", "keygen", "demo", "status", "drain", "ready", "maint", "weight", "reload"]
ALL += ["upgrade", "pins", "why", "reference"]


def names(*typed: str) -> list[str]:
    """The commands that there are when this is typed."""
    app = command_line(typed)
    groups = [one.name for one in app.registered_groups]
    return [name for name in (*(one.name for one in app.registered_commands), *groups) if name is not None]


@pytest.mark.parametrize("typed", [(), ("--help",), ("stauts",), ("--version",)])
def test_all_commands_are_there_unless_one_is_typed(typed: tuple[str, ...]) -> None:
    assert names(*typed) == ALL


@pytest.mark.parametrize("name", ALL)
def test_only_the_command_that_is_typed_is_there(name: str) -> None:
    assert names(name, "--json", "serve") == [name]


@pytest.mark.parametrize("words", [[name] for name in ALL] + [["reference", "furnish"], ["reference", "hash-password"]])
def test_every_command_has_help(words: list[str]) -> None:
    shown = CliRunner().invoke(command_line(words), [*words, "--help"])
    assert shown.exit_code == 0
    assert f"Usage: mfalb {' '.join(words)} " in shown.output


def test_a_word_that_is_no_command_is_told_with_the_one_that_was_probably_meant() -> None:
    shown = CliRunner().invoke(command_line(["stauts"]), ["stauts"])
    assert (shown.exit_code, "Did you mean 'status'?" in shown.output) == (2, True)


@pytest.mark.parametrize(
    ("typed", "unwanted"),
    [
        ("status", ("aiohttp", "mfalb.reference", "mfalb.balancer.worker")),
        ("serve", ("mfalb.reference", "jinja2", "apsw", "grpc")),
        ("reference", ("mfalb.balancer",)),
    ],
)
def test_a_command_loads_what_it_needs(typed: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys; from mfalb.cli import command_line; command_line(['{typed}', 'cloud']); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = ran.stdout.split()
    assert "mfalb.cli" in loaded
    assert [name for name in unwanted if name in loaded] == []
