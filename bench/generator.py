"""A closed-loop RADIUS load generator: a fixed number of requests outstanding, each answer lets the next one out.

All requests are signed before the round and equally long, so that a batch of them goes out as one long write that the
kernel cuts into datagrams (UDP_SEGMENT): 0.4 to 0.9 us a request on loopback, where sendmmsg takes 2.5. A request's
number gives its socket and its identifier (number modulo 256 on that socket), which is how answers find their requests.
Nothing is sent twice: a request without an answer counts as lost.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from datagrams import BATCH, STRIDE_BYTES, Messages, udp_socket

from mfalb.errors import MalformedMessage
from mfalb.wire.radius import (
    ACCESS_ACCEPT,
    ACCESS_REQUEST,
    CALLING_STATION_ID,
    MESSAGE_AUTHENTICATOR,
    NAS_IDENTIFIER,
    USER_NAME,
    USER_PASSWORD,
    SharedSecret,
    attribute,
    has_valid_message_authenticator,
    has_valid_response_authenticator,
    read_untrusted,
    signed_request,
)
from mfalb.wire.radius_hidden import hide_password

IDENTIFIERS: Final = 256
OUTSTANDING_PER_SOCKET: Final = 32  # far below 256: an identifier is free again long before its turn comes
UDP_SEGMENT: Final = 103  # linux/udp.h, since Linux 4.18; Python has no name for it
VERIFY_EVERY: Final = 64  # answers of a lane, of which one is verified in full
_LOST_AFTER_S: Final = 1.0
_SWEEP_S: Final = 0.1
_DRAIN_S: Final = 0.3
_PASSWORD: Final = b"correct-horse"


@dataclass(slots=True)
class Tally:
    """What one round gave. Latencies are in seconds, one for each answer.

    `late` answers came after the end: they belong to the work that was done, but not to the rate.
    """

    answered: int = 0
    late: int = 0
    lost: int = 0
    bad: int = 0
    stray: int = 0
    elapsed_s: float = 0.0
    drained_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Requests:
    """Signed Access-Requests (PAP), one behind the other; each is `size` bytes."""

    memory: memoryview
    size: int
    count: int

    def part(self, first: int, count: int) -> memoryview:
        return self.memory[first * self.size : (first + count) * self.size]


def sign_requests(count: int, secret: SharedSecret) -> Requests:
    """`count` requests, each with an authenticator of its own, so that none is taken for a retransmit."""
    user = attribute(USER_NAME, b"alice@bench.example")
    rest = attribute(NAS_IDENTIFIER, b"bench") + attribute(CALLING_STATION_ID, b"02-00-00-00-00-01")
    random = os.urandom(16 * count)
    datagrams = []
    for number in range(count):
        authenticator = random[number * 16 : number * 16 + 16]
        hidden = attribute(USER_PASSWORD, hide_password(_PASSWORD, secret, authenticator))
        body = user + hidden + rest
        datagrams.append(signed_request(ACCESS_REQUEST, number % IDENTIFIERS, authenticator, body, secret))
    return Requests(memoryview(b"".join(datagrams)), len(datagrams[0]), count)


class _Lane:
    """One socket's share of the load: requests `first` to `last` of a pool, in order.

    The loops over identifiers are slices where they can be: at 100,000 answers a second each 0.1 us of Python is a
    hundredth of the core that generator and responder share.
    """

    def __init__(self, requests: Requests, part: range, port: int, secret: SharedSecret) -> None:
        self.socket: Final = udp_socket()
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.SOL_UDP, UDP_SEGMENT, requests.size)
        self._secret = secret
        self._requests = requests
        self._next = part.start
        self._end = part.stop
        self._inbox = Messages(BATCH, STRIDE_BYTES)
        self._sent_at_s = [0.0] * IDENTIFIERS  # 0 when that identifier waits for nothing
        self._unverified = VERIFY_EVERY  # so that the first answer is verified
        self.outstanding = 0

    @property
    def is_exhausted(self) -> bool:
        return self._next >= self._end

    def send(self, wanted: int, now_s: float, tally: Tally) -> None:
        """Lets up to `wanted` more requests out. An identifier whose last request was never answered gives it up."""
        number = self._next
        count = min(wanted, self._end - number, BATCH)
        if count <= 0:
            return
        try:
            self.socket.send(self._requests.part(number, count))
        except BlockingIOError:  # the send buffer is full: the next answer tries again
            return
        self._next = number + count
        self.outstanding += count
        while count:  # twice when the identifiers begin anew
            first = number % IDENTIFIERS
            step = min(count, IDENTIFIERS - first)
            waiting = step - self._sent_at_s[first : first + step].count(0.0)
            tally.lost += waiting
            self.outstanding -= waiting
            self._sent_at_s[first : first + step] = [now_s] * step
            number += step
            count -= step

    def receive(self, tally: Tally) -> int:
        """Takes a batch of answers; how many of them answered something."""
        inbox = self._inbox
        count = inbox.receive(self.socket.fileno())
        if not count:
            return 0
        now_s = time.perf_counter()
        memory, sent_at_s, latencies_s = inbox.memory, self._sent_at_s, tally.latencies_s
        taken = 0
        for identifier in memory[1 : count * STRIDE_BYTES : STRIDE_BYTES].tobytes():
            began_s = sent_at_s[identifier]
            if began_s:
                latencies_s.append(now_s - began_s)
                sent_at_s[identifier] = 0.0
                taken += 1
        tally.stray += count - taken
        tally.answered += taken
        self.outstanding -= taken
        if memory[: count * STRIDE_BYTES : STRIDE_BYTES].tobytes().count(ACCESS_ACCEPT) != count:
            tally.bad += 1
        self._unverified += count
        if self._unverified >= VERIFY_EVERY:
            self._unverified = 0
            self._verify_first(inbox.lengths(1)[0], tally)
        return taken

    def _verify_first(self, length: int, tally: Tally) -> None:
        """Checks the first answer of a batch in full; checking all would make the generator the bottleneck."""
        try:
            packet = read_untrusted(self._inbox.memory[:length].tobytes())
        except MalformedMessage:
            tally.bad += 1
            return
        last = self._next - 1
        number = last - (last - packet.identifier) % IDENTIFIERS  # the last request with this identifier
        authenticator = self._requests.part(number, 1)[4:20].tobytes()
        is_right = has_valid_response_authenticator(packet, self._secret, authenticator)
        if is_right and MESSAGE_AUTHENTICATOR in packet.offsets:  # proxies before 2024 leave it away
            is_right = has_valid_message_authenticator(packet, self._secret, authenticator)
        tally.bad += not is_right

    def give_up_before(self, oldest_s: float, tally: Tally) -> None:
        """Counts as lost what was sent before `oldest_s`."""
        for identifier, began_s in enumerate(self._sent_at_s):
            if 0 < began_s < oldest_s:
                self._sent_at_s[identifier] = 0.0
                self.outstanding -= 1
                tally.lost += 1


class Generator:
    """Runs rounds against one port after the other, with the same requests and new sockets each time.

    New sockets have new ports, so no contender can take a request for one it has seen in an earlier round.
    """

    def __init__(self, requests: Requests, secret: SharedSecret, outstanding: int) -> None:
        self._requests = requests
        self._secret = secret
        self._outstanding = outstanding
        self._lanes = max(1, outstanding // OUTSTANDING_PER_SOCKET)

    def run(self, port: int, seconds: float) -> Tally:
        """One round; shorter than `seconds` when the requests run out."""
        tally = Tally()
        share = self._requests.count // self._lanes
        with ExitStack() as opened, select.epoll() as poll:
            lanes = [
                _Lane(self._requests, range(lane * share, (lane + 1) * share), port, self._secret)
                for lane in range(self._lanes)
            ]
            for lane in lanes:
                opened.enter_context(lane.socket)
                poll.register(lane.socket, select.EPOLLIN)
            began_s = time.perf_counter()
            self._keep_full(lanes, poll, began_s + seconds, tally)
            tally.elapsed_s = time.perf_counter() - began_s
            self._drain(lanes, poll, tally)
        return tally

    def _keep_full(self, lanes: Sequence[_Lane], poll: select.epoll, end_s: float, tally: Tally) -> None:
        by_descriptor = {lane.socket.fileno(): lane for lane in lanes}
        share = self._outstanding // self._lanes
        for lane in lanes:
            lane.send(share, time.perf_counter(), tally)
        swept_s = time.perf_counter()
        while (now_s := time.perf_counter()) < end_s and not any(lane.is_exhausted for lane in lanes):
            for descriptor, _ in poll.poll(_SWEEP_S):
                lane = by_descriptor[descriptor]
                lane.receive(tally)
                lane.send(share - lane.outstanding, time.perf_counter(), tally)
            if now_s - swept_s > _SWEEP_S:
                swept_s = now_s
                for lane in lanes:
                    lane.give_up_before(now_s - _LOST_AFTER_S, tally)
                    lane.send(share - lane.outstanding, time.perf_counter(), tally)

    def _drain(self, lanes: Sequence[_Lane], poll: select.epoll, tally: Tally) -> None:
        """Waits for what is still on its way, so that nothing of this round is left in the next one."""
        late, began_s = Tally(), time.perf_counter()
        end_s = began_s + _DRAIN_S
        by_descriptor = {lane.socket.fileno(): lane for lane in lanes}
        while any(lane.outstanding for lane in lanes) and time.perf_counter() < end_s:
            for descriptor, _ in poll.poll(_SWEEP_S):
                by_descriptor[descriptor].receive(late)
        tally.lost += sum(lane.outstanding for lane in lanes)
        tally.bad += late.bad
        tally.late = late.answered
        tally.drained_s = time.perf_counter() - began_s
