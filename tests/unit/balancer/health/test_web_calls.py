from __future__ import annotations

import errno
import socket

import pytest

from mfalb.balancer.health.outcomes import ProbeFailed, ProbeUnsent
from mfalb.balancer.health.web_calls import fault_of_connecting


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('192.0.2.1', 1)"), "Connection refused"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError(), "unreachable"),
    ],
)
def test_why_there_is_no_connection_is_told_in_the_system_s_words(error: OSError, told: str) -> None:
    fault = fault_of_connecting(error)
    assert isinstance(fault, ProbeFailed)
    assert str(fault) == told


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
def test_a_lack_of_descriptors_or_ports_is_our_own(number: int) -> None:
    assert isinstance(fault_of_connecting(OSError(number, "")), ProbeUnsent)
