"""Activation over HTTP: `POST /activation`, `POST /groups/promotion`, `GET /groups.json`.

POST /activation        {"server", "group", "kind", "rpc_address", "activation_code"}
    200                 {"group", "role", "epoch", "master", "master_rpc", "license_key"}
    403                 {"error": ...}  the activation code is not known
    409                 {"error": "mixed group: ..."}
POST /groups/promotion  {"group", "server", "epoch"}
    200                 {"group", "epoch", "master", "master_rpc"}
    404, 409            {"error": ..., "epoch", "master", "master_rpc"}; the last three where there is such a group
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from mfalb.errors import MalformedMessage
from mfalb.reference.cloud_service import groups_file
from mfalb.reference.cloud_service.groups import (
    Candidate,
    Group,
    GroupRefusal,
    Refusal,
    ServerKind,
    activated,
    promoted,
)

_WORD_LIMIT: Final = 253  # characters: as long as a host name may be
_ADDRESS: Final = re.compile(r"(?:[^\s:\[\]]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_EPOCH_LIMIT: Final = 2**53  # JSON numbers are exact up to there everywhere

_log = logging.getLogger("mfalb.reference.cloud_service")


class Activation:
    """The registry of groups, behind its HTTP calls."""

    def __init__(self, codes: Sequence[str], state: Path | None) -> None:
        """`state` is the file of the groups, None for memory only. Raises what `groups_file.load` raises."""
        self._codes = [code.encode() for code in codes]
        self._state = state
        self._groups = {} if state is None else groups_file.load(state)

    @property
    def is_required(self) -> bool:
        """Whether only activated servers are served: as soon as there are codes to activate with."""
        return bool(self._codes)

    def has_issued(self, license_key: str) -> bool:
        """Whether a server was activated with this license key."""
        given = license_key.encode()
        keys = [member.license_key for group in self._groups.values() for member in group.members.values()]
        return any([hmac.compare_digest(given, key.encode()) for key in keys])  # noqa: C419 - all, in like time

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/activation", self._activate)
        router.add_post("/groups/promotion", self._promote)
        router.add_get("/groups.json", self._list)

    async def _activate(self, request: web.Request) -> web.Response:
        try:
            table = _table_untrusted(await request.read())
            candidate = _candidate_untrusted(table)
            code = _word_untrusted(table, "activation_code").encode()
        except MalformedMessage as error:
            return _error(400, error.reason)
        if not any([hmac.compare_digest(code, known) for known in self._codes]):  # noqa: C419 - all, in like time
            _log.warning("activation refused", extra={"server": candidate.server, "reason": "unknown code"})
            return _error(403, "the activation code is not known")
        try:
            group = activated(self._groups, candidate, secrets.token_urlsafe(24))
        except GroupRefusal as refused:
            _log.warning("activation refused", extra={"server": candidate.server, "reason": refused.refusal.value})
            return _error(409, str(refused))
        self._keep(group)
        role = "master" if group.master == candidate.server else "slave"
        _log.info("activated", extra={"server": candidate.server, "group": group.name, "role": role})
        key = group.members[candidate.server].license_key
        return web.json_response({**_master(group), "group": group.name, "role": role, "license_key": key})

    async def _promote(self, request: web.Request) -> web.Response:
        try:
            table = _table_untrusted(await request.read())
            name, server = _word_untrusted(table, "group"), _word_untrusted(table, "server")
            epoch = _epoch_untrusted(table)
        except MalformedMessage as error:
            return _error(400, error.reason)
        try:
            group = promoted(self._groups, name, server, epoch)
        except GroupRefusal as refused:
            _log.warning("promotion refused", extra={"server": server, "reason": refused.refusal.value})
            known = self._groups.get(name)
            status = 409 if refused.refusal is Refusal.NOT_NEXT else 404
            return _error(status, str(refused), **({} if known is None else _master(known)))
        self._keep(group)
        _log.info("promoted", extra={"server": server, "group": name, "epoch": epoch})
        return web.json_response({**_master(group), "group": name})

    def _keep(self, group: Group) -> None:
        """First on disk, then in memory: nobody is told what a crash could take back."""
        groups = {**self._groups, group.name: group}
        if self._state is not None:
            groups_file.save(self._state, groups)  # blocks for a disk's flush, a few times in a deployment's life
        self._groups = groups

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response({name: _shown(group) for name, group in self._groups.items()})


def _master(group: Group) -> dict[str, Any]:
    return {"epoch": group.epoch, "master": group.master, "master_rpc": group.master_rpc}


def _shown(group: Group) -> dict[str, Any]:
    members = {
        name: {
            "kind": member.kind.value,
            "rpc_address": member.rpc_address,
            "role": "master" if name == group.master else "slave",
        }
        for name, member in group.members.items()
    }
    return {**_master(group), "members": members}


def _error(status: int, text: str, **more: Any) -> web.Response:
    return web.json_response({"error": text, **more}, status=status)


def _table_untrusted(body: bytes) -> dict[str, Any]:
    try:
        table = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedMessage("not JSON") from None
    if not isinstance(table, dict):
        raise MalformedMessage("not a JSON object")
    return table


def _word_untrusted(table: dict[str, Any], key: str) -> str:
    word = table.get(key)
    if not isinstance(word, str) or not 0 < len(word) <= _WORD_LIMIT or not word.isprintable():
        raise MalformedMessage(f"{key} is not a text of 1 to {_WORD_LIMIT} characters")
    return word


def _candidate_untrusted(table: dict[str, Any]) -> Candidate:
    address = _word_untrusted(table, "rpc_address")
    if not _ADDRESS.fullmatch(address):
        raise MalformedMessage("rpc_address is not host:port")
    try:
        kind = ServerKind(table.get("kind"))
    except ValueError:
        raise MalformedMessage("kind is neither domain_joined nor standalone") from None
    return Candidate(_word_untrusted(table, "server"), _word_untrusted(table, "group"), kind, address)


def _epoch_untrusted(table: dict[str, Any]) -> int:
    epoch = table.get("epoch")
    if not isinstance(epoch, int) or isinstance(epoch, bool) or not 0 < epoch < _EPOCH_LIMIT:
        raise MalformedMessage("epoch is not a whole number above 0")
    return epoch
