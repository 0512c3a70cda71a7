from __future__ import annotations

import pytest
from unit.balancer.exchange.http_world import CLIENT, request

from mfalb.balancer.config.http_models import RequestId
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.request_ids import RequestIds

BELIEVED = ClientFacts("192.0.2.7", is_tls=True, is_trusted=True)
ENTROPY = bytes(range(16))
DRAWN = b"000102030405060708090a0b0c0d0e0f"


@pytest.mark.parametrize("client", [CLIENT, BELIEVED], ids=["a stranger", "a trusted proxy"])
def test_a_request_without_a_name_gets_one(client: ClientFacts) -> None:
    assert RequestIds(RequestId()).id_for(request(), client, ENTROPY) == DRAWN


@pytest.mark.parametrize(
    ("client", "given", "expected"),
    [
        (CLIENT, "outer-1", DRAWN),
        (BELIEVED, "outer-1", b"outer-1"),
        (BELIEVED, "A.b_c:d@e/f+g=", b"A.b_c:d@e/f+g="),
        (BELIEVED, "x" * 128, b"x" * 128),
        (BELIEVED, "x" * 129, DRAWN),
        (BELIEVED, "two words", DRAWN),
        (BELIEVED, 'a"b', DRAWN),
        (BELIEVED, "caf\u00e9", DRAWN),
    ],
)
def test_a_name_that_came_is_kept_from_a_trusted_proxy_if_it_can_break_no_log_line(
    client: ClientFacts, given: str, expected: bytes
) -> None:
    head = request(f"x-REQUEST-id: {given}", "X-Request-ID-Too: kept")
    assert RequestIds(RequestId()).id_for(head, client, ENTROPY) == expected
    assert head.lines == [b"X-Request-ID-Too: kept\r\n"], "the backend is told one name, ours"


def test_a_name_that_came_twice_is_told_once() -> None:
    head = request("X-Request-ID: one", "x-request-id: two")
    assert RequestIds(RequestId()).id_for(head, BELIEVED, ENTROPY) == b"one"
    assert head.lines == []


def test_the_name_stands_in_the_field_that_was_asked_for() -> None:
    ids = RequestIds(RequestId(header="X-Trace"))
    head = request("x-trace: outer", "X-Request-ID: theirs")
    assert ids.id_for(head, BELIEVED, ENTROPY) == b"outer"
    assert head.lines == [b"X-Request-ID: theirs\r\n"]
    assert ids.line(b"outer") == b"X-Trace: outer\r\n"


@pytest.mark.parametrize(("is_told", "expected"), [(True, b"X-Request-ID: a\r\n"), (False, b"")])
def test_the_client_is_told_unless_that_was_turned_off(*, is_told: bool, expected: bytes) -> None:
    assert RequestIds(RequestId(answer=is_told)).answer_line(b"a") == expected
