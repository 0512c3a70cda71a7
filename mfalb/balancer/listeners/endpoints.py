"""Who is at the two ends of a client's connection."""

from __future__ import annotations

import asyncio
from typing import Final

from mfalb.wire.proxy_protocol import Endpoints

_NOBODY: Final = ("::", 0)  # of a connection that is broken already


def endpoints_of(transport: asyncio.Transport) -> Endpoints:
    """The connection's own ends, as the kernel knows them."""
    client = transport.get_extra_info("peername") or _NOBODY
    server = transport.get_extra_info("sockname") or _NOBODY
    return Endpoints((client[0], client[1]), (server[0], server[1]))
