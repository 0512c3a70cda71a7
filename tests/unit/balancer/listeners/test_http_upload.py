from __future__ import annotations

from mfalb.balancer.listeners.http_pace import GRACE_S
from mfalb.balancer.listeners.http_upload import PENDING_LIMIT, Upload
from mfalb.wire.http_fields import Framing


def test_a_request_without_a_body_is_done_at_once_and_sends_nothing() -> None:
    upload = Upload(Framing.NONE, 100, 0.0)
    assert (upload.is_done, upload.take_kept(), upload.ending) == (True, b"", b"")
    assert not upload.is_too_slow(1_000_000.0, is_paused=False)


def test_what_came_before_there_was_a_backend_goes_out_once_and_in_order() -> None:
    upload = Upload(Framing.LENGTH, 100, 0.0)
    for piece in (b"one", b"two"):
        upload.keep(piece)
    assert upload.kept == b"onetwo"
    assert [upload.take_kept(), upload.take_kept()] == [b"onetwo", b""]
    upload.end([])
    assert (upload.is_done, upload.ending) == (True, b"")


def test_a_chunked_body_is_framed_anew_with_its_end_and_trailers_exactly_once() -> None:
    before, after = Upload(Framing.CHUNKED, 100, 0.0), Upload(Framing.CHUNKED, 100, 0.0)
    before.keep(b"hello")
    before.end([b"X-Sum: 5\r\n"])
    assert before.take_kept() == b"5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"
    assert after.take_kept() == b""
    out = after.framed(b"hi")
    after.end([])
    assert out + after.ending == b"2\r\nhi\r\n0\r\n\r\n"


def test_no_more_is_kept_than_the_limit_and_room_is_there_again_when_it_went_out() -> None:
    upload = Upload(Framing.LENGTH, 100, 0.0)
    upload.keep(bytes(PENDING_LIMIT))
    assert not upload.is_full
    upload.keep(b"x")
    assert upload.is_full
    upload.take_kept()
    assert not upload.is_full


def test_a_body_is_past_collecting_with_the_first_byte_above_the_limit() -> None:
    upload = Upload(Framing.LENGTH, 100, 0.0)
    upload.collect_limit = 4
    upload.keep(b"1234")
    assert not upload.is_past_collecting
    upload.keep(b"5")
    assert upload.is_past_collecting


def test_a_body_has_a_pace_to_keep_until_it_is_done() -> None:
    upload = Upload(Framing.LENGTH, 100, 0.0)
    upload.count(50)
    assert upload.size == 50
    assert not upload.is_too_slow(GRACE_S, is_paused=False)
    assert upload.is_too_slow(GRACE_S + 1, is_paused=False)
    upload.end([])
    assert not upload.is_too_slow(GRACE_S + 9, is_paused=False)
