"""What HTTP/1.1 asks of a proxy, message by message: a raw client and a raw server see every byte that passes."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs.balancer import Balancer
from programs.http_backend import OK, RawBackend, RawPeer, answering
from programs.http_pool import Front, Response, Responses, http_pool, new_front, read_all


@dataclass(frozen=True)
class Wire:
    """A raw server behind three listeners: a plain one, one that says all it can, and one that believes its clients."""

    plain: Front
    telling: Front
    trusting: Front
    raw: RawBackend

    def sent_on(self) -> tuple[bytes, dict[str, str]]:
        """The first line of the last request that the server got, and its fields by lower-case name."""
        head = self.raw.received.rpartition(b"\r\n\r\n")[0].rpartition(b"\r\n\r\n")[2]
        first, *lines = head.split(b"\r\n")
        fields = [line.decode("latin-1").partition(": ") for line in lines]
        assert len({name.lower() for name, _, _ in fields}) == len(fields), f"a field stands twice in {head!r}"
        return first, {name.lower(): value for name, _, value in fields}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    run_dir: Path = tmp_path_factory.mktemp("messages")
    plain, telling, trusting = new_front(), new_front(), new_front()
    told: Mapping[str, object] = {"forwarding": {"forwarded": True, "via": "lb.test"}, "request_id": {}}
    with ExitStack() as stack:
        raw = stack.enter_context(RawBackend(answering(OK)))
        routes = [{"pool": "raw"}]
        config = {
            "listeners": [
                plain.listener("plain", routes),
                telling.listener("telling", routes, **told),
                trusting.listener("trusting", routes, trusted_proxies=["127.0.0.0/8"], **told),
            ],
            "pools": {"raw": http_pool(raw.address)},
        }
        stack.enter_context(Balancer(config, run_dir))
        yield Wire(plain, telling, trusting, raw)


@pytest.fixture
def wire(running: Wire) -> Iterator[Wire]:
    running.raw.script = answering(OK)
    yield running
    running.raw.forget()


# ------------------------------------------------------------------------------------------------- Expect


def test_a_client_that_waits_for_100_sends_its_body_only_after_the_server_asked_for_it(wire: Wire) -> None:
    def script(peer: RawPeer) -> None:
        assert b"\r\nExpect: 100-continue\r\n" in peer.read_head()
        peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + peer.read_body(5))

    wire.raw.script = script
    with wire.plain.open() as client:
        responses = Responses(client)
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-CONTINUE\r\nContent-Length: 5\r\n\r\n")
        assert responses.next().status == 100
        client.sendall(b"hello")
        assert responses.next().body == b"hello"


def test_a_final_answer_instead_of_100_reaches_the_client_and_no_body_is_waited_for(wire: Wire) -> None:
    wire.raw.script = answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    head = b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    with wire.plain.open() as client:
        client.sendall(head)
        responses = Responses(client)
        answer = responses.next()
        assert (answer.status, answer.headers["connection"], responses.rest()) == (403, "close", b"")


@pytest.mark.parametrize("expected", [b"something", b"100-continue, something"])
def test_anything_else_expected_is_answered_417_and_never_reaches_the_server(wire: Wire, expected: bytes) -> None:
    with wire.plain.open() as client:
        responses = Responses(client)
        client.sendall(b"GET /expected HTTP/1.1\r\nHost: x\r\nExpect: %b\r\n\r\n" % expected)
        assert responses.next().status == 417
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert responses.next().body == b"ok", "nothing was unread: the connection goes on"
        client.sendall(b"POST /expected HTTP/1.1\r\nHost: x\r\nExpect: %b\r\nContent-Length: 5\r\n\r\n" % expected)
        answer = responses.next()
        assert (answer.status, answer.headers["connection"]) == (417, "close")
    assert b"/expected" not in wire.raw.received


# ------------------------------------------------------------------------------------------------- interim


def test_early_hints_reach_1_1_clients_in_order_and_no_1_0_client(wire: Wire) -> None:
    hints = b"".join(b"HTTP/1.1 103 Early Hints\r\nLink: </%b>; rel=preload\r\n\r\n" % name for name in (b"a", b"b"))
    wire.raw.script = answering(hints + OK)
    with wire.plain.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        responses = Responses(client)
        first, second, last = (responses.next() for _ in range(3))
    assert [one.status for one in (first, second, last)] == [103, 103, 200]
    assert [one.headers["link"][:4] for one in (first, second)] == ["</a>", "</b>"]
    assert "content-length" not in first.headers
    answer = wire.plain.say(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"103" not in answer


# --------------------------------------------------------------------------------------- bodies and trailers


def test_trailers_pass_both_ways_behind_chunks(wire: Wire) -> None:
    def reading(peer: RawPeer) -> None:
        peer.read_head()
        while b"X-Sum: up\r\n\r\n" not in peer.received:
            assert peer.read_body(1)
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n")
        peer.send(b"3\r\nabc\r\n0\r\nX-Sum: down\r\n\r\n")

    wire.raw.script = reading
    ask = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: TE, close\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = wire.plain.say(ask + b"5\r\nhello\r\n0\r\nX-Sum: up\r\n\r\n")
    assert answer.endswith(b"0\r\nX-Sum: down\r\n\r\n")
    assert b"\r\nTE: trailers\r\n" in wire.raw.received
    assert wire.raw.received.endswith(b"5\r\nhello\r\n0\r\nX-Sum: up\r\n\r\n")


def test_a_trailer_that_would_frame_the_message_is_refused(wire: Wire) -> None:
    ask = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n"
    assert wire.plain.say(ask).startswith(b"HTTP/1.1 400 ")


BODYLESS = {
    "204": (b"GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", None),
    "304": (b"GET", b'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: "a"\r\n\r\n', "5"),
    "HEAD": (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"),
}


@pytest.mark.parametrize("name", BODYLESS)
def test_a_length_without_a_body_is_told_where_it_may_be_and_no_body_is_waited_for(wire: Wire, name: str) -> None:
    method, answer, length = BODYLESS[name]
    wire.raw.script = answering(answer)
    with wire.plain.open() as client:
        responses = Responses(client)
        for _ in range(2):
            client.sendall(method + b" /bodyless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert responses.next(method.decode()).headers.get("content-length") == length
    asked = [peer for peer in wire.raw.peers if b" /bodyless " in peer.received]
    assert len(asked) == 1, "the server's connection was used again"


def test_a_server_that_answers_200_early_and_reads_on_gets_the_whole_body(wire: Wire) -> None:
    may_end = threading.Event()

    def script(peer: RawPeer) -> None:
        peer.read_head()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nearly\r\n")
        body = peer.read_body(10)
        peer.send(b"a\r\n" + body + b"\r\n0\r\n\r\n")
        may_end.set()

    wire.raw.script = script
    with wire.plain.open() as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
        beginning = b""
        while not beginning.endswith(b"early\r\n"):
            piece = client.recv(1000)
            assert piece, beginning
            beginning += piece
        client.sendall(b"world")
        assert read_all(client) == b"a\r\nhelloworld\r\n0\r\n\r\n"
    assert may_end.is_set()


# -------------------------------------------------------------------------------------- connections kept

KEPT = [
    (b"HTTP/1.1", b"", True),
    (b"HTTP/1.1", b"Connection: close\r\n", False),
    (b"HTTP/1.1", b"Connection: Keep-Alive, CLOSE\r\n", False),
    (b"HTTP/1.0", b"", False),
    (b"HTTP/1.0", b"Connection: Keep-Alive\r\n", True),
    (b"HTTP/1.0", b"Connection: keep-alive, close\r\n", False),
]


@pytest.mark.parametrize(("version", "field", "is_kept"), KEPT)
def test_a_connection_is_kept_by_the_rules_of_its_version(
    wire: Wire, version: bytes, field: bytes, *, is_kept: bool
) -> None:
    ask = b"GET / %b\r\nHost: x\r\n%b\r\n" % (version, field)
    with wire.plain.open() as client:
        responses = Responses(client)
        client.sendall(ask)
        answer = responses.next()
        said = {(b"HTTP/1.1", True): None, (b"HTTP/1.0", True): "keep-alive"}.get((version, is_kept), "close")
        assert (answer.body, answer.headers.get("connection")) == (b"ok", said)
        if is_kept:
            client.sendall(ask)
            assert responses.next().body == b"ok"
        else:
            assert responses.rest() == b""


# ------------------------------------------------------------------------------------------------- targets

TARGETS = [
    (b"GET http://other.test:8080/a?b HTTP/1.1\r\nHost: other.test:8080", b"GET /a?b HTTP/1.1", "other.test:8080"),
    (b"GET http://other.test HTTP/1.1\r\nHost: other.test", b"GET / HTTP/1.1", "other.test"),
    (b"OPTIONS * HTTP/1.1\r\nHost: x", b"OPTIONS * HTTP/1.1", "x"),
    (b"OPTIONS http://other.test HTTP/1.1\r\nHost: other.test", b"OPTIONS * HTTP/1.1", "other.test"),
]


@pytest.mark.parametrize(("ask", "first", "host"), TARGETS)
def test_every_form_of_target_goes_on_in_origin_form(wire: Wire, ask: bytes, first: bytes, host: str) -> None:
    assert wire.plain.say(ask + b"\r\nConnection: close\r\n\r\n").endswith(b"\r\n\r\nok")
    told, fields = wire.sent_on()
    assert (told, fields["host"]) == (first, host)


def test_connect_is_refused_and_the_connection_closed(wire: Wire) -> None:
    ask = b"CONNECT inner.test:443 HTTP/1.1\r\nHost: inner.test:443\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = wire.plain.say(ask)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert wire.raw.received == b""


# -------------------------------------------------------------------------------------------- who, and which way

CLAIMS = (
    b"Forwarded: for=10.9.8.7\r\nVia: 1.0 first\r\nX-Forwarded-For: 10.9.8.7\r\nX-Forwarded-Proto: https\r\n"
    b"X-Request-ID: outer-1\r\n"
)


def ask_with_claims(front: Front, wire: Wire) -> tuple[Response, dict[str, str]]:
    """The answer, and the fields that the server got."""
    with front.open() as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: me.test\r\n" + CLAIMS + b"\r\n")
        answer = Responses(client).next()
    return answer, wire.sent_on()[1]


def test_of_a_stranger_the_server_is_told_what_we_know_and_a_name_of_our_own(wire: Wire) -> None:
    answer, told = ask_with_claims(wire.telling, wire)
    assert told["forwarded"] == 'for=127.0.0.1;proto=http;host="me.test"'
    assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert (told["via"], answer.headers["via"]) == ("1.0 first, 1.1 lb.test", "1.1 lb.test")
    assert re.fullmatch("[0-9a-f]{32}", told["x-request-id"])
    assert answer.headers["x-request-id"] == told["x-request-id"]


def test_what_a_trusted_proxy_says_goes_on_and_its_name_for_the_request_stays(wire: Wire) -> None:
    answer, told = ask_with_claims(wire.trusting, wire)
    assert told["forwarded"] == 'for=10.9.8.7, for=127.0.0.1;proto=http;host="me.test"'
    assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ("10.9.8.7, 127.0.0.1", "https")
    assert (told["x-request-id"], answer.headers["x-request-id"]) == ("outer-1", "outer-1")


def test_each_request_of_a_connection_has_a_name_of_its_own(wire: Wire) -> None:
    with wire.telling.open() as client:
        responses = Responses(client)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 5)
        names = {responses.next().headers["x-request-id"] for _ in range(5)}
    assert len(names) == 5
