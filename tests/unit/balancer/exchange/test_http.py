from __future__ import annotations

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
)

from mfalb.balancer.config.models import CookieAffinity, HttpListener, Route
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.http import Forward, HttpExchanges, NeedBody, Refuse
from mfalb.balancer.pools.backend import AdminState
from mfalb.errors import MalformedMessage


def test_requests_without_a_pin_take_turns() -> None:
    exchanges = make_exchanges({"web": make_pool()})
    assert [backend_of(exchanges.begin(request(), CLIENT, moment())) for _ in range(4)] == ["b1", "b2", "b1", "b2"]


def test_a_request_no_route_leads_anywhere_for_is_refused_as_not_found() -> None:
    exchanges = make_exchanges({"web": make_pool()}, [Route(path="/pa", pool="web")])
    decision = exchanges.begin(request(target="/other"), CLIENT, moment())
    assert isinstance(decision, Refuse)
    assert decision.refusal is refusals.NO_ROUTE


def test_the_host_is_compared_without_its_port_and_case() -> None:
    exchanges = make_exchanges({"web": make_pool()}, [Route(host="mfa.contoso.com", pool="web")])
    assert backend_of(exchanges.begin(request("Host: MFA.Contoso.com:8443"), CLIENT, moment())) == "b1"


def test_a_path_with_dot_segments_is_no_request() -> None:
    with pytest.raises(MalformedMessage, match="dot_segments"):
        make_exchanges({"web": make_pool()}).begin(request(target="/pa/..%2fx"), CLIENT, moment())


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_refused_before_it_was_sent_goes_to_another_backend(method: str) -> None:
    exchanges = make_exchanges({"web": make_pool()})
    first = exchanges.begin(request(method=method), CLIENT, moment())
    assert isinstance(first, Forward)
    second = exchanges.refused(first.exchange, first.backend)
    assert {backend_of(first), backend_of(second)} == {"b1", "b2"}


def test_a_request_refused_by_every_backend_is_refused_itself() -> None:
    exchanges = make_exchanges({"web": make_pool()})
    decision = exchanges.begin(request(), CLIENT, moment())
    for _ in range(2):
        assert isinstance(decision, Forward)
        decision = exchanges.refused(decision.exchange, decision.backend)
    assert isinstance(decision, Refuse)
    assert decision.refusal is refusals.REFUSED_EVERYWHERE


def test_a_retry_takes_nobody_s_turn() -> None:
    exchanges = make_exchanges({"web": make_pool(servers=3)})
    first = exchanges.begin(request(), CLIENT, moment())
    assert isinstance(first, Forward)
    exchanges.refused(first.exchange, first.backend)
    assert [backend_of(exchanges.begin(request(), CLIENT, moment())) for _ in range(3)] == ["b2", "b3", "b1"]


def test_with_no_backend_up_a_request_is_refused_as_unavailable() -> None:
    pool = make_pool()
    for name in pool.backends:
        pool.observe(name, is_good=False, reason="test", now=0.0)
    decision = make_exchanges({"web": pool}).begin(request(), CLIENT, moment())
    assert isinstance(decision, Refuse)
    assert decision.refusal is refusals.NO_BACKEND


def test_a_draining_backend_takes_new_work_only_when_nobody_else_is_up() -> None:
    pool = make_pool()
    exchanges = make_exchanges({"web": pool})
    pool.set_admin_state("b1", AdminState.DRAIN, 0.0)
    assert {backend_of(exchanges.begin(request(), CLIENT, moment())) for _ in range(4)} == {"b2"}
    pool.observe("b2", is_good=False, reason="test", now=0.0)
    assert {backend_of(exchanges.begin(request(), CLIENT, moment())) for _ in range(4)} == {"b1"}


@pytest.mark.parametrize(
    ("method", "expected"),
    [("GET", True), ("HEAD", True), ("OPTIONS", True), ("POST", False), ("PUT", False), ("DELETE", False)],
)
def test_only_harmless_methods_may_be_sent_twice_and_an_otp_post_never(method: str, *, expected: bool) -> None:
    decision = make_exchanges({"web": make_pool()}).begin(request(method=method), CLIENT, moment())
    assert exchange_of(decision).may_be_sent_twice is expected


def test_without_affinity_no_body_is_asked_for_and_nothing_is_held_or_added() -> None:
    exchanges = make_exchanges({"web": make_pool()})
    head = request("Content-Type: text/xml", "Content-Length: 5", method="POST")
    decision = exchanges.begin(head, CLIENT, moment())
    assert not isinstance(decision, NeedBody)
    assert exchanges.answer_lines(exchange_of(decision), moment()) == b""


def test_cookie_affinity_without_keys_is_a_mistake_that_stops_the_start() -> None:
    pool = make_pool("web", CookieAffinity(type="cookie"))
    config = HttpListener(name="l", protocol="http", bind=(Address("192.0.2.9", 80),), routes=(Route(pool="web"),))
    with pytest.raises(ValueError, match="cookie keys"):
        HttpExchanges(config, {"web": pool}, pin_hub(1), None)


@pytest.mark.parametrize("value", ["100-continue", "100-Continue", " 100-continue , 100-continue"])
def test_100_continue_goes_on_to_the_backend_in_one_form(value: str) -> None:
    exchanges = make_exchanges({"web": make_pool()})
    asked = request(f"Expect: {value}", "Content-Length: 5", method="POST")
    exchange = exchange_of(exchanges.begin(asked, CLIENT, moment()))
    assert exchanges.upstream_head(exchange).count(b"\r\nExpect: 100-continue\r\n") == 1


@pytest.mark.parametrize("value", ["meaning=unknown", "100-continue, more", "100-continued", "200-ok"])
def test_anything_else_that_is_expected_fails(value: str) -> None:
    decision = make_exchanges({"web": make_pool()}).begin(request(f"Expect: {value}"), CLIENT, moment())
    assert isinstance(decision, Refuse)
    assert decision.refusal is refusals.EXPECTATION_FAILED


@pytest.mark.parametrize(
    ("value", "version"), [("100-continue", "1.0"), ("anything", "1.0"), ("", "1.1"), (",", "1.1")]
)
def test_what_a_1_0_client_or_nobody_expects_is_ignored(value: str, version: str) -> None:
    exchanges = make_exchanges({"web": make_pool()})
    exchange = exchange_of(exchanges.begin(request(f"Expect: {value}", version=version), CLIENT, moment()))
    assert b"expect" not in exchanges.upstream_head(exchange).lower()
