"""The TLS of a process: a context for each listener and pool, and the watch over the files that they are made from.

Files are compared by their content, which is found through any links: Kubernetes changes a mounted secret by turning a
link to a folder. What has changed is read when two looks in a row saw the same, so that a pair of files that is being
written is not taken apart. What cannot be used is told of once; what is in use stays.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time

from mfalb.net.lifecycle import Tasks
from mfalb.net.live_tls import Digests, LiveClient, LiveServer, LiveTls, Swap
from mfalb.net.openssl import native_tls
from mfalb.net.tls import ClientFiles, ServerFiles

_log = logging.getLogger("mfalb.tls")


class Changes:
    """Tells which of the contents that are seen to try: not in use, not tried in vain, and seen twice in a row."""

    def __init__(self, in_use: Digests) -> None:
        self._seen = self._tried = in_use

    def is_due(self, seen: Digests) -> bool:
        is_settled, self._seen = seen == self._seen, seen
        return is_settled and seen != self._tried

    def tried(self, seen: Digests) -> None:
        self._tried = seen


@dataclass(slots=True)
class Watched:
    """One live context under watch. `role` is listener or pool; `reloads` counts by `ok` and `failed`."""

    role: str
    live: LiveTls
    changes: Changes
    reloads: Counter[str] = field(default_factory=lambda: Counter(ok=0, failed=0))
    is_failing: bool = False

    def look(self, now: float) -> Swap | str | None:
        """What puts changed files into use, or why they cannot be used; None when there is nothing to do."""
        seen = self.live.digests()
        if not self.changes.is_due(seen):
            return None
        found: Swap | str
        try:
            found = self.live.prepare(now)
        except (OSError, ssl.SSLError, ValueError) as error:
            found = trouble(error)
        if self.live.digests() != seen:
            return None  # changed while it was read: the next look will see
        self.changes.tried(seen)
        return found


class TlsFiles:
    """Makes the contexts, and keeps them as their files are.

    `secret` (32 random bytes or more) makes the ticket keys: processes that have the same resume each other's sessions.
    """

    def __init__(self, secret: bytes, interval_s: float, clock: Callable[[], float] = time) -> None:
        self._secret = secret
        self._interval_s = interval_s
        self._clock = clock
        self._watched: dict[tuple[str, str], Watched] = {}
        self._tasks = Tasks("TLS files")

    @property
    def watched(self) -> list[Watched]:
        return list(self._watched.values())

    def server(self, listener: str, files: ServerFiles) -> ssl.SSLContext:
        """The context of a listener. Raises OSError, ssl.SSLError and ValueError."""
        return self._context("listener", listener, lambda now: LiveServer(listener, files, self._secret, now))

    def client(self, pool: str, files: ClientFiles) -> ssl.SSLContext:
        """The context towards a pool's backends; made once a pool. Raises OSError, ssl.SSLError and ValueError."""
        return self._context("pool", pool, lambda now: LiveClient(pool, files, now))

    def _context(self, role: str, name: str, make: Callable[[float], LiveTls]) -> ssl.SSLContext:
        watched = self._watched.get((role, name))
        if watched is None:
            now = self._clock()
            live = make(now)
            watched = self._watched[role, name] = Watched(role, live, Changes(live.at_start))
        return watched.live.context

    def prepare_server(self, listener: str, files: ServerFiles) -> Swap:
        """What gives a listener other files: contexts that were handed out stay. Raises as `server` does."""
        return self._prepare("listener", listener, lambda now: LiveServer(listener, files, self._secret, now))

    def prepare_client(self, pool: str, files: ClientFiles) -> Swap:
        """The same for a pool."""
        return self._prepare("pool", pool, lambda now: LiveClient(pool, files, now))

    def _prepare(self, role: str, name: str, make: Callable[[float], LiveTls]) -> Swap:
        live = make(self._clock())

        def swap() -> None:
            former = self._watched.get((role, name))
            watched = Watched(role, live, Changes(live.at_start))
            if former is not None:
                live.take_over(former.live)
                watched.reloads = former.reloads
            self._watched[role, name] = watched

        return swap

    def forget(self, role: str, name: str) -> None:
        """A listener or pool has left: its files are of no interest any more."""
        self._watched.pop((role, name), None)

    def start(self) -> None:
        """Begin to watch."""
        native = native_tls()
        if isinstance(native, str) and any(one.role == "listener" for one in self.watched):
            _log.warning("TLS sessions are resumed by the process only that began them", extra={"reason": native})
        self._tasks.start("watch", self._watch())

    async def close(self) -> None:
        await self._tasks.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            # Reading and parsing takes milliseconds, with a long revocation list more: not in the event loop
            for watched, found in await asyncio.to_thread(self._look_at_all):
                self.apply(watched, found)
            now = self._clock()
            for watched in self.watched:
                watched.live.renew(now)

    def _look_at_all(self) -> list[tuple[Watched, Swap | str]]:
        now = self._clock()
        looks = [(watched, watched.look(now)) for watched in self.watched]
        return [(watched, found) for watched, found in looks if found is not None]

    @staticmethod
    def apply(watched: Watched, found: Swap | str) -> None:
        """Put what a look has found into use, or tell of it."""
        facts = {watched.role: watched.live.name}
        watched.is_failing = isinstance(found, str)
        if isinstance(found, str):
            watched.reloads["failed"] += 1
            _log.warning("changed TLS files cannot be used, the former ones stay", extra=facts | {"reason": found})
        else:
            found()
            watched.reloads["ok"] += 1
            _log.info("changed TLS files are in use", extra=facts)


def trouble(error: OSError | ValueError) -> str:
    """Why files cannot be used, in words without any content of theirs."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "refused by the TLS library").lower().replace("_", " ")
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or "unreadable"
    return str(error).partition("\n")[0]
