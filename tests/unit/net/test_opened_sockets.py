from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from unit.no_garbage import leaves_no_garbage
from unit.still_loop import StillLoop

from mfalb.net.opened_sockets import opened_socket


class NobodyThere(StillLoop):
    """A name with two addresses, at which nobody is."""

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))] * 2

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        assert not sock.getblocking()
        raise ConnectionRefusedError(111, f"nobody at {address[0]}")


def test_nobody_at_any_address_is_an_error_that_leaves_nothing_to_the_garbage_collector() -> None:
    async def story() -> None:
        with leaves_no_garbage(), pytest.raises(ConnectionRefusedError, match=r"nobody at 192\.0\.2\.1"):
            await opened_socket("192.0.2.1", 443, b"PROXY")

    with asyncio.Runner(loop_factory=NobodyThere) as runner:
        runner.run(story())
