"""Which slaves have what the master wrote: a write is answered when those that are in step have it.

Whoever has written may ask another server next, because one balanced address stands before all of them, and should find
it there. This waiting has an end, as in MySQL's semi-synchronous replication: a slave that kept a write waiting for
PATIENCE_S is out of step, and no write waits for it until it has caught up. What waits here is on the master's disk
already: a slave may delay its answer, and can neither refuse it nor undo it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mfalb.errors import MalformedMessage
from mfalb.telemetry.rare_log import RareLog

PATIENCE_S: Final = 2.0  # for a write to be on the servers where somebody may look for it
_CLOSE_S: Final = 0.5  # who has in this time what the master had is as good as level, though the master writes on
# What a slave cannot have applied: the reasons that are counted
BEYOND: Final = "applied_beyond"
BACKWARDS: Final = "applied_backwards"

_log = logging.getLogger("mfalb.reference.mfa_server.replication")


@dataclass(slots=True, eq=False)
class Replica:
    """One slave that follows now: what was sent to it, and what it says it has applied, as numbers of changes.

    Out of step it has caught up when it reaches `goal`, which is where the master was at `goal_at` (the loop's time),
    soon enough. To ask for the master's present position would not do: under steady writes that is always one ahead.
    """

    name: str
    goal: int
    goal_at: float
    sent: int = 0
    applied: int = 0
    is_in_step: bool = False

    def lacks(self, sequence: int) -> bool:
        """Whether a write has to wait for this slave."""
        return self.is_in_step and self.applied < sequence


class Replicas:
    """The slaves that follow this server now, by name. One that is not the master, or is alone, has none."""

    def __init__(self, position: Callable[[], int]) -> None:
        """`position` gives the number of the master's last change."""
        self._position = position
        self._here: dict[str, Replica] = {}  # as many as the group's authority has signed names
        self._newest = 0  # the last change that a write has waited for
        self._news = asyncio.Event()  # of this moment: the next news has an event of its own
        self._rare_log = RareLog(_log)

    def shown(self) -> dict[str, dict[str, Any]]:
        """For an operator, by name."""
        return {
            one.name: {"sent": one.sent, "applied": one.applied, "is_in_step": one.is_in_step}
            for one in self._here.values()
        }

    # ------------------------------------------------------------------------------ what slaves do

    def join(self, name: str) -> Replica:
        """A slave begins to follow. Whoever had its name before is gone, noticed or not: a server lives once."""
        former = self._here.get(name)
        if former is not None:
            self.leave(former)
        replica = self._here[name] = Replica(name, self._position(), asyncio.get_running_loop().time())
        return replica

    def leave(self, replica: Replica) -> None:
        """It follows no more. Writes that wait for it go on at once."""
        if self._here.get(replica.name) is replica:
            del self._here[replica.name]
        self.mute(replica)

    def mute(self, replica: Replica) -> None:
        """It will not say any more what it applies: nobody waits for that."""
        replica.is_in_step = False
        self._tell()

    def has_applied_untrusted(self, replica: Replica, sequence: int) -> None:
        """A slave says how far it is. Raises MalformedMessage for what cannot be, and then nothing has changed."""
        if sequence > replica.sent:
            raise MalformedMessage(BEYOND)
        if sequence < replica.applied:
            raise MalformedMessage(BACKWARDS)
        replica.applied = sequence
        if self._here.get(replica.name) is not replica:
            return
        if not replica.is_in_step:
            self._compare(replica)
        self._tell()

    def _compare(self, replica: Replica) -> None:
        """Let a slave that has caught up be in step."""
        here, now = self._position(), asyncio.get_running_loop().time()
        has_reached_it = replica.applied >= replica.goal
        if replica.applied >= here or (has_reached_it and now - replica.goal_at <= _CLOSE_S):
            replica.is_in_step = True
            _log.info("slave in step", extra={"slave": replica.name, "sequence": str(replica.applied)})
        elif has_reached_it:
            replica.goal, replica.goal_at = here, now

    # ------------------------------------------------------------------------------ what writes do

    async def wait_for(self, sequence: int) -> None:
        """Return when every slave in step has applied this change, or has gone, or has had PATIENCE_S."""
        self._newest = max(self._newest, sequence)
        awaited = [one for one in self._here.values() if one.lacks(sequence)]
        try:
            async with asyncio.timeout(PATIENCE_S):
                while any(one.lacks(sequence) for one in awaited):
                    await self._news.wait()
        except TimeoutError:
            for one in awaited:
                if one.lacks(sequence):
                    self._put_out_of_step(one, sequence)

    def _put_out_of_step(self, replica: Replica, sequence: int) -> None:
        facts = {"slave": replica.name, "applied": str(replica.applied), "wanted": str(sequence)}
        self._rare_log.warning(replica.name, "slave out of step, writes do not wait for it", facts)
        replica.goal, replica.goal_at = self._newest, asyncio.get_running_loop().time()
        self.mute(replica)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
