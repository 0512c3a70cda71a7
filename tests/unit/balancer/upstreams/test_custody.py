"""A worker's sockets are numbered behind its predecessor's, and each carrier gets its own back."""

from __future__ import annotations

import mmap
import socket

from mfalb.balancer.exchange.flight_log import RING_BYTES, FlightLog
from mfalb.balancer.upstreams.custody import KeptSocket, SocketKeeper


def test_a_carrier_has_its_own_sockets_back_and_new_ones_are_numbered_behind_all() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before = [KeptSocket(4, "radius/auth", "b1", sock), KeptSocket(9, "radius/acct", "b1", sock)]
        kept: list[KeptSocket] = []
        let_go: list[int] = []
        keeper = SocketKeeper(FlightLog(mmap.mmap(-1, RING_BYTES), 0), before, kept.append, let_go.append)
        custody, other = keeper.custody("radius/auth"), keeper.custody("radius/acct")
        assert custody.kept == [before[0]]
        assert other.kept == [before[1]]
        assert (custody.opened("b2", sock), other.opened("b1", sock)) == (10, 11)
        assert kept == [KeptSocket(10, "radius/auth", "b2", sock), KeptSocket(11, "radius/acct", "b1", sock)]
        custody.let_go(10)
        assert let_go == [10]


def test_sockets_that_were_handed_over_are_numbered_behind_all_that_their_predecessor_has_ever_had() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        before = [KeptSocket(4, "radius/auth", "b1", sock)]
        keeper = SocketKeeper(FlightLog(mmap.mmap(-1, RING_BYTES), 0), before, lambda _: None, lambda _: None)
        assert not keeper.custody("radius/auth").is_handed
        keeper.follow_on(12)
        custody = keeper.custody("radius/auth")
        assert custody.is_handed
        assert custody.opened("b1", sock) == keeper.last == 13
