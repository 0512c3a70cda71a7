"""The cloud MFA Service as an MFA Server meets it: activation, and the registry of masters."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import aiohttp

from mfalb.errors import MfalbError
from mfalb.reference.config.mfa_server import ServerKind
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.group.standing import Membership, Role

_TIMEOUT_S: Final = 10.0
_ANSWER_LIMIT_BYTES: Final = 64 * 1024
_TEXT_LIMIT: Final = 300


class CloudAway(MfalbError):  # noqa: N818 - says what happened
    """No answer, or none that can be read."""


class CloudRefused(MfalbError):  # noqa: N818 - says what happened
    """The cloud has said no; the text is its reason, for the operator."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """What a server says of itself."""

    server: str
    group: str
    kind: ServerKind
    activation_code: str = field(repr=False)


class CloudRegistry:
    """Asks to be activated, and tells of promotions."""

    def __init__(self, cloud_url: str, applicant: Applicant, session: aiohttp.ClientSession, faults: Faults) -> None:
        self._url = cloud_url.rstrip("/")
        self._applicant = applicant
        self._session = session
        self._faults = faults

    async def activate(self, rpc_address: str) -> Membership:
        """What this server is. The same question has the same answer. Raises CloudAway and CloudRefused."""
        applicant = self._applicant
        answer = await self._ask(
            "/activation",
            {
                "server": applicant.server,
                "group": applicant.group,
                "kind": applicant.kind.value,
                "rpc_address": rpc_address,
                "activation_code": applicant.activation_code,
            },
        )
        try:
            role = Role(answer["role"])
            epoch, master = answer["epoch"], answer["master_rpc"]
            if role is Role.UNACTIVATED or type(epoch) is not int or epoch < 1 or not isinstance(master, str):
                raise CloudAway("the cloud's answer makes no sense")
            return Membership(role, epoch, master, str(answer.get("license_key", "")))
        except (KeyError, ValueError, TypeError):
            raise CloudAway("the cloud's answer makes no sense") from None

    async def promote(self, epoch: int) -> None:
        """Be recorded as the master of the next epoch. Raises CloudAway and CloudRefused; then nothing has changed."""
        promotion = {"group": self._applicant.group, "server": self._applicant.server, "epoch": epoch}
        await self._ask("/groups/promotion", promotion)

    async def _ask(self, path: str, question: dict[str, Any]) -> dict[str, Any]:
        if self._faults.now.cloud_unreachable:
            raise CloudAway("cut off by a fault switch")
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
        try:
            async with self._session.post(self._url + path, json=question, timeout=timeout) as response:
                status, body = response.status, await response.content.read(_ANSWER_LIMIT_BYTES)
            answer = json.loads(body or b"{}")
        except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
            raise CloudAway(type(error).__name__) from None
        if not isinstance(answer, dict):
            raise CloudAway("the cloud's answer makes no sense")
        if status in (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            reason = str(answer.get("error", "no reason given"))
            raise CloudRefused("".join(sign for sign in reason if sign.isprintable())[:_TEXT_LIMIT])
        if status != HTTPStatus.OK:
            raise CloudAway(f"status {status}")
        return answer


class MembershipFile:
    """What the cloud said last, beside the database: a server that was activated stays so while the cloud is away."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Membership | None:
        """None when this server was never activated. Raises OSError and ValueError."""
        if not self._path.exists():
            return None
        table = json.loads(self._path.read_text("utf-8"))
        try:
            return Membership(Role(table["role"]), int(table["epoch"]), table["master_rpc"], table["license_key"])
        except (KeyError, TypeError):
            raise ValueError(f"{self._path} is no membership") from None

    def write(self, membership: Membership) -> None:
        """All or nothing, for its owner only."""
        table = asdict(membership) | {"role": membership.role.value}
        new = self._path.with_name(self._path.name + ".new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(table, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
