import json

import pytest
from unit.balancer.affinity.node_pins import pin_hub
from unit.balancer.exchange.http_world import (
    CLIENT,
    backend_of,
    exchange_of,
    make_exchanges,
    make_pool,
    moment,
    request,
    response,
)

from mfalb.balancer.affinity.store import Pin
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.http import Decision, Forward, HttpExchange, NeedBody, Refuse
from mfalb.wire.http_heads import RequestHead

AFFINITY = TransactionIdAffinity(
    type="transaction_id",
    answer_json=("/detail/transaction_id", "/detail/multi_challenge/*/transaction_id"),
    request_path=("/validate/polltransaction/*",),
    request_json=("/transaction_id",),
    request_query=("transaction_id",),
    request_form=("transaction_id",),
    body_limit=1000,
)
IS_JSON = "Content-Type: application/json"
FORM = "application/x-www-form-urlencoded"


def challenge(*ids: str) -> bytes:
    return json.dumps({"detail": {"multi_challenge": [{"transaction_id": one} for one in ids]}}).encode()


def post(kind: str = FORM, target: str = "/validate/check") -> RequestHead:
    return request(f"Content-Type: {kind}", "Content-Length: 100", target=target, method="POST")


class Otp:
    """A pool with ids in JSON, and whole halves of sign-ins through it."""

    def __init__(self) -> None:
        self.pool = make_pool("web", AFFINITY, servers=3)
        self.pins = pin_hub()
        self.exchanges = make_exchanges({"web": self.pool}, pins=self.pins)

    def ask(self, body: bytes | None, head: RequestHead | None = None, now: float = 1000.0) -> Decision:
        decision = self.exchanges.begin(head or post(), CLIENT, moment(now))
        assert isinstance(decision, NeedBody)
        assert decision.limit == 1000
        return self.exchanges.with_body(decision.exchange, body, moment(now))

    def answered(self, exchange: HttpExchange, *ids: str) -> int:
        """How many pins the answer with these ids made."""
        assert self.exchanges.hold_limit(exchange, response(IS_JSON, "Content-Length: 9")) == 1000
        pins = self.exchanges.answer_held(exchange, challenge(*ids), 1000.0)
        for pin in pins:
            assert isinstance(pin, Pin)
            self.pins.put(pin, 1000.0)
        return len(pins)

    def trigger(self, *ids: str) -> str:
        """The name of the backend that gave these ids to a request without one."""
        decision = self.ask(b"user=alice")
        assert self.answered(exchange_of(decision), *ids) == len(ids)
        return backend_of(decision)


def test_answers_to_challenges_come_back_to_the_server_that_asked_in_any_order() -> None:
    otp = Otp()
    begun = {f"id{n}": otp.trigger(f"id{n}") for n in range(9)}
    assert set(begun.values()) == {"b1", "b2", "b3"}
    for number in (4, 8, 0, 1, 7, 3, 2, 6, 5):
        decision = otp.ask(f"transaction_id=id{number}&pass=1".encode())
        assert (backend_of(decision), exchange_of(decision).found.letter) == (begun[f"id{number}"], "V")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        (post(), b"transaction_id=17"),
        (post("application/json"), b'{"transaction_id": "17"}'),
        (post("text/plain", "/validate/check?transaction_id=17"), None),
        (request(target="/validate/check?transaction_id=17"), b""),
        (request(target="/validate/polltransaction/17"), b""),
    ],
)
def test_an_id_is_found_wherever_it_may_stand(head: RequestHead, body: bytes | None) -> None:
    otp = Otp()
    otp.trigger("16")
    begun = otp.trigger("17")
    assert [backend_of(otp.ask(body, head)) for _ in range(3)] == [begun] * 3


def test_every_id_of_an_answer_is_pinned() -> None:
    otp = Otp()
    begun = otp.trigger("1", "2", "3")
    otp.trigger("4")
    assert {backend_of(otp.ask(f"transaction_id={n}".encode())) for n in (3, 1, 2)} == {begun}


def test_a_challenge_that_follows_another_is_pinned_to_the_same_server() -> None:
    otp = Otp()
    begun = otp.trigger("1")
    second = otp.ask(b"transaction_id=1")
    assert otp.answered(exchange_of(second), "2") == 1
    assert backend_of(otp.ask(b"transaction_id=2")) == begun


