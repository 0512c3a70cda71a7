"""TCP connections on which something is said in plain before TLS, or whatever follows, begins."""

from __future__ import annotations

import asyncio
import socket


async def opened_socket(host: str, port: int, opening: bytes) -> socket.socket:
    """A connected, non-blocking socket on which `opening`, if any, was sent. Tries each address that `host` has.

    Raises OSError. Cancel it to give up. The event loop that it is given to next closes it.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    last: OSError | None = None
    for family, kind, protocol, _, address in found:
        opened = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
        try:
            await loop.sock_connect(opened, address)
            if opening:
                await loop.sock_sendall(opened, opening)
        except OSError as error:
            opened.close()
            last = error
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    try:
        raise last or OSError(f"{host} has no address")
    finally:
        del last  # else it would be in a cycle: its traceback has this frame
