"""What a service manager is told: sd_notify(3), datagrams to the socket that $NOTIFY_SOCKET names."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final, Self

_USEC: Final = 1_000_000
_log = logging.getLogger("mfalb.supervisor.notify")


class Notifier:
    """One-way messages to whoever started us; without a socket to send them to, nothing."""

    def __init__(self, path: str, watchdog_s: float) -> None:
        """`path` is a file's or, after an @, an abstract name, or nothing. `watchdog_s` 0: nobody waits for pings."""
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._path = path
        self._is_told = False
        self.watchdog_s: Final = watchdog_s if path else 0.0

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str], pid: int) -> Self:
        """Takes the variables out: they are for this process, not for those it starts."""
        path = environment.pop("NOTIFY_SOCKET", "")
        watched = environment.pop("WATCHDOG_PID", str(pid))
        usec = environment.pop("WATCHDOG_USEC", "")
        is_ours = watched == str(pid) and usec.isascii() and usec.isdigit()
        return cls(path if path.startswith(("/", "@")) else "", int(usec) / _USEC if is_ours else 0.0)

    def ready(self, status: str) -> None:
        """Everything serves, at first or after a reload."""
        self._send("READY=1", f"STATUS={status}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def reloading(self) -> None:
        """Another configuration is being taken up; `ready` ends it. Type=notify-reload wants to know since when."""
        now_usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_usec}", "STATUS=reloading")

    def stopping(self) -> None:
        """We end by ourselves, and it may take a moment."""
        self._send("STOPPING=1", "STATUS=stopping")

    def replaced_by(self, pid: int) -> None:
        """Another process is the service's main one from now on. We say nothing more."""
        self._send(f"MAINPID={pid}")

    @property
    def environment(self) -> dict[str, str]:
        """What a process that replaces us needs to tell the same service manager."""
        found = {"NOTIFY_SOCKET": self._path} if self._path else {}
        return found | ({"WATCHDOG_USEC": str(round(self.watchdog_s * _USEC))} if self.watchdog_s else {})

    def alive(self) -> None:
        """The watchdog's ping."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            with socket.socket(socket.AF_UNIX, flags) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                _log.warning("the service manager cannot be told", extra={"reason": error.strerror or str(error)})


def notifier() -> Notifier:
    """For this process."""
    return Notifier.from_environment(os.environ, os.getpid())