def test_what_continues_a_transaction_of_a_dead_server_is_refused_and_given_to_nobody() -> None:
    otp = Otp()
    otp.pool.observe(otp.trigger("17"), is_good=False, reason="test", now=0.0)
    decision = otp.ask(b"transaction_id=17")
    assert isinstance(decision, Refuse)
    assert decision.refusal is refusals.PINNED_DOWN


def test_an_answer_to_a_challenge_is_sent_once_though_it_is_a_get() -> None:
    otp = Otp()
    otp.trigger("17")
    head = request(target="/validate/check?transaction_id=17")
    assert not exchange_of(otp.ask(b"", head)).may_be_sent_twice


def test_an_unknown_id_goes_to_the_server_that_every_node_would_choose() -> None:
    chosen = set()
    for turns in range(4):
        otp = Otp()
        for _ in range(turns):
            otp.ask(b"user=x")
        decision = otp.ask(b"transaction_id=99")
        chosen.add(backend_of(decision))
        assert exchange_of(decision).found.letter == "I"
    assert len(chosen) == 1


def test_a_pin_is_forgotten_after_its_lifetime() -> None:
    otp = Otp()
    otp.trigger("17")
    assert exchange_of(otp.ask(b"transaction_id=17", now=1299.0)).found.letter == "V"
    assert exchange_of(otp.ask(b"transaction_id=17", now=1301.0)).found.letter == "I"


@pytest.mark.parametrize(
    "head",
    [
        request(),
        request(target="/static/app.js?v=3"),
        post("multipart/form-data; boundary=x"),
        request("Content-Type: text/html"),
    ],
)
def test_what_cannot_bring_an_id_goes_on_without_its_body(head: RequestHead) -> None:
    decision = Otp().exchanges.begin(head, CLIENT, moment())
    assert isinstance(decision, Forward)
    assert exchange_of(decision).found.letter == "N"


@pytest.mark.parametrize(
    ("lines", "limit"),
    [
        ([IS_JSON], 1000),
        (["content-type:application/json; charset=utf-8"], 1000),
        ([IS_JSON, "Content-Encoding: gzip"], 0),
        (["Content-Type: text/html"], 0),
        ([], 0),
    ],
)
def test_only_answers_in_json_that_can_be_read_are_held(lines: list[str], limit: int) -> None:
    otp = Otp()
    exchange = exchange_of(otp.ask(b"user=alice"))
    assert otp.exchanges.hold_limit(exchange, response(*lines, "Content-Length: 9")) == limit


@pytest.mark.parametrize(("target", "is_asked_for"), [("/validate/check?user=a", False), ("/static/app.js", True)])
def test_no_compression_is_asked_for_where_the_answer_may_have_to_be_read(target: str, *, is_asked_for: bool) -> None:
    exchanges = Otp().exchanges
    exchange = exchange_of(exchanges.begin(request("Accept-Encoding: gzip", target=target), CLIENT, moment()))
    assert (b"Accept-Encoding" in exchanges.upstream_head(exchange)) is is_asked_for


def test_the_key_of_an_id_in_a_target_is_asked_of_other_nodes_too() -> None:
    otp = Otp()
    decision = otp.exchanges.begin(request(target="/validate/polltransaction/17"), CLIENT, moment())
    assert isinstance(decision, NeedBody)
    assert len(otp.exchanges.missing_keys(decision.exchange, b"", moment())) == 1


def test_an_answer_without_ids_begins_nothing() -> None:
    otp = Otp()
    exchange = exchange_of(otp.ask(b"user=alice"))
    for body in (b"", b"<html>", b'{"detail": {"message": "wrong otp pin"}}', b'{"detail": {"transaction_id": null}}'):
        assert otp.exchanges.answer_held(exchange, body, 1000.0) == ()
    assert exchange.given == "N"


def test_a_path_is_shown_without_the_id_in_it() -> None:
    affinity = exchange_of(Otp().ask(b"", request(target="/validate/polltransaction/17"))).affinity
    assert affinity.shown_path(b"/validate/polltransaction/17") == b"/validate/polltransaction/*"
