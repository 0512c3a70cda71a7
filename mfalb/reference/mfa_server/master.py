"""Whether a server reaches the master of its group, which alone takes changes (MFA facts, section 7)."""

from __future__ import annotations

import asyncio
from typing import Final

from mfalb.reference.config.values import Endpoint

_TIMEOUT_S: Final = 1.0


async def reaches(master: Endpoint | None) -> bool:
    """Whether the master's address takes a connection; None is the master's own answer, which is yes."""
    if master is None:
        return True
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(master.host, master.port)
    except OSError:  # a time-out is one, too
        return False
    writer.close()
    return True
