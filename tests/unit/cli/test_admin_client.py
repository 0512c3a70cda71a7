from pathlib import Path

import pytest
from typer.testing import CliRunner

from mfalb.balancer.supervisor.admin_socket import DEFAULT_SOCKET
from mfalb.cli import command_line
from mfalb.cli.admin_client import client, duration_text, print_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.4, "0s"), (59.6, "1m"), (61, "1m 1s"), (3600, "1h"), (3725.2, "1h 2m 5s"), (90_000, "25h")],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_columns_are_as_wide_as_they_need_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([("NAME", "N"), ("a-long-name", "12"), ("b", "")])
    assert capsys.readouterr().out == "NAME         N\na-long-name  12\nb\n"


def test_the_socket_is_the_one_given_else_the_file_s_else_the_default(tmp_path: Path) -> None:
    file = tmp_path / "balancer.yaml"
    file.write_text("admin: {socket: run/admin.sock}\nlisteners: [{tls: {ticket_key: nobody-can-read-this}}]\n")
    assert client(Path("/given"), file).path == Path("/given")
    assert client(None, file).path == tmp_path / "run/admin.sock"
    file.write_text("listeners: []\n")
    assert client(None, file).path == DEFAULT_SOCKET
    assert client(None, None).path == DEFAULT_SOCKET


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot read it"), ("a: [", "is no YAML file"), ("\udcff", "is no YAML file")]
)
def test_a_file_that_cannot_be_read_is_wrong_usage(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "b.yaml"
    if text is not None:
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
    result = CliRunner(env={"COLUMNS": "400"}).invoke(command_line(), ["status", "-c", str(file)])
    assert result.exit_code == 2
    assert said in result.output


def test_nobody_at_the_socket_is_an_exit_code_of_its_own(tmp_path: Path) -> None:
    result = CliRunner().invoke(command_line(), ["status", "--socket", str(tmp_path / "nobody.sock")])
    assert result.exit_code == 3
    assert "no balancer answers at" in result.stderr
