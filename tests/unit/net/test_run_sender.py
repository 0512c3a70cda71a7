from __future__ import annotations

import errno
import socket
import struct
import sys
from dataclasses import dataclass, field
from typing import Any, cast

from mfalb.net import run_sender
from mfalb.net.arena import Arena, ffi
from mfalb.net.run_sender import SEGMENT_LIMIT_BYTES, RunSender, runs_of
from mfalb.net.sockaddr import CONNECTED, PACKET_INFO, PeerForm, answering_info

NAME_BYTES = 16
PEERS = [bytes((number,)) * NAME_BYTES for number in range(3)]


Control = tuple[int, int, bytes]  # level, type, data with what fills it up


def control_messages(header: Any) -> list[Control]:
    """As the kernel goes through them: cmsg(3)."""
    block = bytes(ffi.buffer(header.msg_control, header.msg_controllen))
    found: list[Control] = []
    start = 0
    while start < len(block):
        length, level, kind = struct.unpack_from("=Qii", block, start)
        end = start + socket.CMSG_SPACE(length - socket.CMSG_LEN(0))
        assert end <= len(block)
        found.append((level, kind, block[start + socket.CMSG_LEN(0) : end]))
        start = end
    return found


@dataclass
class Kernel:
    """Takes what sendmmsg is given, or fails as the test says; keeps (peer, bytes, segment size or 0) of each."""

    refuses_segments: bool = False
    room: int = 10_000
    taken: list[tuple[bytes, bytes, int]] = field(default_factory=list)
    controls: list[list[Control]] = field(default_factory=list)

    def fileno(self) -> int:
        return 7

    def sendmmsg(self, _fd: int, headers: Any, count: int, _flags: int) -> int:
        done = 0
        for index in range(count):
            header = headers[index].msg_hdr
            controls = control_messages(header)
            cuts = [data for level, _, data in controls if level == socket.IPPROTO_UDP]
            segment = int.from_bytes(cuts[0][:2], sys.byteorder) if cuts else 0
            if segment and self.refuses_segments:
                return done or self._failed(errno.EIO)
            if len(self.taken) >= self.room:
                return done or self._failed(errno.EAGAIN)
            name = bytes(ffi.buffer(header.msg_name, NAME_BYTES))
            data = bytes(ffi.buffer(header.msg_iov.iov_base, header.msg_iov.iov_len))
            self.taken.append((name, data, segment))
            self.controls.append(controls)
            done += 1
        return done

    @staticmethod
    def _failed(number: int) -> int:
        ffi.errno = number
        return -1

    @property
    def datagrams(self) -> list[tuple[bytes, bytes]]:
        """What a network would carry."""
        cut: list[tuple[bytes, bytes]] = []
        for name, data, segment in self.taken:
            step = segment or max(1, len(data))
            cut += [(data[start : start + step], name) for start in range(0, len(data), step)]
        return cut


def sender(kernel: Kernel) -> RunSender:
    return RunSender(cast("Any", kernel), Arena(), PeerForm(NAME_BYTES, None), kernel.sendmmsg)


def batch(count: int, size: int) -> list[tuple[bytes, bytes]]:
    return [((b"%d-" % number).ljust(size, b"x"), PEERS[number % 3]) for number in range(count)]


def test_datagrams_of_one_length_to_one_peer_go_as_one_message() -> None:
    kernel = Kernel()
    assert sender(kernel).send(runs_of(batch(90, 100))) == 90
    assert [(name, len(data), segment) for name, data, segment in kernel.taken] == [(peer, 3000, 100) for peer in PEERS]
    assert sorted(kernel.datagrams) == sorted(batch(90, 100))


def test_what_leaves_from_two_of_our_addresses_never_shares_a_message() -> None:
    info = PACKET_INFO[socket.AF_INET]
    asked = [answering_info(bytes(4) + bytes((10, 0, 0, number)) * 2) for number in range(2)]
    peers = [PEERS[0] + address for address in asked]
    kernel = Kernel()
    one = RunSender(cast("Any", kernel), Arena(), PeerForm(NAME_BYTES, info), kernel.sendmmsg)
    sent = [(b"%0100d" % number, peers[number % 2]) for number in range(60)]
    assert one.send(runs_of(sent)) == 60
    assert [(name, len(data), segment) for name, data, segment in kernel.taken] == [(PEERS[0], 3000, 100)] * 2
    assert [source for (source, *_) in kernel.controls] == [
        (info.level, info.kind, address.ljust(16, b"\0")) for address in asked
    ]
    assert sorted(data for data, _ in kernel.datagrams) == sorted(data for data, _ in sent)


