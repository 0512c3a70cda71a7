"""A real program under test: started in its own run directory, waited for, always stopped.

    with Program("otp1", ["freeradius", "-f"], run_dir, ready=Logged("Ready to process requests")) as program:
        ...

`ready` is asked until it says yes; the program's death or the deadline ends the wait with the tail of its log.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

_POLL_S: Final = 0.02
_TAIL_LINES: Final = 40
# Daemons live in sbin, which is not on an ordinary user's PATH.
_SEARCH_PATH: Final = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


class ProgramFailed(Exception):  # noqa: N818 - it says what happened
    """A program did not come up, ended early or would not end; the message carries the tail of its log."""


def find_program(name: str) -> str:
    """The path of an installed program. Raises ProgramFailed with what to do when it is not there."""
    found = shutil.which(name, path=_SEARCH_PATH)
    if found is None:
        raise ProgramFailed(f"{name} is not installed: run `sh .ci/need test` (or `bench`)")
    return found


def wait_until(is_true: Callable[[], bool], what: str, *, deadline_s: float = 10.0) -> None:
    """Returns when `is_true` says so; raises TimeoutError naming `what` after `deadline_s`."""
    end_s = time.monotonic() + deadline_s
    while not is_true():
        if time.monotonic() > end_s:
            raise TimeoutError(f"after {deadline_s} s still waiting for: {what}")
        time.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class Launch:
    """How a program is started and stopped, beyond its arguments."""

    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    wrapper: tuple[str, ...] = ()  # a program that runs the command it is given, as setpriv(1) does, and its arguments
    pinned_to_cores: frozenset[int] = frozenset()
    ready_deadline_s: float = 15.0
    grace_s: float = 10.0


def _pinning(launch: Launch) -> list[str]:
    """The words before a command that keep it, and all it starts, on its cores from the first instruction on."""
    if not launch.pinned_to_cores:
        return []
    return [find_program("taskset"), "--cpu-list", ",".join(str(core) for core in sorted(launch.pinned_to_cores))]


class Program:
    """One running program; a context manager. Its output is in `<name>.out` and `<name>.err` of the run directory."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        run_dir: Path,
        *,
        ready: Callable[[Program], bool],
        launch: Launch | None = None,
    ) -> None:
        self.name: Final = name
        self._launch = launch or Launch()
        self.argv: Final = [*_pinning(self._launch), *self._launch.wrapper, find_program(argv[0]), *argv[1:]]
        self.run_dir: Final = run_dir
        self.out_path: Final = run_dir / f"{name}.out"
        self.err_path: Final = run_dir / f"{name}.err"
        self._is_ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    # ------------------------------------------------------------------------------ start, wait, stop

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the program and waits until it is ready; stops it again when it does not get there."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with self.out_path.open("ab") as out, self.err_path.open("ab") as err:
            self._process = subprocess.Popen(
                self.argv,
                cwd=self.run_dir,
                env={**os.environ, **self._launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                pass_fds=self._launch.pass_fds,
                start_new_session=True,  # so that its children can be ended with it
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self) -> None:
        end_s = time.monotonic() + self._launch.ready_deadline_s
        while not self._is_ready(self):
            if not self.is_running():
                raise ProgramFailed(f"{self.name} ended with {self.exit_code} before it was ready\n{self.tail()}")
            if time.monotonic() > end_s:
                raise ProgramFailed(f"{self.name} not ready in {self._launch.ready_deadline_s} s\n{self.tail()}")
            time.sleep(_POLL_S)

    def stop(self) -> int:
        """Ends the program (TERM, then KILL after the grace) and all it started; returns its exit code.

        A negative code is the signal that ended it. Calling it again returns the same code.
        """
        process = self._process
        if process is None:
            raise ProgramFailed(f"{self.name} was never started")
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(self._launch.grace_s)
        with suppress(ProcessLookupError):  # raised when nothing is left in the program's own session
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def kill(self) -> None:
        """Ends the program at once, as a crash would."""
        os.kill(self.pid, signal.SIGKILL)
        self._running().wait()

    def forget_log(self) -> None:
        """Empties the log of a program that has ended, so that `Logged` waits for its next life's words."""
        for path in (self.out_path, self.err_path):
            path.write_bytes(b"")

    def signal(self, number: signal.Signals) -> None:
        """Sends the program one signal."""
        os.kill(self.pid, number)

    # --------------------------------------------------------------------------------------- questions

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ProgramFailed(f"{self.name} was never started")
        return self._process

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def exit_code(self) -> int | None:
        return self._running().poll()

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """All that the program wrote so far: standard output, then standard error."""
        return "".join(
            path.read_text("utf-8", errors="replace") for path in (self.out_path, self.err_path) if path.exists()
        )

    def tail(self) -> str:
        """The last lines of the log, for messages about failures."""
        return "\n".join(self.log().splitlines()[-_TAIL_LINES:])


@dataclass(frozen=True, slots=True)
class Logged:
    """Ready when the program has written `text`."""

    text: str

    def __call__(self, program: Program) -> bool:
        return self.text in program.log()
