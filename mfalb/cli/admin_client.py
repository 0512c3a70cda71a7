"""The verbs' way to a running balancer: its admin API, on a Unix socket.

How a verb exits: 0 done; 1 refused, or it failed; 2 wrong usage; 3 no balancer can be reached.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

import typer
from pydantic import BaseModel, ValidationError

from mfalb.balancer.config.document import BrokenYaml, read
from mfalb.balancer.supervisor.admin_socket import DEFAULT_SOCKET
from mfalb.errors import MfalbError

REFUSED: Final = 1
UNREACHABLE: Final = 3
_TIMEOUT_S: Final = 30.0  # a reload waits for the first probes of new backends

SocketOption = Annotated[Path | None, typer.Option("--socket", help="The balancer's admin socket.")]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="The balancer's configuration file, which names its socket.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
BackendArgument = Annotated[
    str, typer.Argument(metavar="[POOL/]BACKEND", help="A backend of a pool; without POOL it is meant in every pool.")
]
_Answer = TypeVar("_Answer", bound=BaseModel)


class Unreachable(MfalbError):  # noqa: N818 - says what, in the operator's words
    """Nobody answers at the socket, or not in the way of this version."""


class NotDone(MfalbError):  # noqa: N818 - as above
    """The balancer refused; its text says why."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class AdminClient:
    """Asks the balancer whose admin socket is at `path`. Methods raise Unreachable and NotDone."""

    def __init__(self, path: Path, timeout_s: float = _TIMEOUT_S) -> None:
        self.path = path
        self._timeout_s = timeout_s

    def get(self, answer: type[_Answer], path: str, **parameters: str | None) -> _Answer:
        """What is at `path`; parameters that are None are left out."""
        query = urlencode({name: value for name, value in parameters.items() if value is not None})
        return self._ask(answer, "GET", f"{path}?{query}" if query else path, None)

    def post(self, answer: type[_Answer], path: str, body: BaseModel) -> _Answer:
        """Have something done."""
        return self._ask(answer, "POST", path, body.model_dump_json())

    def _ask(self, answer: type[_Answer], method: str, target: str, body: str | None) -> _Answer:
        connection = _Connection(self.path, self._timeout_s)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
            response = connection.getresponse()
            status, text = response.status, response.read()
        except OSError as error:
            raise Unreachable(f"no balancer answers at {self.path}: {error.strerror or error}") from None
        except http.client.HTTPException:
            raise Unreachable(f"what answers at {self.path} is no balancer") from None
        finally:
            connection.close()
        if status != http.client.OK:
            raise NotDone(_error_in(text, status))
        try:
            return answer.model_validate_json(text)
        except ValidationError:
            raise Unreachable(f"the balancer at {self.path} speaks another version's language") from None


def _error_in(text: bytes, status: int) -> str:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    return str(found["error"]) if isinstance(found, Mapping) and "error" in found else f"the answer is {status}"


def client(socket_path: Path | None, config: Path | None, *, timeout_s: float = _TIMEOUT_S) -> AdminClient:
    """By --socket, else by what --config says, else at the place where it is by default."""
    if socket_path is not None:
        return AdminClient(socket_path, timeout_s)
    return AdminClient(DEFAULT_SOCKET if config is None else _socket_in(config), timeout_s)


def _socket_in(config: Path) -> Path:
    """Only the one value is read: operators need not be able to read the secrets that the file names."""
    try:
        data: Any = read(config.read_text("utf-8-sig")).data
    except OSError as error:
        raise typer.BadParameter(f"{config}: cannot read it: {error.strerror or error}") from None
    except (UnicodeDecodeError, BrokenYaml):
        raise typer.BadParameter(f"{config} is no YAML file; `mfalb check` says more") from None
    admin = data.get("admin") if isinstance(data, Mapping) else None
    written = admin.get("socket") if isinstance(admin, Mapping) else None
    return DEFAULT_SOCKET if written is None else config.parent / str(written)


@contextmanager
def told_by_exit_code(verb: str) -> Iterator[None]:
    """What goes wrong inside is one line on standard error, and the exit code."""
    try:
        yield
    except (Unreachable, NotDone) as error:
        typer.echo(f"mfalb {verb}: {error}", err=True)
        raise typer.Exit(UNREACHABLE if isinstance(error, Unreachable) else REFUSED) from None


def print_json(answer: BaseModel) -> None:
    """One line, as the API says it."""
    print(answer.model_dump_json())


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Columns as wide as they need to be; the first row is their titles."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def duration_text(seconds: float) -> str:
    """`4m 20s`; below a minute `20s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return " ".join(f"{count}{unit}" for count, unit in parts if count) or "0s"
