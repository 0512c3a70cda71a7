from __future__ import annotations

from itertools import count

import pytest

from mfalb.reference.user_portal.sessions import IDLE_S, WAITING_S, Sessions, SignedIn, Waiting


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> Sessions:
    numbers = count(1)
    return Sessions(clock, lambda: f"token{next(numbers)}", limit=3)


def test_a_session_that_waits_for_a_code_remembers_user_and_request(sessions: Sessions) -> None:
    session = sessions.find(sessions.wait_for_code("alice", "request"))
    assert session == Waiting("alice", "request", "token1")


def test_an_unknown_id_has_no_session(sessions: Sessions) -> None:
    sessions.sign_in("alice")
    assert sessions.find("") is None
    assert sessions.find("token9") is None


def test_a_step_up_changes_id_and_csrf_token_and_ends_the_old_session(sessions: Sessions) -> None:
    old_id = sessions.wait_for_code("alice", "request")
    old = sessions.find(old_id)
    new_id = sessions.step_up(old_id)
    assert new_id is not None
    new = sessions.find(new_id)
    assert old is not None
    assert isinstance(new, SignedIn)
    assert (new.user, new_id != old_id, new.csrf != old.csrf) == ("alice", True, True)
    assert sessions.find(old_id) is None
    assert len(sessions) == 1


def test_only_a_session_that_waits_can_step_up(sessions: Sessions) -> None:
    signed_in = sessions.sign_in("alice")
    ended = sessions.wait_for_code("bob", "request")
    sessions.end(ended)
    assert [sessions.step_up(key) for key in (signed_in, ended, "never")] == [None, None, None]
    assert isinstance(sessions.find(signed_in), SignedIn)


def test_a_session_can_step_up_only_once(sessions: Sessions) -> None:
    session_id = sessions.wait_for_code("alice", "request")
    assert sessions.step_up(session_id) is not None
    assert sessions.step_up(session_id) is None


def test_a_session_in_use_does_not_idle_out(sessions: Sessions, clock: Clock) -> None:
    session_id = sessions.sign_in("alice")
    for _ in range(4):
        clock.now += IDLE_S - 1
        assert sessions.find(session_id) is not None
    clock.now += IDLE_S
    assert sessions.find(session_id) is None


def test_waiting_for_a_code_ends_however_often_the_page_is_looked_at(sessions: Sessions, clock: Clock) -> None:
    session_id = sessions.wait_for_code("alice", "request")
    clock.now += WAITING_S - 1
    assert sessions.find(session_id) is not None
    clock.now += 1
    assert sessions.find(session_id) is None
    assert sessions.step_up(session_id) is None


def test_a_full_table_ends_the_session_not_used_for_longest(sessions: Sessions) -> None:
    first, second, third = (sessions.sign_in(user) for user in ("alice", "bob", "carol"))
    sessions.find(first)
    sessions.sign_in("dave")
    assert len(sessions) == 3
    assert sessions.find(second) is None
    assert sessions.find(first) is not None
    assert sessions.find(third) is not None


def test_an_ended_session_may_be_ended_again(sessions: Sessions) -> None:
    session_id = sessions.sign_in("alice")
    sessions.end(session_id)
    sessions.end(session_id)
    assert len(sessions) == 0


def test_ids_are_long_and_never_the_same() -> None:
    sessions = Sessions(lambda: 0.0)
    ids = {sessions.sign_in("alice") for _ in range(100)}
    assert len(ids) == 100
    assert {len(session_id) for session_id in ids} == {43}


def test_sessions_do_not_show_their_secrets() -> None:
    assert repr(Waiting("alice", "REQUEST", "CSRF")) == "Waiting(user='alice')"
    assert repr(SignedIn("alice", "CSRF")) == "SignedIn(user='alice')"
