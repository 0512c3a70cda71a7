"""The control endpoint of an MFA Server: its status for everybody on this host, promotion for who knows the account.

It is no part of the balanced service. What changes the group wants the SDK's account; the rest (this machine only, JSON
only) is as in `faults.py`, whose switches are served here as well.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from aiohttp import web

from mfalb.reference.config.values import Account
from mfalb.reference.faults import Faults
from mfalb.reference.mfa_server.group.cluster import Cluster
from mfalb.reference.mfa_server.group.member import NotPossible

Change = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class Control:
    """The control endpoint's HTTP application."""

    def __init__(self, server: str, account: Account, cluster: Cluster, faults: Faults) -> None:
        self._server = server
        self._faults = faults
        self._account = account
        self._cluster = cluster

    def application(self) -> web.Application:
        application = self._faults.control_application()
        application.router.add_get("/status.json", self._status)
        application.router.add_post("/promotion", self._changing(self._promote))
        application.router.add_post("/rejoin", self._changing(self._rejoin))
        return application

    async def _status(self, request: web.Request) -> web.Response:
        """With `?digest=1` also one number for all replicated content, which costs a look at every row."""
        status = status_of(self._server, self._cluster, monotonic())
        if request.query.get("digest"):
            status["digest"] = self._cluster.ledger.pfdata.digest()
        return web.json_response(status)

    def _changing(self, change: Change) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            authorization = request.headers.get("Authorization", "")
            if not hmac.compare_digest(authorization.encode(), self._account.authorization.encode()):
                return web.json_response({"error": "the SDK's account is wanted"}, status=401)
            try:
                wanted = await request.json()
            except (ValueError, RecursionError):
                wanted = None
            if not isinstance(wanted, dict):
                return web.json_response({"error": "a JSON object is wanted"}, status=400)
            try:
                return web.json_response(await change(wanted))
            except NotPossible as refusal:
                return web.json_response({"error": str(refusal)}, status=409)

        return handle

    async def _promote(self, _wanted: dict[str, Any]) -> dict[str, Any]:
        return {"server": self._server, "epoch": await self._cluster.member.promote()}

    async def _rejoin(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted.get("discard_local") is not True:
            raise NotPossible("Say `--discard-local`: changes of this server that its master never saw are given up.")
        return {"server": self._server, "copy": await self._cluster.member.discard_local()}


def status_of(server: str, cluster: Cluster, now: float) -> dict[str, Any]:
    """What an operator wants to know of a server in its group. `now` is monotonic seconds."""
    standing, position, lag = cluster.standing, cluster.ledger.position, cluster.follower.lag
    is_master = cluster.is_master
    seconds = lag.seconds(now)
    missing = max(0, lag.master_sequence - position.sequence)
    return {
        "server": server,
        "group": cluster.settings.name,
        "role": standing.role.value,
        "is_confirmed_by_cloud": standing.is_confirmed,
        "epoch": standing.epoch,
        "position": {"epoch": position.epoch, "sequence": position.sequence},
        "master_rpc": "" if standing.membership is None else standing.membership.master_rpc,
        "is_master_reached": cluster.member.is_master_reached,
        "lag": None if is_master else {"changes": missing, "seconds": None if seconds is None else round(seconds, 3)},
        "slaves": cluster.ledger.replicas.shown(),
        "snapshots_taken": cluster.follower.snapshots,
        "refused_peers": dict(cluster.refusals.counts),
        "refusal": standing.refusal,
        "divergence": standing.divergence,
    }
