from __future__ import annotations

import errno
import socket

import pytest

from mfalb.balancer.pools.ejection import LOCAL_SHORTAGE
from mfalb.balancer.upstreams.refusals import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "connect_refused"),
        (OSError(errno.EHOSTUNREACH, "no route"), "connect_refused"),
        (OSError("Multiple exceptions: ..."), "connect_refused"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "connect_refused"),
        (OSError(errno.EMFILE, "too many open files"), LOCAL_SHORTAGE),
        (OSError(errno.ENFILE, "too many open files"), LOCAL_SHORTAGE),
        (OSError(errno.EADDRNOTAVAIL, "no port left"), LOCAL_SHORTAGE),
    ],
)
def test_a_refusal_is_told_from_a_lack_of_our_own(error: OSError, reason: str) -> None:
    assert reason_of(error) == reason
