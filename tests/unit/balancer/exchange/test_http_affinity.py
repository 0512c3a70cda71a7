from __future__ import annotations

import pytest
from unit.balancer.affinity.node_pins import pin_hub
from unit.balancer.exchange.http_world import (
    CLIENT,
    KEY,
    backend_of,
    exchange_of,
    make_exchanges,
    make_pool,
    moment,
    request,
    response,
)

from mfalb.balancer.affinity.cookie import CookiePin, CookieSealer
from mfalb.balancer.affinity.store import Pin, PinEnd
from mfalb.balancer.config.models import CookieAffinity, TransactionAffinity
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.http import Decision, Forward, HttpExchange, HttpExchanges, NeedBody, Refuse
from mfalb.balancer.pools.pool import Pool
from mfalb.wire.http_heads import RequestHead

IDLE_S, LIFE_S = 1800.0, 43_200.0
COOKIE = CookieAffinity(type="cookie", name="mfalb", path="/pa", idle_timeout_s=IDLE_S, max_life_s=LIFE_S)
TRANSACTION = TransactionAffinity(type="transaction", body_limit=1000, lifetime_s=300.0)
START = 1_700_000_000.0

# ------------------------------------------------------------------------------------------ cookies


def cookie(backend: str = "b2", issued: float = START, used: float = START, pool: str = "web", key: bytes = KEY) -> str:
    """A Cookie header line with one of our cookies between two others."""
    value = CookieSealer([key]).seal(pool, CookiePin(backend, int(issued), int(used)), bytes(12))
    return f"Cookie: first=1; mfalb={value}; last=2"


def portal() -> tuple[Pool, HttpExchanges]:
    pool = make_pool("web", COOKIE)
    return pool, make_exchanges({"web": pool})


def set_cookie_of(exchanges: HttpExchanges, exchange: HttpExchange, now: float) -> str | None:
    """The value of our Set-Cookie line; None when there is none."""
    lines = exchanges.answer_lines(exchange, moment(now)).decode()
    if not lines:
        return None
    assert lines.count("\r\n") == 2
    assert 'Cache-Control: no-cache="Set-Cookie"\r\n' in lines
    return lines.partition("Set-Cookie: ")[2].partition("\r\n")[0]


def opened(header: str | None) -> CookiePin:
    assert header is not None
    pin = CookieSealer([KEY]).open_untrusted("web", header.partition("=")[2].partition(";")[0].encode())
    assert pin is not None
    return pin


def test_a_session_without_a_cookie_is_balanced_and_gets_one_for_who_answered() -> None:
    _, exchanges = portal()
    exchange = exchange_of(exchanges.begin(request(), CLIENT, moment(START)))
    assert exchange.found.letter == "N"
    header = set_cookie_of(exchanges, exchange, START)
    assert opened(header) == CookiePin("b1", int(START), int(START))
    assert header is not None
    assert [part.strip() for part in header.split(";")[1:]] == ["Path=/pa", "HttpOnly", "SameSite=Lax"]


@pytest.mark.parametrize(
    ("line", "letter"),
    [
        ("Cookie: other=1", "N"),
        (cookie(), "V"),
        (cookie(used=START - IDLE_S + 1), "V"),
        (cookie(used=START - IDLE_S - 1, issued=START - IDLE_S - 1), "E"),
        (cookie(issued=START - LIFE_S - 1), "O"),
        (cookie(used=START + 90_000), "I"),
        (cookie(pool="another"), "I"),
        (cookie(key=bytes(32)), "I"),
        ("Cookie: mfalb=b2", "I"),
        ("Cookie: mfalb=", "I"),
        ("Cookie: mfalb=" + "A" * 2000, "I"),
        (cookie("b9"), "D"),
    ],
)
def test_the_letter_says_what_the_cookie_was(line: str, letter: str) -> None:
    _, exchanges = portal()
    exchange = exchange_of(exchanges.begin(request(line), CLIENT, moment(START)))
    assert exchange.found.letter == letter
    if letter == "V":
        assert exchange.backend is not None
        assert exchange.backend.name == "b2"
    else:
        assert set_cookie_of(exchanges, exchange, START) is not None


def test_a_session_stays_whoever_is_next_in_turn() -> None:
    _, exchanges = portal()
    assert {backend_of(exchanges.begin(request(cookie("b2")), CLIENT, moment(START))) for _ in range(6)} == {"b2"}


