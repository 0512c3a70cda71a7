"""Sends RADIUS requests with FreeRADIUS's radclient and reads what came back."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from programs.process import ProgramFailed, find_program

Attributes = Sequence[tuple[str, str]]

_ESCAPED: Final = {"\\": "\\" * 4, '"': '\\"'}  # radclient 3.2.1 undoes backslashes twice
_BATCH_LIMIT: Final = 250  # radclient sends from one socket here: 256 identifiers
_HEAD: Final = re.compile(r"^(Sent|Received) (\S+) Id (\d+) from ")
_ATTRIBUTE: Final = re.compile(r"^\t(\S+) = (.*)$")


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and how patient the client is; every try is a retransmit of the same packet.

    `wrapper` is a program that runs the client, as `ip netns exec` does, and its arguments.
    """

    host: str
    port: int
    secret: str
    parallel: int = 1
    timeout_s: float = 3.0
    tries: int = 3
    wrapper: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its code by name (`Access-Accept`), and its attributes, unquoted, decrypted, in their order.

    `attributes` holds the last one of each name, `pairs` all of them.
    """

    code: str
    attributes: dict[str, str] = field(default_factory=dict)
    pairs: list[tuple[str, str]] = field(default_factory=list)


def attribute_lines(attributes: Attributes, *, is_signed: bool = True) -> str:
    """One request in radclient's language, a Message-Authenticator (filled in by radclient) included if it is signed.

    A value's characters are its bytes (Latin-1); one that begins with 0x is hexadecimal.
    """
    lines = [f"{name} = {value if value.startswith('0x') else _quoted(value)}" for name, value in attributes]
    return "\n".join([*lines, *(["Message-Authenticator = 0x00"] if is_signed else [])]) + "\n"


def _quoted(value: str) -> str:
    return '"' + "".join(_ESCAPED.get(one) or _printed(one) for one in value) + '"'


def _printed(character: str) -> str:
    return character if " " <= character <= "~" else f"\\{ord(character):03o}"


def send(
    target: Target, requests: Sequence[Attributes], kind: str = "auth", *, is_signed: bool = True
) -> list[Answer | None]:
    """The answer to each request in the order of `requests`, None where none came.

    `kind` is radclient's: auth, acct, status... `is_signed` adds a Message-Authenticator. Raises ProgramFailed when
    radclient understands less than we do.
    """
    if len(requests) > _BATCH_LIMIT:
        raise ValueError(f"at most {_BATCH_LIMIT} requests at a time")
    finished = subprocess.run(
        [
            *(*target.wrapper, find_program("radclient"), "-x", "-p", str(target.parallel)),
            *("-t", str(target.timeout_s), "-r", str(target.tries)),
            *(f"{target.host}:{target.port}", kind, target.secret),
        ],
        input="\n".join(attribute_lines(request, is_signed=is_signed) for request in requests),
        capture_output=True,
        text=True,
        timeout=60 + len(requests) * target.timeout_s * target.tries,
        check=False,  # 1 stands for a Reject, a Challenge or no answer: results, not failures
    )
    answers = _read(finished.stdout, len(requests))
    if len(answers) != len(requests):
        raise ProgramFailed(f"radclient sent {len(answers)} of {len(requests)} requests\n{finished.stderr}")
    return answers


def _read(output: str, expected: int) -> list[Answer | None]:
    """Pairs what was sent with what was received: by identifier, which is used again once it is answered."""
    answers: list[Answer | None] = []
    waiting: dict[str, int] = {}
    current: Answer | None = None
    for line in output.splitlines():
        if head := _HEAD.match(line):
            verb, code, identifier = head.groups()
            current = None
            if verb == "Received":
                current = Answer(code)
                answers[waiting.pop(identifier)] = current
            elif identifier not in waiting:  # else a retransmit
                waiting[identifier] = len(answers)
                answers.append(None)
        elif current is not None and (found := _ATTRIBUTE.match(line)):
            value = _unquoted(found[2])
            current.attributes[found[1]] = value
            current.pairs.append((found[1], value))
    return answers[:expected]


def _unquoted(value: str) -> str:
    if value.startswith('"') and value.endswith('"'):
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    return value
