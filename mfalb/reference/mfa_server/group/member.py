"""One server's life in its group: activated, slave or master, promoted by an operator, stepping down by itself.

The cloud is asked again and again, because that is how a server learns of another one's promotion. What it says is
believed only when its epoch is later than what this server knows (`standing.py`).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Final

from mfalb.errors import MfalbError
from mfalb.net.lifecycle import Tasks
from mfalb.reference.config.values import User
from mfalb.reference.mfa_server.data.pfdata import DataError
from mfalb.reference.mfa_server.data.writes import Texts, WriteRefused
from mfalb.reference.mfa_server.group.activation import CloudAway, CloudRefused, CloudRegistry, MembershipFile
from mfalb.reference.mfa_server.group.follower import Follower, MasterAway
from mfalb.reference.mfa_server.group.ledger import Ledger, NotMaster
from mfalb.reference.mfa_server.group.replication_server import DIVERGED, NOT_MASTER, RETIRE
from mfalb.reference.mfa_server.group.standing import Membership, Role, Standing, is_believed
from mfalb.telemetry.rare_log import RareLog

_SHORTEST_POLL_S: Final = 0.2
_CATCH_UP_S: Final = 10.0
_DIVERGENT: Final = (
    "This server has changes up to number {sequence} of epoch {epoch} that the master {master} never saw. It takes no "
    "writes, and no changes from that master. Run `mfalb reference rejoin --discard-local -c FILE`: it becomes a copy "
    "of the master, and its own file is kept beside it, so that what is missing there can be entered again."
)

_log = logging.getLogger("mfalb.reference.mfa_server.group")


class NotPossible(MfalbError):  # noqa: N818 - says what happened
    """An operator's request that cannot be met now; the text says why, and nothing has changed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a member needs to know beforehand."""

    server: str
    rpc_address: str
    users: tuple[User, ...]  # what the first master of a group begins with
    poll_s: float


