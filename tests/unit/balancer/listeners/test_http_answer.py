from __future__ import annotations

import pytest
from unit.balancer.affinity.node_pins import pin_hub
from unit.balancer.exchange.http_world import CLIENT, exchange_of, make_exchanges, make_pool, moment, request, response

from mfalb.balancer.config.models import TransactionAffinity
from mfalb.balancer.exchange.http import HttpExchange, HttpExchanges, NeedBody
from mfalb.balancer.listeners.http_answer import Answer
from mfalb.balancer.listeners.http_host import FlowHost
from mfalb.wire.http_heads import RequestHead

TRANSACTIONS = TransactionAffinity(type="transaction", body_limit=100)
SIGN_IN = (
    b'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><PfAuthUser_4>'
    b"<username>alice</username></PfAuthUser_4></s:Body></s:Envelope>"
)


class Client(FlowHost):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""

    def write(self, data: bytes) -> None:
        self.out += data

    @property
    def is_paused(self) -> bool:
        return False

    def request_head(self, head: RequestHead) -> None: ...

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: list[bytes]) -> None: ...

    def pause_for_upstream(self) -> None: ...

    def resume_for_upstream(self) -> None: ...

    def begin_tunnel(self) -> None: ...

    def end_tunnel(self, *, is_half: bool) -> None: ...

    def flow_ended(self, *, keep_alive: bool) -> None: ...

    def abort(self) -> None: ...


class Case:
    def __init__(self, exchanges: HttpExchanges, exchange: HttpExchange) -> None:
        self.client = Client()
        self.answer = Answer(self.client, exchanges, moment())
        self.exchange = exchange

    @property
    def out(self) -> bytes:
        return self.client.out

    def begin(self, *lines: str, status: str = "200 OK", may_keep: bool = True) -> None:
        method = self.exchange.head.method
        self.answer.begin(response(*lines, status=status, method=method), self.exchange, may_keep=may_keep)


def case(head: RequestHead | None = None) -> Case:
    exchanges = make_exchanges({"web": make_pool()})
    decision = exchanges.begin(head or request(), CLIENT, moment())
    return Case(exchanges, exchange_of(decision))


def sign_in() -> Case:
    """An exchange whose answer may begin a transaction."""
    exchanges = make_exchanges({"web": make_pool(affinity=TRANSACTIONS)}, pins=pin_hub(10))
    head = request("Content-Type: text/xml", f"Content-Length: {len(SIGN_IN)}", method="POST")
    decision = exchanges.begin(head, CLIENT, moment())
    assert isinstance(decision, NeedBody)
    return Case(exchanges, exchange_of(exchanges.with_body(decision.exchange, SIGN_IN, moment())))


def test_a_body_of_known_length_passes_as_it_comes() -> None:
    told = case()
    told.begin("Content-Length: 4")
    assert told.answer.is_released
    for piece in (b"ab", b"cd"):
        assert told.answer.body(piece, told.exchange)
    told.answer.end([])
    assert told.out == b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd"
    assert told.answer.is_kept_alive


def test_a_chunked_body_is_framed_anew_with_its_trailers() -> None:
    told = case()
    told.begin("Transfer-Encoding: chunked")
    told.answer.body(b"hello", told.exchange)
    told.answer.end([b"X-Sum: 5\r\n"])
    head, _, body = told.out.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"


def test_a_client_of_1_0_gets_a_chunked_answer_plain_and_its_end_by_the_close() -> None:
    told = case(request("Connection: keep-alive", version="1.0"))
    told.begin("Transfer-Encoding: chunked")
    told.answer.body(b"hello", told.exchange)
    told.answer.end([])
    head, _, body = told.out.partition(b"\r\n\r\n")
    assert (b"chunked" in head, b"Connection: close" in head, body) == (False, True, b"hello")
    assert not told.answer.is_kept_alive


def test_an_answer_that_ends_with_its_connection_is_chunked_for_a_client_of_1_1() -> None:
    told = case()
    told.begin()
    told.answer.body(b"hello", told.exchange)
    told.answer.end([])
    head, _, body = told.out.partition(b"\r\n\r\n")
    assert (b"Transfer-Encoding: chunked" in head, body) == (True, b"5\r\nhello\r\n0\r\n\r\n")
    assert told.answer.is_kept_alive


def test_to_head_the_framing_is_told_and_no_last_chunk_follows() -> None:
    told = case(request(method="HEAD"))
    told.begin("Transfer-Encoding: chunked")
    told.answer.end([])
    assert told.out.endswith(b"Transfer-Encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(("version", "is_told"), [("1.1", True), ("1.0", False)])
def test_interim_answers_are_for_clients_that_know_them(version: str, is_told: bool) -> None:
    told = case(request(version=version))
    told.answer.interim(response("Link: </a>", status="103 Early Hints"), told.exchange.head)
    assert (told.out == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") is is_told
    assert (told.out == b"") is not is_told
    assert not told.answer.is_released


def test_a_client_whose_connection_ends_is_told_so() -> None:
    told = case()
    told.begin("Content-Length: 0", may_keep=False)
    assert b"\r\nConnection: close\r\n" in told.out


def test_an_answer_that_may_begin_a_transaction_is_held_until_it_is_complete() -> None:
    told = sign_in()
    told.begin("Content-Length: 4")
    assert told.answer.body(b"<a/>", told.exchange)
    assert (told.out, told.answer.is_released) == (b"", False)
    told.answer.pin_changes(told.exchange, 1000.0)
    told.answer.release(told.exchange)
    assert told.answer.is_released
    assert told.out.endswith(b"\r\n\r\n<a/>")


def test_a_held_answer_past_its_limit_is_let_go_and_that_is_told_once() -> None:
    told = sign_in()
    told.begin("Transfer-Encoding: chunked")
    assert told.answer.body(b"x" * 100, told.exchange)
    assert not told.answer.body(b"y", told.exchange)
    assert told.answer.is_released
    assert told.answer.body(b"z", told.exchange)
    told.answer.end([])
    assert told.out.endswith(b"\r\n\r\n64\r\n" + b"x" * 100 + b"\r\n1\r\ny\r\n1\r\nz\r\n0\r\n\r\n")


def test_of_a_held_answer_that_was_broken_off_nothing_goes_out() -> None:
    told = sign_in()
    told.begin("Content-Length: 4")
    told.answer.body(b"<a", told.exchange)
    told.answer.forget()
    told.answer.release(told.exchange)
    assert told.out == b""


def test_a_switch_of_protocols_says_to_which() -> None:
    told = case(request("Connection: Upgrade", "Upgrade: websocket"))
    told.answer.switch(
        response("Connection: Upgrade", "Upgrade: websocket", status="101 Switching Protocols"), told.exchange
    )
    lines = told.out.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 101 Switching Protocols"
    assert b"Upgrade: websocket" in lines
    assert told.answer.is_released
