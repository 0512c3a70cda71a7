"""Where operators come to: the admin port, and the admin API's Unix socket where there is one."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Final

from mfalb.balancer.admin.api import AdminApi
from mfalb.balancer.admin.server import AdminServer
from mfalb.balancer.config.models import Admin
from mfalb.balancer.supervisor.admin_port import AdminSockets, bind_admin_port
from mfalb.balancer.supervisor.admin_socket import AdminSocket, bind_admin
from mfalb.balancer.supervisor.offer import Offer
from mfalb.balancer.supervisor.operations import SupervisorOperations
from mfalb.net.lifecycle import Tasks

_LAST_ANSWER_S: Final = 1.0  # the operator who asked for the upgrade is answered by the former process


class OperatorsDesks:
    """Bound first, before anything is served, and opened last: only the port tells before that what is not ready yet.

    Both can be handed over.
    """

    def __init__(self, server: AdminServer, operations: SupervisorOperations) -> None:
        self.port: AdminSockets | None = None
        self.socket: AdminSocket | None = None
        self._server = server
        self._operations = operations
        self._api: AdminApi | None = None
        self._tasks = Tasks("desks")
        self._former_path: Path | None = None
        self._is_left = False
        self._is_port_open = False

    def bind(self, config: Admin, offer: Offer | None) -> None:
        """`offer` may have both already. Raises CannotBind."""
        handed = None if offer is None else offer.admin_socket
        self.port = bind_admin_port(config.bind, None if offer is None else offer.admin_port)
        self.socket = bind_admin(config, handed=handed)
        if handed is not None and (self.socket is None or self.socket[1] is not handed[1]):
            handed[1].close()
            self._former_path = handed[0]

    async def open_port(self) -> None:
        """Serve the pages that need no operator: `/ready` says what does not serve yet."""
        if self.port is not None and not self._is_port_open:
            self._is_port_open = True
            await self._server.start(_copies(self.port[1]))

    async def open(self) -> None:
        """Serve."""
        await self.open_port()
        if self._former_path is not None:
            self._former_path.unlink(missing_ok=True)
        if self.socket is not None:
            self._operations.start()
            self._api = AdminApi(self._operations)
            await self._api.start(self.socket[1].dup())

    async def leave(self) -> None:
        """They are another process's now, and so is who comes from now on.

        Who is being answered has a moment for the end of it.
        """
        self._is_left = True
        await self._server.stop_accepting()
        if self._api is not None:
            await self._api.stop_accepting()
        self._tasks.start("leave", self._leave())

    async def _leave(self) -> None:
        await self._operations.close()
        await asyncio.sleep(_LAST_ANSWER_S)
        await self._stop_serving()

    async def _stop_serving(self) -> None:
        await self._server.close()
        if self._api is not None:
            await self._api.close()

    async def close(self) -> None:
        await self._tasks.close()
        await self._operations.close()
        await self._stop_serving()
        for sock in (*(self.port[1] if self.port else ()), *((self.socket[1],) if self.socket else ())):
            sock.close()
        if self.socket is not None and self._api is not None and not self._is_left:
            self.socket[0].unlink(missing_ok=True)


def _copies(sockets: list[socket.socket]) -> list[socket.socket]:
    return [sock.dup() for sock in sockets]
