from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mfalb.reference.mfa_server.verification import OTP_LIFE_S, PENDING_LIMIT, TRIES, Outcome, PendingCodes

SENT_AT = 1000.0
RIGHT, WRONG = "123456", "654321"
LAST_MOMENT = SENT_AT + OTP_LIFE_S
TOO_LATE = LAST_MOMENT + 0.001

# Each try is (user, request id, what was typed, when); the code 123456 was sent to alice under id 7 at SENT_AT.
Try = tuple[str, str, str, float]
TABLE: dict[str, tuple[list[Try], list[Outcome]]] = {
    "a code is accepted once": (
        [("alice", "7", RIGHT, SENT_AT), ("alice", "7", RIGHT, SENT_AT)],
        [Outcome.ACCEPTED, Outcome.UNKNOWN],
    ),
    "a code may come in the last moment": ([("alice", "7", RIGHT, LAST_MOMENT)], [Outcome.ACCEPTED]),
    "a code is too late after its life, and then forgotten": (
        [("alice", "7", RIGHT, TOO_LATE), ("alice", "7", RIGHT, TOO_LATE)],
        [Outcome.EXPIRED, Outcome.UNKNOWN],
    ),
    "a wrong code that is too late is told as late": ([("alice", "7", WRONG, TOO_LATE)], [Outcome.EXPIRED]),
    "a user may be wrong twice": (
        [("alice", "7", WRONG, SENT_AT), ("alice", "7", WRONG, SENT_AT), ("alice", "7", RIGHT, SENT_AT)],
        [Outcome.WRONG, Outcome.WRONG, Outcome.ACCEPTED],
    ),
    "three wrong codes end the matter, for the right one too": (
        [("alice", "7", WRONG, SENT_AT)] * 3 + [("alice", "7", RIGHT, SENT_AT)],
        [Outcome.WRONG, Outcome.WRONG, Outcome.TOO_MANY_TRIES, Outcome.UNKNOWN],
    ),
    "an empty code is a wrong one": ([("alice", "7", "", SENT_AT)], [Outcome.WRONG]),
    "a code beyond ASCII is a wrong one": (
        [("alice", "7", "\uff11\uff12\uff13\uff14\uff15\uff16", SENT_AT)],
        [Outcome.WRONG],
    ),
    "a longer code is a wrong one": ([("alice", "7", RIGHT + "0", SENT_AT)], [Outcome.WRONG]),
    "an id that this server did not give is unknown": ([("alice", "8", RIGHT, SENT_AT)], [Outcome.UNKNOWN]),
    "another user's id is unknown, and hers stays": (
        [("bob", "7", RIGHT, SENT_AT), ("alice", "7", RIGHT, SENT_AT)],
        [Outcome.UNKNOWN, Outcome.ACCEPTED],
    ),
    "unknown tries cost the user nothing": (
        [("alice", "8", WRONG, SENT_AT)] * 5 + [("alice", "7", RIGHT, SENT_AT)],
        [Outcome.UNKNOWN] * 5 + [Outcome.ACCEPTED],
    ),
    "a user is the same in capitals": ([("ALICE", "7", RIGHT, SENT_AT)], [Outcome.ACCEPTED]),
}


@pytest.mark.parametrize(("tries", "outcomes"), TABLE.values(), ids=TABLE.keys())
def test_what_was_typed_is_judged_by_the_table(tries: list[Try], outcomes: list[Outcome]) -> None:
    codes = PendingCodes()
    codes.begin("Alice", "7", RIGHT, SENT_AT)
    assert [codes.verify(*attempt) for attempt in tries] == outcomes


def test_a_fresh_server_knows_no_code() -> None:
    assert PendingCodes().verify("alice", "7", RIGHT, SENT_AT) is Outcome.UNKNOWN


