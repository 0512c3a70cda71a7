import pytest

from mfalb.reference.cloud_service import outbox as outbox_module
from mfalb.reference.cloud_service.outbox import MESSAGE_LIMIT, OTHERS, Outbox, Text


def text(user: str, otp: str = "123456", sent_at: float = 0.0) -> Text:
    return Text(user, "+1 555 0101", f"Your verification code is {otp}", otp, sent_at)


def test_the_newest_text_comes_first() -> None:
    outbox = Outbox()
    first, second, third = text("alice", "1"), text("bob", "2"), text("alice", "3")
    for one in (first, second, third):
        outbox.send(one)
    assert outbox.newest_first() == [third, second, first]
    assert outbox.last_to("alice") is third
    assert outbox.last_to("bob") is second
    assert outbox.last_to("nobody") is None


def test_texts_and_calls_are_counted_apart_and_by_user() -> None:
    outbox = Outbox()
    for user in ("alice", "bob", "alice"):
        outbox.send(text(user))
    outbox.ring("bob")
    assert (outbox.texts_sent, outbox.calls_made) == ({"alice": 2, "bob": 1}, {"bob": 1})


def test_a_full_outbox_gives_up_its_oldest_text_and_counts_on() -> None:
    outbox = Outbox()
    for number in range(MESSAGE_LIMIT + 3):
        outbox.send(text("alice", str(number)))
    kept = outbox.newest_first()
    assert len(kept) == MESSAGE_LIMIT
    assert (kept[0].otp, kept[-1].otp) == (str(MESSAGE_LIMIT + 2), "3")
    assert outbox.texts_sent == {"alice": MESSAGE_LIMIT + 3}


def test_past_the_limit_new_users_are_counted_together_and_known_ones_by_themselves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox_module, "USER_LIMIT", 2)
    outbox = Outbox()
    for user in ("alice", "bob", "carol", "dave", "alice"):
        outbox.ring(user)
    assert outbox.calls_made == {"alice": 2, "bob": 1, OTHERS: 2}


def test_a_text_shows_neither_its_code_nor_its_message() -> None:
    assert "123456" not in repr(text("alice"))
