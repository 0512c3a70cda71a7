from __future__ import annotations

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner, Result

from mfalb.cli import command_line, hash_password
from mfalb.reference.config.tables import read_table
from mfalb.reference.config.values import User
from mfalb.reference.directory import Directory


def run(typed: bytes | str, *options: str) -> Result:
    return CliRunner().invoke(command_line(), ["reference", "hash-password", *options], input=typed)


def pasted(printed: str) -> User:
    entry = YAML(typ="safe").load(f"name: alice\nphone: ''\n{printed}")
    return read_table(User, entry)


@pytest.mark.parametrize("typed", ["pässwörd", "pässwörd\n", "pässwörd\r\n"])
async def test_what_is_printed_can_be_pasted_and_stands_for_the_line_that_was_read(typed: str) -> None:
    ended = run(typed.encode())
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert "pässwörd" not in ended.stdout
    user = pasted(ended.stdout)
    assert user.nt_hash is None
    assert await Directory([user]).check("alice", "pässwörd") is user


def test_the_nt_hash_is_added_where_it_is_asked_for() -> None:
    assert pasted(run("password\n", "--nt").stdout).nt_hash == "8846f7eaee8fb117ad06bdd830b7586c"


def test_digits_alone_stay_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.urandom", lambda length: bytes([0x12]) * length)
    kept = pasted(run("password\n").stdout).password_hash
    assert kept is not None
    assert kept.salt == "12" * 16


async def test_at_a_terminal_it_is_typed_twice_and_asked_for_beside_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_password, "_is_terminal", lambda: True)
    ended = run("hush\nhushed\nhush\nhush\n")
    assert ended.exit_code == 0
    assert "Password" in ended.stderr
    assert "hush" not in ended.output
    user = pasted(ended.stdout)
    assert await Directory([user]).check("alice", "hush") is user


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        (b"", "one line with the password is wanted on standard input"),
        (b"\n", "one line with the password is wanted on standard input"),
        (b"first\nsecond\n", "one line with the password is wanted on standard input"),
        (b"first\xff", "the password is not UTF-8"),
        (b"first" * 300, "a password has at most 1024 bytes"),
    ],
)
def test_what_is_not_one_password_is_refused_with_a_line(typed: bytes, reason: str) -> None:
    ended = run(typed)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (1, "", f"mfalb reference: {reason}\n")