def test_a_cookie_is_renewed_after_a_tenth_of_its_idle_time_and_keeps_its_beginning() -> None:
    _, exchanges = portal()
    for age, is_renewed in ((0.0, False), (IDLE_S / 10 - 1, False), (IDLE_S / 10 + 1, True)):
        exchange = exchange_of(exchanges.begin(request(cookie()), CLIENT, moment(START + age)))
        header = set_cookie_of(exchanges, exchange, START + age)
        assert (header is not None) is is_renewed
        if is_renewed:
            assert opened(header) == CookiePin("b2", int(START), int(START + age))


def test_a_session_whose_server_is_down_moves_and_its_cookie_begins_anew() -> None:
    pool, exchanges = portal()
    pool.observe("b2", is_good=False, reason="test", now=0.0)
    exchange = exchange_of(exchanges.begin(request(cookie("b2")), CLIENT, moment(START + 5)))
    assert exchange.found.letter == "D"
    assert opened(set_cookie_of(exchanges, exchange, START + 5)) == CookiePin("b1", int(START + 5), int(START + 5))


def test_a_session_whose_server_refuses_moves_to_the_other_one() -> None:
    _, exchanges = portal()
    first = exchanges.begin(request(cookie("b2")), CLIENT, moment(START))
    assert isinstance(first, Forward)
    assert backend_of(exchanges.refused(first.exchange, first.backend)) == "b1"
    assert opened(set_cookie_of(exchanges, first.exchange, START)).backend == "b1"


def test_the_backend_never_sees_our_cookie_and_sees_all_others() -> None:
    _, exchanges = portal()
    exchange = exchange_of(exchanges.begin(request(cookie()), CLIENT, moment(START)))
    head = exchanges.upstream_head(exchange)
    assert b"Cookie: first=1; last=2\r\n" in head
    assert b"mfalb" not in head


def test_a_header_with_our_cookie_alone_disappears() -> None:
    _, exchanges = portal()
    line = "Cookie: " + cookie().partition("; ")[2].partition(";")[0]
    exchange = exchange_of(exchanges.begin(request(line), CLIENT, moment(START)))
    assert exchange.found.letter == "V"
    assert b"Cookie:" not in exchanges.upstream_head(exchange)


# -------------------------------------------------------------------------------------- transactions


def soap(**texts: str) -> bytes:
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in texts.items())
    return (
        f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><PfAuthUser_4>{inner}'
        "</PfAuthUser_4></s:Body></s:Envelope>"
    ).encode()


def post(*lines: str, kind: str = "text/xml; charset=utf-8") -> RequestHead:
    return request(f"Content-Type: {kind}", "Content-Length: 100", *lines, method="POST")


class Sdk:
    """A transaction pool and whole halves of sign-ins through it."""

    def __init__(self) -> None:
        self.pool = make_pool("web", TRANSACTION, servers=3)
        self.pins = pin_hub(100)
        self.exchanges = make_exchanges({"web": self.pool}, pins=self.pins)

    def ask(self, body: bytes | None, now: float = 1000.0) -> Decision:
        decision = self.exchanges.begin(post(), CLIENT, moment(now))
        assert isinstance(decision, NeedBody)
        assert decision.limit == 1000
        return self.exchanges.with_body(decision.exchange, body, moment(now))

    def first_half(self, user: str, request_id: str, now: float = 1000.0) -> str:
        """Asks, is answered with an id, stores the pin; returns the backend's name."""
        decision = self.ask(soap(username=user), now)
        exchange = exchange_of(decision)
        assert self.exchanges.hold_limit(exchange, response("Content-Length: 9")) == 1000
        (pin,) = self.exchanges.answer_held(exchange, soap(authreqid=request_id), now)
        assert isinstance(pin, Pin)
        self.pins.put(pin, now)
        return backend_of(decision)

    @property
    def open(self) -> int:
        """Transactions that have not ended, at their middle."""
        return sum(left.count for left in self.pins.by_backend(1100.0).values())


def test_both_halves_of_a_transaction_meet_the_same_server_in_any_order() -> None:
    sdk = Sdk()
    begun = {f"user{n}": sdk.first_half(f"user{n}", str(n)) for n in range(9)}
    assert set(begun.values()) == {"b1", "b2", "b3"}
    for number in (4, 8, 0, 1, 7, 3, 2, 6, 5):
        decision = sdk.ask(soap(username=f"user{number}", authreqid=str(number)))
        assert backend_of(decision) == begun[f"user{number}"]
        assert exchange_of(decision).found.letter == "V"


def test_the_same_id_of_two_users_means_two_transactions() -> None:
    sdk = Sdk()
    begun = {user: sdk.first_half(user, "7") for user in ("alice", "bob")}
    assert begun["alice"] != begun["bob"]
    for user, name in begun.items():
        assert backend_of(sdk.ask(soap(username=user, authreqid="7"))) == name


