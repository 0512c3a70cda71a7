"""The users of an MFA Server: the directory knows their passwords, the group's data all the rest."""

from __future__ import annotations

from collections.abc import Callable

from mfalb.reference.config.values import User, UserPin
from mfalb.reference.directory import Directory, PasswordCheck
from mfalb.reference.mfa_server.data.pfdata import Pfdata
from mfalb.reference.mfa_server.data.records import UserRecord, devices_of, find_user


class GroupUsers:
    """Primary authentication, as the fronts of an MFA Server ask it: phone and method are those of the group's data."""

    def __init__(self, directory: PasswordCheck, pfdata: Pfdata) -> None:
        self._directory = directory
        self._pfdata = pfdata

    async def check(self, name: str, password: str) -> User | None:
        """The user whose password this is; None as well for one whom the group does not know, or has disabled."""
        found = await self._directory.check(name, password)
        return None if found is None else self.find(found.name)

    def check_nt_hash(self, name: str, is_right: Callable[[bytes], bool]) -> User | None:
        """As `check`, by a question about the NT hash; None where the directory has no such hashes."""
        if not isinstance(self._directory, Directory):
            return None
        found = self._directory.check_nt_hash(name, is_right)
        return None if found is None else self.find(found.name)

    async def is_password(self, name: str, password: str) -> bool:
        """Primary authentication only. Takes as long for a name that does not exist."""
        return await self._directory.check(name, password) is not None

    def find(self, name: str) -> User | None:
        """The user of that name who may sign in, for callers that have proved themselves otherwise."""
        record = self.record(name)
        if record is None or not record.is_enabled:
            return None
        devices = self._pfdata.read(lambda db: devices_of(db, record.name))
        token = devices[-1].token if devices else ""
        pin = None if record.pin is None else UserPin(record.pin.salt.hex(), record.pin.digest.hex())
        return User(record.name, "", record.phone, record.method, pin, token)

    def record(self, name: str) -> UserRecord | None:
        return self._pfdata.read(lambda db: find_user(db, name))
