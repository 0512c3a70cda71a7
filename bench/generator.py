"""A closed-loop RADIUS load generator: a fixed number of requests outstanding, each answer lets the next one out.

All requests are signed before the round, so that sending costs the generator one system call a batch and nothing a
request. A request's number gives its socket and its identifier (number modulo 256 on that socket), which is how answers
find their requests. Nothing is sent twice: a request without an answer counts as lost.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Final

from datagrams import BATCH, STRIDE_BYTES, Messages, udp_socket

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
_LOST_AFTER_S: Final = 1.0
_SWEEP_S: Final = 0.1
_DRAIN_S: Final = 0.3
_PASSWORD: Final = b"correct-horse"


@dataclass(slots=True)
class Tally:
    """What one round gave. Latencies are in seconds, one for each answer."""

    answered: int = 0
    lost: int = 0
    bad: int = 0
    stray: int = 0
    elapsed_s: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Requests:
    """Signed Access-Requests (PAP) in memory that sendmmsg can take them from."""

    messages: Messages
    count: int


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
    messages = Messages(count, len(datagrams[0]))
    for number, datagram in enumerate(datagrams):
        messages.put(number, datagram)
    return Requests(messages, count)


class _Lane:
    """One socket's share of the load: requests `first` to `last` of a pool, in order."""

    def __init__(self, requests: Requests, part: range, port: int, secret: SharedSecret) -> None:
        self.socket: Final = udp_socket()
        self.socket.connect(("127.0.0.1", port))
        self._secret = secret
        self._requests = requests
        self._next = part.start
        self._end = part.stop
        self._inbox = Messages(BATCH, STRIDE_BYTES)
        self._sent_at_s = [0.0] * IDENTIFIERS  # 0 when that identifier waits for nothing
        self._sent_number = [0] * IDENTIFIERS
        self.outstanding = 0

    @property
    def is_exhausted(self) -> bool:
        return self._next >= self._end

    def send(self, wanted: int, now_s: float, tally: Tally) -> None:
        """Lets up to `wanted` more requests out. An identifier whose last request was never answered gives it up."""
        number = self._next
        count = min(wanted, self._end - number)
        if count <= 0:
            return
        count = self._requests.messages.send(self.socket.fileno(), number, count)
        for sent in range(number, number + count):
            identifier = sent % IDENTIFIERS
            if self._sent_at_s[identifier]:
                tally.lost += 1
                self.outstanding -= 1
            self._sent_at_s[identifier] = now_s
            self._sent_number[identifier] = sent
        self._next = number + count
        self.outstanding += count

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
        self._verify_first(inbox.lengths(1)[0], tally)
        return taken

    def _verify_first(self, length: int, tally: Tally) -> None:
        """Checks one answer of each batch in full; checking all of them would make the generator the bottleneck."""
        packet = read_untrusted(self._inbox.memory[:length].tobytes())
        start = self._sent_number[packet.identifier] * self._requests.messages.stride
        authenticator = self._requests.messages.memory[start + 4 : start + 20].tobytes()
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
        """Waits for what is still on its way; the answers count as such but not towards the rate."""
        late = Tally()
        end_s = time.perf_counter() + _DRAIN_S
        by_descriptor = {lane.socket.fileno(): lane for lane in lanes}
        while any(lane.outstanding for lane in lanes) and time.perf_counter() < end_s:
            for descriptor, _ in poll.poll(_SWEEP_S):
                by_descriptor[descriptor].receive(late)
        tally.lost += sum(lane.outstanding for lane in lanes)
        tally.bad += late.bad