def test_a_user_name_means_the_same_in_other_letters() -> None:
    sdk = Sdk()
    name = sdk.first_half("CONTOSO\\Alice", "7")
    assert backend_of(sdk.ask(soap(username="contoso\\ALICE", authreqid="7"))) == name


def test_a_second_half_whose_server_is_down_is_refused_and_given_to_nobody() -> None:
    sdk = Sdk()
    sdk.pool.observe(sdk.first_half("alice", "7"), is_good=False, reason="test", now=0.0)
    decision = sdk.ask(soap(username="alice", authreqid="7"))
    assert isinstance(decision, Refuse)
    assert decision.refusal is refusals.PINNED_DOWN
    assert decision.refusal.status.value == 503


def test_a_second_half_whose_server_refuses_is_given_to_nobody_either() -> None:
    sdk = Sdk()
    sdk.first_half("alice", "7")
    decision = sdk.ask(soap(username="alice", authreqid="7"))
    assert isinstance(decision, Forward)
    again = sdk.exchanges.refused(decision.exchange, decision.backend)
    assert isinstance(again, Refuse)
    assert again.refusal is refusals.PINNED_DOWN


def test_an_id_nobody_knows_goes_to_the_server_that_every_node_would_choose() -> None:
    chosen = set()
    for turns in range(4):
        sdk = Sdk()
        for _ in range(turns):
            sdk.ask(soap(username="x"))
        decision = sdk.ask(soap(username="alice", authreqid="99"))
        chosen.add(backend_of(decision))
        assert exchange_of(decision).found.letter == "I"
    assert len(chosen) == 1


def test_a_pin_is_forgotten_after_its_lifetime() -> None:
    sdk = Sdk()
    sdk.first_half("alice", "7", now=1000.0)
    assert exchange_of(sdk.ask(soap(username="alice", authreqid="7"), 1299.0)).found.letter == "V"
    assert exchange_of(sdk.ask(soap(username="alice", authreqid="7"), 1301.0)).found.letter == "I"


def test_a_body_past_the_limit_is_balanced_and_its_answer_is_not_held() -> None:
    sdk = Sdk()
    exchange = exchange_of(sdk.ask(None))
    assert sdk.exchanges.hold_limit(exchange, response("Content-Length: 9")) == 0


@pytest.mark.parametrize("body", [b"", b"not xml", b"<a/>", soap(other="x"), b"<!DOCTYPE x [<!ENTITY a 'b'>]><x/>"])
def test_a_body_that_names_no_user_is_balanced_and_its_answer_is_not_held(body: bytes) -> None:
    sdk = Sdk()
    assert len({backend_of(sdk.ask(body)) for _ in range(3)}) == 3
    assert sdk.exchanges.hold_limit(exchange_of(sdk.ask(body)), response("Content-Length: 9")) == 0


@pytest.mark.parametrize(("result", "is_ended"), [("true", True), ("false", False)])
def test_a_second_half_s_answer_is_held_until_it_says_whether_the_transaction_has_ended(
    result: str, *, is_ended: bool
) -> None:
    sdk = Sdk()
    name = sdk.first_half("alice", "7")
    decision = sdk.ask(soap(username="alice", authreqid="7"), 1010.0)
    exchange = exchange_of(decision)
    assert sdk.exchanges.hold_limit(exchange, response("Content-Length: 9")) == 1000
    body = b"<Envelope><Body><XResponse><XResult>%b</XResult></XResponse></Body></Envelope>" % result.encode()
    changes = sdk.exchanges.answer_held(exchange, body, 1020.0)
    assert (len(changes), exchange.given) == (is_ended, "N")
    for change in changes:
        assert isinstance(change, PinEnd)
        assert (change.backend, change.found_at) == (name, 1010.0)
        sdk.pins.end(change, 1020.0)
    assert sdk.open == (not is_ended)
    assert backend_of(sdk.ask(soap(username="alice", authreqid="7"), 1030.0)) == name


def test_a_second_half_s_answer_is_not_held_when_it_is_a_failure_or_nobody_knew_its_pin() -> None:
    sdk = Sdk()
    sdk.first_half("alice", "7")
    exchange = exchange_of(sdk.ask(soap(username="alice", authreqid="7")))
    assert sdk.exchanges.hold_limit(exchange, response("Content-Length: 9", status="500 Fault")) == 0
    exchange = exchange_of(sdk.ask(soap(username="alice", authreqid="8")))
    assert sdk.exchanges.hold_limit(exchange, response("Content-Length: 9")) == 0


