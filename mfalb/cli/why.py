"""`mfalb why`: which backend would get this, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import BaseModel, ValidationError

from mfalb.balancer.admin import api_models as api
from mfalb.cli.admin_client import ConfigOption, JsonOption, SocketOption, client, print_json, told_by_exit_code

_COOKIE_LIMIT: Final = 8192


def why(  # noqa: PLR0913 - options of a command
    *,
    cookie: Annotated[
        str | None,
        typer.Option(
            "--cookie",
            metavar="FILE",
            help="A portal cookie's value, in a file; - reads standard input. Not in the shell.",
        ),
    ] = None,
    state: Annotated[str | None, typer.Option("--state", metavar="HEX", help="A RADIUS State.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", metavar="ID", help="The id of a transaction.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", metavar="IP[:PORT]", help="Where something new comes from.")
    ] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="The pool that would take it.")] = None,
    client_name: Annotated[str | None, typer.Option("--client", help="With --state: the NAS's name here.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="With --state or --request-id.")] = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    is_json: JsonOption = False,
) -> None:
    """Say which backend would get this, and why. Changes nothing; give one of cookie, state, request-id, source."""
    kinds = {"cookie": cookie, "state": state, "request_id": request_id, "source": source}
    given = {kind: text for kind, text in kinds.items() if text is not None}
    if len(given) != 1:
        raise typer.BadParameter("give one of --cookie, --state, --request-id and --source")
    (kind, value), *_ = given.items()
    key = "value" if kind == "cookie" else kind
    text = _read_cookie(value) if kind == "cookie" else value
    question = _question({"kind": kind, key: text, "pool": pool, "client": client_name, "user": user})
    with told_by_exit_code("why"):
        verdicts = client(socket, config).post(api.Verdicts, "/v1/why", question)
    if is_json:
        print_json(verdicts)
        return
    for verdict in verdicts.verdicts:
        print(f"{verdict.pool}: {verdict.backend or 'no backend'}. {verdict.text}")


def _question(values: dict[str, str | None]) -> BaseModel:
    """The question that these options ask. Errors never repeat what was given."""
    models: dict[str, type[BaseModel]] = {
        "cookie": api.CookieQuestion,
        "state": api.StateQuestion,
        "request_id": api.RequestIdQuestion,
        "source": api.SourceQuestion,
    }
    model = models[str(values["kind"])]
    try:
        return model.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter("; ".join(map(_words, _details(error)))) from None


def _details(error: ValidationError) -> list[tuple[str, str]]:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [(str(one["loc"][0]).replace("_", "-"), one["type"]) for one in found]


def _words(detail: tuple[str, str]) -> str:
    name, kind = detail
    return {
        "missing": f"--{name} is missing",
        "extra_forbidden": f"--{name} has no meaning here",
        "string_pattern_mismatch": f"--{name} must be hexadecimal, two digits a byte",
    }.get(kind, f"--{name} is too long or empty")


def _read_cookie(file: str) -> str:
    """The value alone; `name=value`, as a browser shows it, will do."""
    try:
        if file == "-":
            text = sys.stdin.read(_COOKIE_LIMIT)
        else:
            with Path(file).open(encoding="utf-8") as opened:
                text = opened.read(_COOKIE_LIMIT)
    except (OSError, UnicodeDecodeError):
        raise typer.BadParameter("--cookie takes a file that holds the value, or - for standard input") from None
    return text.strip().rpartition("=")[2].strip()
