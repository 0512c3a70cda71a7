"""`mfalb drain`: nothing new for a backend, and word of when what began there has ended."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import typer
from pydantic import TypeAdapter, ValidationError

from mfalb.balancer.admin import api_models as api
from mfalb.balancer.config.values import Seconds
from mfalb.cli.admin_client import (
    AdminClient,
    BackendArgument,
    ConfigOption,
    JsonOption,
    NotDone,
    SocketOption,
    client,
    duration_text,
    print_json,
    told_by_exit_code,
)

_POLL_S: Final = 1.0
_SAY_AGAIN_S: Final = 10.0  # a progress line although nothing has changed but the time
_SECONDS: Final[TypeAdapter[float]] = TypeAdapter(Seconds)


def _read_duration(text: str) -> float:
    try:
        return _SECONDS.validate_python(text)
    except ValidationError:
        raise typer.BadParameter(f"'{text}' is no duration; write 90s, 10m or 2h") from None


def _read_then(text: str) -> str:
    if text != "maint":
        raise typer.BadParameter(f"'{text}' is not accepted; only maint is")
    return text


def drain(  # noqa: PLR0913 - options of a command
    backend: BackendArgument,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Return when what began there has ended.")] = False,
    deadline: Annotated[
        float | None,
        typer.Option("--deadline", metavar="DURATION", parser=_read_duration, help="The drain ends by then: 90s, 10m."),
    ] = None,
    then: Annotated[
        str | None,
        typer.Option("--then", metavar="maint", parser=_read_then, help="Its state when the drain has ended."),
    ] = None,
    socket: SocketOption = None,
    config: ConfigOption = None,
    is_json: JsonOption = False,
) -> None:
    """Give a backend nothing new, while pinned work is still served. Says what is left there."""
    with told_by_exit_code("drain"):
        asked = client(socket, config)
        if wait and deadline is None:
            _check_that_it_can_end(asked, backend)
        next_state: Literal["maint"] | None = None if then is None else "maint"
        change = api.AdminStateChange(backend=backend, state="drain", deadline_s=deadline, then=next_state)
        asked.post(api.Changed, "/v1/admin-state", change)
        watch = _Watch(asked, backend, is_json=is_json)
        found = watch.until_done() if wait else watch.look()
    if is_json:
        print_json(found)
    elif not wait:
        _print_lines(found)


def _check_that_it_can_end(asked: AdminClient, backend: str) -> None:
    """Before anything is changed. Raises NotDone."""
    for one in asked.get(api.Leavings, "/v1/leaving", backend=backend).backends:
        if one.needs_deadline:
            raise NotDone(
                f"pool '{one.pool}' pins by cookie: nobody can know when its sessions end. Nothing was changed; "
                "give --deadline, or leave out --wait"
            )


@dataclass(frozen=True, slots=True)
class _Watch:
    """Asks again and again what is left at `backend`."""

    asked: AdminClient
    backend: str
    is_json: bool

    def look(self) -> api.Leavings:
        return self.asked.get(api.Leavings, "/v1/leaving", backend=self.backend)

    def until_done(self) -> api.Leavings:
        """What is left in the end, with lines on the way. Raises NotDone when somebody makes it ready meanwhile."""
        said: list[tuple[object, ...]] = []
        said_at = 0.0
        while True:
            found = self.look()
            facts = [(one.pins, one.active, one.admin_state, one.is_done) for one in found.backends]
            if facts != said or time.monotonic() - said_at >= _SAY_AGAIN_S:
                _print_lines(found, is_aside=self.is_json)
                said, said_at = list(facts), time.monotonic()
            if any(one.admin_state == "ready" for one in found.backends):
                raise NotDone("it was made ready again while this waited")
            if all(one.is_done and (one.then is None or one.admin_state == "maint") for one in found.backends):
                return found
            time.sleep(_POLL_S)


def _print_lines(found: api.Leavings, *, is_aside: bool = False) -> None:
    for one in found.backends:
        print(_line(one), file=sys.stderr if is_aside else sys.stdout, flush=True)


def _line(one: api.Leaving) -> str:
    parts = [] if one.pins is None or one.longest_s is None else [_pins_text(one.pins, one.longest_s)]
    parts.append(f"{one.active} under way")
    if one.deadline_in_s is not None and not one.is_done:
        parts.append(f"ends in {duration_text(one.deadline_in_s)} at the latest")
    if one.is_done:
        is_empty = not one.pins and not one.active and not one.needs_deadline
        parts.append("nothing is left" if is_empty else "ended")
    text = f" {one.text}" if one.text else ""
    return f"{one.pool}/{one.backend} {one.admin_state}: {', '.join(parts)}.{text}"


def _pins_text(pins: int, longest_s: float) -> str:
    if not pins:
        return "no pins"
    return f"{pins} {'pin' if pins == 1 else 'pins'} (the last for {duration_text(longest_s)})"