def test_a_code_of_one_server_is_unknown_on_another() -> None:
    asked, other = PendingCodes(), PendingCodes()
    asked.begin("alice", "7", RIGHT, SENT_AT)
    assert other.verify("alice", "7", RIGHT, SENT_AT) is Outcome.UNKNOWN
    assert asked.verify("alice", "7", RIGHT, SENT_AT) is Outcome.ACCEPTED


def test_a_newer_code_under_the_same_id_replaces_the_older_and_gives_all_tries_back() -> None:
    codes = PendingCodes()
    codes.begin("alice", "7", RIGHT, SENT_AT)
    codes.verify("alice", "7", "000000", SENT_AT)
    codes.begin("alice", "7", WRONG, SENT_AT + 1)
    assert len(codes) == 1
    assert codes.verify("alice", "7", RIGHT, SENT_AT + 1) is Outcome.WRONG
    assert codes.verify("alice", "7", "000000", SENT_AT + 1) is Outcome.WRONG
    assert codes.verify("alice", "7", WRONG, SENT_AT + 1 + OTP_LIFE_S) is Outcome.ACCEPTED


def test_when_full_the_oldest_code_is_forgotten() -> None:
    codes = PendingCodes()
    codes.begin("first", "0", RIGHT, SENT_AT)
    codes.begin("second", "0", RIGHT, SENT_AT)
    for number in range(PENDING_LIMIT - 2):
        codes.begin("others", str(number), RIGHT, SENT_AT)
    codes.begin("FIRST", "0", RIGHT, SENT_AT)  # asked again: now the youngest
    codes.begin("others", "one too many", RIGHT, SENT_AT)
    assert len(codes) == PENDING_LIMIT
    assert codes.verify("second", "0", RIGHT, SENT_AT) is Outcome.UNKNOWN
    assert codes.verify("first", "0", RIGHT, SENT_AT) is Outcome.ACCEPTED
    assert codes.verify("others", "one too many", RIGHT, SENT_AT) is Outcome.ACCEPTED


def test_a_pending_code_does_not_show_itself() -> None:
    codes = PendingCodes()
    codes.begin("alice", "7", RIGHT, SENT_AT)
    assert RIGHT not in repr(codes._pending)


@dataclass
class Sent:
    """What a person with a good memory knows of a code."""

    otp: str
    at: float
    wrong: int = 0


users = st.sampled_from(["alice", "ALICE", "bob"])
request_ids = st.sampled_from(["1", "2"])
otps = st.sampled_from(["111111", "222222", ""])


class Phones(RuleBasedStateMachine):
    """Codes are sent, time passes, people type: the table says what a person with a good memory would say."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = PendingCodes()
        self.sent: dict[tuple[str, str], Sent] = {}
        self.now = 0.0

    @rule(seconds=st.floats(0, OTP_LIFE_S))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(user=users, request_id=request_ids, otp=st.sampled_from(["111111", "222222"]))
    def a_text_is_sent(self, user: str, request_id: str, otp: str) -> None:
        self.codes.begin(user, request_id, otp, self.now)
        self.sent[user.lower(), request_id] = Sent(otp, self.now)

    @rule(user=users, request_id=request_ids, otp=otps)
    def somebody_types(self, user: str, request_id: str, otp: str) -> None:
        assert self.codes.verify(user, request_id, otp, self.now) is self.expected((user.lower(), request_id), otp)

    def expected(self, key: tuple[str, str], otp: str) -> Outcome:
        sent = self.sent.get(key)
        if sent is None:
            return Outcome.UNKNOWN
        if self.now > sent.at + OTP_LIFE_S:
            outcome = Outcome.EXPIRED
        elif otp == sent.otp:
            outcome = Outcome.ACCEPTED
        else:
            sent.wrong += 1
            outcome = Outcome.TOO_MANY_TRIES if sent.wrong == TRIES else Outcome.WRONG
        if outcome is not Outcome.WRONG:
            del self.sent[key]
        return outcome

    @invariant()
    def nothing_is_kept_that_was_settled(self) -> None:
        assert len(self.codes) == len(self.sent)


Phones.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestPhones = Phones.TestCase