def test_lengths_that_differ_or_may_not_be_cut_go_one_by_one() -> None:
    kernel = Kernel()
    sent = [(bytes(size), PEERS[0]) for size in (1, 2, 19, 19, SEGMENT_LIMIT_BYTES + 1, SEGMENT_LIMIT_BYTES + 1)]
    assert sender(kernel).send(runs_of(sent)) == 6
    assert {segment for _, _, segment in kernel.taken} == {0}
    assert sorted(kernel.datagrams) == sorted(sent)


def test_a_run_is_at_most_64_datagrams_and_65000_bytes() -> None:
    for size, most in ((20, 64), (1200, 54)):
        sent = [(bytes(size), PEERS[0])] * 200
        assert [len(payloads) for _, payloads in runs_of(sent)] == [most] * (200 // most) + [200 % most]


def test_more_than_the_arena_holds_goes_in_several_calls() -> None:
    kernel = Kernel()
    sent = [(bytes((number % 256,)) * (1 + number % 4000), PEERS[number % 3]) for number in range(1000)]
    assert sender(kernel).send(runs_of(sent)) == 1000
    assert sorted(kernel.datagrams) == sorted(sent)


def test_a_path_that_refuses_segments_gets_each_datagram_by_itself_from_then_on() -> None:
    kernel = Kernel(refuses_segments=True)
    one = sender(kernel)
    assert one.send(runs_of(batch(90, 100))) == 90
    assert one.send(runs_of(batch(6, 100))) == 6
    assert sorted(kernel.datagrams) == sorted(batch(90, 100) + batch(6, 100))


def test_a_full_buffer_loses_what_did_not_fit_and_says_how_many() -> None:
    kernel = Kernel(room=2)
    assert sender(kernel).send(runs_of(batch(90, 100))) == 60, "each peer's run is 30"


def test_what_did_not_fit_is_known_by_its_bytes_until_it_is_cleared() -> None:
    kernel = Kernel(room=2)
    one = sender(kernel)
    one.send(runs_of(batch(90, 100)))
    assert sorted(one.unsent) == sorted(data for data, peer in batch(90, 100) if peer == PEERS[2])
    one.unsent.clear()
    kernel.room = 1000
    one.send(runs_of(batch(6, 100)))
    assert one.unsent == []


def test_one_that_cannot_go_anywhere_is_the_only_one_that_is_not_sent() -> None:
    def sendmmsg(_fd: int, headers: Any, count: int, _flags: int) -> int:
        for index in range(count):
            if bytes(ffi.buffer(headers[index].msg_hdr.msg_name, NAME_BYTES)) == PEERS[1]:
                if index == 0:
                    ffi.errno = errno.EINVAL
                    return -1
                return index
        return count

    one = RunSender(cast("Any", Kernel()), Arena(), PeerForm(NAME_BYTES, None), sendmmsg)
    sent = batch(9, 100)
    assert one.send(runs_of(sent)) == 6
    assert sorted(one.unsent) == sorted(data for data, peer in sent if peer == PEERS[1])


def test_a_refused_head_stands_for_its_whole_run_and_a_stranger_for_itself() -> None:
    kernel = Kernel()
    connected = RunSender(cast("Any", kernel), Arena(), CONNECTED, lambda _fd, _headers, count, _flags: count)
    run = [(b"%020d" % number).ljust(130, b".") for number in range(10)]
    connected.send(iter([(b"", run)]))
    quoted = b"".join(run)[:520]  # what an ICMP message has room for
    assert connected.run_of(quoted) == run
    assert connected.run_of(run[3]) == [run[3]]


def test_runs_are_remembered_for_a_while_and_not_for_ever() -> None:
    kernel = Kernel()
    connected = RunSender(cast("Any", kernel), Arena(), CONNECTED, lambda _fd, _headers, count, _flags: count)
    runs = [[(b"%020d" % (number * 10 + which)).ljust(40, b".") for which in range(2)] for number in range(1000)]
    for run in runs:
        connected.send(iter([(b"", run)]))
    assert connected.run_of(runs[-1][0]) == runs[-1]
    assert connected.run_of(runs[0][0]) == runs[0][:1]
    assert len(connected._recent) + len(connected._older) <= 2 * run_sender._REMEMBERED_RUNS
