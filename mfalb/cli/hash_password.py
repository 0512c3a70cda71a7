"""`mfalb reference hash-password`: a password's hash, for a user of the embedded directory."""

from __future__ import annotations

import sys
from typing import Annotated, Final, NoReturn

import typer

from mfalb.reference.config.passwords import PasswordHash
from mfalb.reference.directory import nt_hash

_LIMIT_BYTES: Final = 1024  # no password is longer: somebody has piped the wrong file


def hash_password(
    *,
    nt: Annotated[
        bool, typer.Option("--nt", help="The NT hash as well, for MS-CHAPv2. It is as good as the password there.")
    ] = False,
) -> None:
    """Print what stands for a password in a user's entry of an MFA Server's settings; the password is asked for."""
    password = _password()
    kept = PasswordHash.of(password)
    # In quotes: digits alone would be a number to YAML
    print(f'password_hash: {{salt: "{kept.salt}", digest: "{kept.digest}", cost: {kept.cost}}}')
    if nt:
        print(f'nt_hash: "{nt_hash(password).hex()}"')


def _password() -> str:
    """One line of standard input; typed twice and unseen where that is a terminal."""
    if _is_terminal():
        # The prompt is no output: that may go to a file
        typed: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        return typed
    line = sys.stdin.buffer.read(_LIMIT_BYTES + 1)
    if len(line) > _LIMIT_BYTES:
        _fail(f"a password has at most {_LIMIT_BYTES} bytes")
    try:
        password = line.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        _fail("the password is not UTF-8")
    if not password or "\n" in password:
        _fail("one line with the password is wanted on standard input")
    return password


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _fail(text: str) -> NoReturn:
    typer.echo(f"mfalb reference: {text}", err=True)
    raise typer.Exit(1)
