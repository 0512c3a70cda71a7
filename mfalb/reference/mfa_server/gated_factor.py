"""What stands before the second factor: activation by the cloud, and one-time bypasses."""

from __future__ import annotations

import logging

import aiohttp

from mfalb.errors import MfalbError
from mfalb.reference.config.mfa_server import MfaServerSettings
from mfalb.reference.config.values import User
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.records import has_bypass
from mfalb.reference.mfa_server.group.ledger import Ledger
from mfalb.reference.mfa_server.group.lone import Writer
from mfalb.reference.mfa_server.group.standing import Role, Standing
from mfalb.reference.mfa_server.second_factor import Begun, FirstHalf, SecondFactor, short_id

_log = logging.getLogger("mfalb.reference.mfa_server")


class Gate:
    """Looks up what a sign-in meets before the user's phone rings."""

    def __init__(self, standing: Standing, ledger: Ledger, writer: Writer) -> None:
        self.standing = standing
        self._ledger = ledger
        self._writer = writer

    @property
    def pfdata(self) -> Pfdata:
        return self._ledger.pfdata

    async def lets_pass(self, name: str) -> bool:
        """Use up the user's bypass, if there is one.

        One server of the group uses it, once: the master says which. While it is away there are no bypasses, and the
        user is asked as on any other day.
        """
        now = self._ledger.clock()
        if not self.pfdata.read(lambda db: has_bypass(db, name, now)):
            return False
        try:
            given = await self._writer.write("UseBypass", {"user": name})
        except MfalbError as error:
            _log.warning("bypass not used", extra={"user": short_id(name), "reason": type(error).__name__})
            return False
        return given.get("isUsed") == "true"


class GatedFactor(SecondFactor):
    """The second factor of a server that may not be activated yet, and whose users may have a bypass."""

    def __init__(self, settings: MfaServerSettings, session: aiohttp.ClientSession, gate: Gate, faults: Faults) -> None:
        super().__init__(settings.name, settings.cloud_url, session, faults.monotonic)
        self._gate = gate
        self._faults = faults

    async def begin(self, user: User, request_id: str, client: str = "") -> FirstHalf:
        """Ring or text the user, unless there is a reason not to."""
        if self._gate.standing.role is Role.UNACTIVATED:
            return FirstHalf(Begun.NOT_ACTIVATED, request_id)
        if await self._gate.lets_pass(user.name):
            _log.info("one-time bypass used", extra={"user": short_id(user.name), "client": client or "-"})
            return FirstHalf(Begun.AUTHENTICATED, request_id)
        if self._faults.now.cloud_unreachable:
            return FirstHalf(Begun.CLOUD_UNAVAILABLE, request_id)
        membership = self._gate.standing.membership
        self.license_key = "" if membership is None else membership.license_key
        half = await super().begin(user, request_id, client)
        if half.begun is Begun.TEXT_SENT:
            self._faults.challenge_begun()
        return half