def test_a_compressed_answer_cannot_be_read_and_is_not_held() -> None:
    sdk = Sdk()
    exchange = exchange_of(sdk.ask(soap(username="alice")))
    assert sdk.exchanges.hold_limit(exchange, response("Content-Encoding: gzip", "Content-Length: 9")) == 0


def test_an_answer_without_an_id_begins_nothing() -> None:
    sdk = Sdk()
    exchange = exchange_of(sdk.ask(soap(username="alice")))
    for body in (b"", b"<html>sorry</html>", soap(PfAuthUser_4Result="true"), soap(authreqid="")):
        assert sdk.exchanges.answer_held(exchange, body, 1000.0) == ()


def test_no_compression_is_asked_for_where_the_answer_must_be_read() -> None:
    sdk = Sdk()
    decision = sdk.exchanges.begin(post("Accept-Encoding: gzip"), CLIENT, moment())
    assert isinstance(decision, NeedBody)
    forward = sdk.exchanges.with_body(decision.exchange, soap(username="alice"), moment())
    assert b"Accept-Encoding" not in sdk.exchanges.upstream_head(exchange_of(forward))


@pytest.mark.parametrize("kind", ["application/soap+xml; action=x", "TEXT/XML", "application/xml"])
def test_every_kind_of_soap_is_read(kind: str) -> None:
    assert isinstance(Sdk().exchanges.begin(post(kind=kind), CLIENT, moment()), NeedBody)


def test_pages_and_downloads_of_the_service_pass_unread() -> None:
    sdk = Sdk()
    for head in (
        request(target="/pfwssdk.asmx?wsdl"),
        post(kind="application/json"),
        request("Content-Type: text/xml"),
    ):
        assert isinstance(sdk.exchanges.begin(head, CLIENT, moment()), Forward)


def test_the_key_of_a_second_half_is_missing_until_this_node_knows_its_pin() -> None:
    sdk, body = Sdk(), soap(username="alice", authreqid="7")
    decision = sdk.exchanges.begin(post(), CLIENT, moment())
    assert isinstance(decision, NeedBody)
    (key,) = sdk.exchanges.missing_keys(decision.exchange, body, moment())
    sdk.pins.put(Pin(key, "b2", 2000.0), 1000.0)
    assert sdk.exchanges.missing_keys(decision.exchange, body, moment()) == ()
    assert backend_of(sdk.exchanges.with_pin(decision.exchange)) == "b2"
    assert backend_of(sdk.exchanges.with_body(decision.exchange, body, moment())) == "b2"


@pytest.mark.parametrize("body", [b"", b"not xml", soap(username="alice")])
def test_what_continues_nothing_misses_no_key(body: bytes) -> None:
    sdk = Sdk()
    decision = sdk.exchanges.begin(post(), CLIENT, moment())
    assert isinstance(decision, NeedBody)
    assert sdk.exchanges.missing_keys(decision.exchange, body, moment()) == ()


def test_an_activation_comes_back_to_its_server_by_its_code_though_nobody_names_a_user() -> None:
    affinity = TransactionAffinity(
        type="transaction", id_element="ConfirmationCode", request_id_element="confirmationCode", user_element=None
    )
    pins = pin_hub(100)
    exchanges = make_exchanges({"web": make_pool("web", affinity, servers=3)}, pins=pins)

    def ask(body: bytes) -> Decision:
        decision = exchanges.begin(post(), CLIENT, moment())
        assert isinstance(decision, NeedBody)
        return exchanges.with_body(decision.exchange, body, moment())

    begun = {}
    for number in range(6):
        decision = ask(soap(ActivationCode=f"12345678{number}"))
        exchange = exchange_of(decision)
        assert exchanges.hold_limit(exchange, response("Content-Length: 9")) == 65_536
        (pin,) = exchanges.answer_held(exchange, soap(ConfirmationCode=f"code-{number}"), 1000.0)
        assert isinstance(pin, Pin)
        pins.put(pin, 1000.0)
        begun[f"code-{number}"] = backend_of(decision)
    assert set(begun.values()) == {"b1", "b2", "b3"}
    for code in ("code-4", "code-0", "code-5", "code-1", "code-2", "code-3"):
        decision = ask(soap(confirmationCode=code))
        assert (backend_of(decision), exchange_of(decision).found.letter) == (begun[code], "V")
        assert exchanges.hold_limit(exchange_of(decision), response("Content-Length: 9")) == 65_536
