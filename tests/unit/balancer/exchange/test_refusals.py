from __future__ import annotations

import pytest
from unit.balancer.exchange.http_world import GatheredResponses

from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.wire.http import ResponseReader

ALL = [value for value in vars(refusals).values() if isinstance(value, Refusal)]


def read(data: bytes, method: bytes) -> bytes:
    """The body of a whole response; fails when bytes are left over."""
    gathered = GatheredResponses()
    reader = ResponseReader(gathered)
    reader.expect(method)
    reader.feed_untrusted(data)
    assert len(gathered.heads) == 1
    return b"".join(gathered.bodies)


@pytest.mark.parametrize("refusal", ALL, ids=lambda refusal: refusal.reason)
@pytest.mark.parametrize("is_keep_alive", [True, False])
def test_every_refusal_is_a_whole_answer_that_no_cache_keeps(refusal: Refusal, *, is_keep_alive: bool) -> None:
    data = refusal.answer(is_keep_alive=is_keep_alive)
    assert data.startswith(f"HTTP/1.1 {refusal.status.value} ".encode())
    assert read(data, b"GET") == refusal.text.encode() + b"\n"
    assert b"Cache-Control: no-store\r\n" in data
    assert (b"Connection: close\r\n" in data) is not is_keep_alive


@pytest.mark.parametrize("refusal", ALL, ids=lambda refusal: refusal.reason)
def test_a_refusal_of_head_has_the_same_head_and_no_body(refusal: Refusal) -> None:
    whole, head = (refusal.answer(is_keep_alive=True, is_for_head=is_head) for is_head in (False, True))
    assert whole.startswith(head)
    assert head.endswith(b"\r\n\r\n")
    assert read(head, b"HEAD") == b""


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("header_bytes", 431), ("header_count", 431), ("connect", 405), ("http_version", 505),
        ("dot_segments", 400), ("http_syntax", 400), ("length_and_chunked", 400),
    ],
)  # fmt: skip
def test_what_cannot_be_read_gets_the_status_that_says_why(reason: str, status: int) -> None:
    refusal = refusals.malformed(reason)
    assert (refusal.status.value, refusal.reason) == (status, reason)


def test_only_refusals_that_may_pass_by_waiting_ask_to_come_again() -> None:
    assert {refusal.reason for refusal in ALL if refusal.retry_after_s} == {
        "no_backend", "backend_refused", "queue_full", "queue_timeout", "connection_limit", "source_connection_limit",
    }  # fmt: skip
