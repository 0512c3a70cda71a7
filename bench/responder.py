"""RADIUS backends that do next to nothing: every request with a right Message-Authenticator gets an Access-Accept.

    python bench/responder.py SECRET_FILE PORT [PORT ...]

One process answers at all ports. Ended with TERM, it prints {"answered": n, "bad": n}; one request in 64 is
verified in full, and `bad` counts those that failed.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Final

from datagrams import BATCH, STRIDE_BYTES, Messages, names_for, run_in_batches, udp_socket

from mfalb.wire.radius import (
    ACCESS_ACCEPT,
    PROXY_STATE,
    SharedSecret,
    has_valid_message_authenticator,
    read_untrusted,
    signed_response,
)

VERIFY_EVERY: Final = 64  # requests, of which one is verified in full
_ATTRIBUTES_AT: Final = 20


class Responder:
    """Answers what arrives at one socket, a batch at a time."""

    def __init__(self, bound: socket.socket, secret: SharedSecret) -> None:
        names = names_for(BATCH)
        self.socket: Final = bound
        self.answered = 0
        self.bad = 0
        self._secret = secret
        self._unverified = VERIFY_EVERY  # so that the first request is verified
        self._requests = Messages(BATCH, STRIDE_BYTES, names)
        self._responses = Messages(BATCH, STRIDE_BYTES, names)  # the same names: each goes where its request came from

    def answer_batch(self) -> int:
        """Answers all that is waiting, up to a batch; how many requests that were."""
        descriptor, requests, responses = self.socket.fileno(), self._requests, self._responses
        count = requests.receive(descriptor)
        if not count:
            return 0
        received = requests.memory[: count * STRIDE_BYTES].tobytes()
        for number, length in enumerate(requests.lengths(count)):
            start = number * STRIDE_BYTES
            request = received[start : start + length]
            responses.put(number, self._response(request))
        self._unverified += count
        if self._unverified >= VERIFY_EVERY:
            self._unverified = 0
            self.bad += not has_valid_message_authenticator(read_untrusted(request), self._secret)
        sent = 0
        while sent < count:
            sent += responses.send(descriptor, sent, count - sent)
        self.answered += count
        return count

    def _response(self, request: bytes) -> bytes:
        """An Access-Accept. Random bytes hold a 33 in one request of five: walking the others too costs 1 us each."""
        body = _proxy_states(request) if PROXY_STATE in request else b""
        return signed_response(ACCESS_ACCEPT, request[1], request[4:20], body, self._secret)


def _proxy_states(request: bytes) -> bytes:
    """The Proxy-State attributes, which go back unchanged and in order (RFC 2865 section 5.33)."""
    position, end, found = _ATTRIBUTES_AT, len(request), b""
    while position < end:
        step = request[position + 1]
        if request[position] == PROXY_STATE:
            found += request[position : position + step]
        position += step
    return found


class _Ended(Exception):  # noqa: N818 - a signal that arrived, no error
    pass


def _end(*_: object) -> None:
    raise _Ended


def main() -> None:
    """Answers until it is told to end, then says how much that was."""
    run_in_batches()
    secret = SharedSecret(Path(sys.argv[1]).read_bytes().strip())
    responders = [Responder(udp_socket(int(port)), secret) for port in sys.argv[2:]]
    poll = select.epoll()
    for responder in responders:
        poll.register(responder.socket, select.EPOLLIN)
    by_descriptor = {responder.socket.fileno(): responder for responder in responders}
    signal.signal(signal.SIGTERM, _end)
    print("ready", flush=True)
    try:
        while True:
            for descriptor, _ in poll.poll():
                by_descriptor[descriptor].answer_batch()
    except _Ended:
        answered, bad = (sum(getattr(one, name) for one in responders) for name in ("answered", "bad"))
        print(json.dumps({"answered": answered, "bad": bad}), flush=True)


if __name__ == "__main__":
    main()