class Member:
    """Keeps a server's standing true, and lets writes go where they are made."""

    def __init__(
        self, plan: Plan, ledger: Ledger, standing: Standing, registry: CloudRegistry, follower: Follower
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._standing = standing
        self._registry = registry
        self._follower = follower
        self._file = MembershipFile(ledger.pfdata.path.with_suffix(".membership.json"))
        self._kept: Membership | None = None  # what the file says
        self._tasks = Tasks("group member")
        self._following: asyncio.Task[None] | None = None
        self._followed = ""
        self._look = asyncio.Event()
        self._changing = asyncio.Lock()  # one change of roles at a time
        self._rare_log = RareLog(_log)
        follower.told = self._hear

    async def start(self) -> None:
        """Take up what is known, and begin to ask the cloud. Raises OSError and ValueError for a damaged file."""
        path = self._ledger.pfdata.path
        for leftover in path.parent.glob(f"{path.name}.snapshot-*"):
            leftover.unlink(missing_ok=True)  # of a process that was killed while it made one
        self._standing.membership = self._kept = self._file.read()
        if self._standing.role is Role.SLAVE:
            await self._follow()
        self._tasks.start("activation", self._ask_again_and_again())

    async def close(self) -> None:
        await self._tasks.close()

    def look_soon(self) -> None:
        """Something has changed in the group: ask the cloud now rather than later."""
        self._look.set()

    # ------------------------------------------------------------------------------ questions

    @property
    def is_master_reached(self) -> bool:
        """Whether writes can be made now, here or by way of the master."""
        if self._standing.role is Role.MASTER:
            return self._standing.is_writable
        return not self._standing.divergence and self._follower.is_live(monotonic())

    async def write(self, name: str, texts: Texts) -> dict[str, str]:
        """Make a write, wherever the master is. Raises WriteRefused and MasterAway."""
        if self._standing.divergence:
            raise MasterAway("divergent")
        try:
            if self._standing.role is Role.MASTER:
                return (await self._ledger.write(name, texts))[0]
            return await self._follower.write(name, texts)
        except (NotMaster, DataError) as error:
            self.look_soon()
            raise MasterAway(type(error).__name__) from None

    # ------------------------------------------------------------------------------ an operator's words

    async def promote(self) -> int:
        """Become the master; returns the new epoch. Raises NotPossible."""
        async with self._changing:
            standing, known = self._standing, self._standing.membership
            if known is None or not standing.is_confirmed:
                raise NotPossible("The cloud MFA Service has not confirmed this server yet.")
            if known.role is Role.MASTER:
                raise NotPossible("This server is the master already.")
            if standing.divergence:
                raise NotPossible(standing.divergence)
            if not self._ledger.position.sequence and not self._ledger.pfdata.epoch():
                raise NotPossible("This server has no data yet.")
            await self._let_the_master_retire()
            epoch = max(known.epoch, self._ledger.pfdata.epoch()) + 1
            try:
                await self._registry.promote(epoch)
            except CloudRefused as refused:
                raise NotPossible(f"The cloud MFA Service has refused: {refused}") from None
            except CloudAway as away:
                self.look_soon()  # it may have recorded the promotion
                raise NotPossible(f"The cloud MFA Service cannot be reached: {away}") from None
            await self._become(Membership(Role.MASTER, epoch, self._plan.rpc_address, known.license_key))
            return epoch

    async def _let_the_master_retire(self) -> None:
        """A master that lives stops writing first, and what it has written comes over: then nothing is lost."""
        try:
            given = await self._follower.write(RETIRE, {})
        except (MasterAway, WriteRefused):
            return  # a master that is gone is what promotion is for
        last = int(given.get("sequence", "0"))
        if not await self._ledger.has_reached(last, _CATCH_UP_S):
            behind = last - self._ledger.position.sequence
            raise NotPossible(f"The master lives, and this server is {behind} changes behind it. Try again.")

    async def discard_local(self) -> str:
        """Of a divergent server: keep a copy of its file, and take the master's data. Raises NotPossible."""
        if not self._standing.divergence:
            raise NotPossible("This server is not divergent; it follows its master by itself.")
        position, path = self._ledger.position, self._ledger.pfdata.path
        name = f"{path.name}.divergent-{position.epoch}-{position.sequence}-{int(self._ledger.clock())}"
        copy = path.with_name(name)
        try:
            await asyncio.to_thread(self._ledger.pfdata.save_snapshot, copy)
        except (DataError, OSError) as error:
            raise NotPossible(f"No copy could be made, so nothing was discarded: {error}") from None
        self._follower.wants_snapshot = True
        _log.warning("local changes are discarded", extra={"copy": str(copy)})
        return str(copy)

    # ------------------------------------------------------------------------------ the cloud's word

    async def _ask_again_and_again(self) -> None:
        while True:
            self._look.clear()
            try:
                async with self._changing:
                    await self._ask()
            except (DataError, OSError) as error:  # a full disk, say: it is tried again
                self._rare_log.error("disk", "membership cannot be kept", error)
            await asyncio.sleep(_SHORTEST_POLL_S)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), self._plan.poll_s)

    async def _ask(self) -> None:
        try:
            told = await self._registry.activate(self._plan.rpc_address)
        except CloudAway as away:
            self._rare_log.warning("away", "cloud MFA Service away", {"reason": str(away)})
            return
        except CloudRefused as refused:
            self._standing.refusal = str(refused)
            self._rare_log.warning(str(refused), "activation refused", {"reason": str(refused)})
            return
        self._standing.refusal = ""
        known = self._standing.membership
        if not is_believed(told, known, self._ledger.pfdata.epoch()):
            facts = {"told": f"{told.role.value} of epoch {told.epoch}", "known": f"epoch {self._standing.epoch}"}
            self._rare_log.warning("unbelievable", "cloud has forgotten its group", facts)
            self._standing.is_confirmed = known is not None  # what is known is later than what the cloud says
            return
        await self._become(told)

    async def _become(self, told: Membership) -> None:
        standing, known = self._standing, self._standing.membership
        if known != told:
            if told.role is Role.MASTER:
                await self._reign(told)
            elif known is not None and known.role is Role.MASTER:
                _log.warning("stepping down", extra={"epoch": str(told.epoch), "master": told.master_rpc})
            standing.membership = told
            standing.is_retiring = False
            _log.info("membership", extra={"role": told.role.value, "epoch": str(told.epoch)})
        if self._kept != told:
            await asyncio.to_thread(self._file.write, told)
            self._kept = told
        standing.is_confirmed = True
        has_ended = self._following is not None and self._following.done()
        if told.role is Role.SLAVE and (self._followed != told.master_rpc or has_ended):
            await self._follow()

    async def _reign(self, told: Membership) -> None:
        """Begin the epoch in the file first: if this process dies here, it begins the same one again."""
        await self._stop_following()
        self._standing.divergence = ""
        if self._ledger.pfdata.epoch() < told.epoch:
            await self._ledger.begin_epoch(told.epoch)
        if self._standing.membership is None and self._ledger.position.sequence == 0 and self._plan.users:
            await self._ledger.import_users(self._plan.users)

    # ------------------------------------------------------------------------------ following

    async def _follow(self) -> None:
        await self._stop_following()
        assert self._standing.membership is not None  # noqa: S101 - who follows has been told whom
        self._followed = self._standing.membership.master_rpc
        self._following = self._tasks.start("follow", self._follower.run(self._followed))

    async def _stop_following(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        self._following, self._followed = None, ""

    def _hear(self, word: str) -> None:
        """What the follower has met with its master."""
        if word == DIVERGED:
            position, master = self._ledger.position, self._followed
            text = _DIVERGENT.format(sequence=position.sequence, epoch=position.epoch, master=master)
            if not self._standing.divergence:
                _log.error("divergent", extra={"advice": text})
            self._standing.divergence = text
        elif word == "":
            self._standing.divergence = ""
        elif word == NOT_MASTER:
            self.look_soon()
        else:
            self._rare_log.warning(word, "master not reached", {"master": self._followed, "reason": word})
            self.look_soon()
