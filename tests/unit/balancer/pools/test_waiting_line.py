from __future__ import annotations

from collections.abc import Iterator
from weakref import ref

from hypothesis import given
from hypothesis import strategies as st
from unit.balancer.pools.pool_builder import pool_of

from mfalb.balancer.pools.backend import AdminState, Backend
from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.pools.waiting_line import Ticket, WaitingLine


class Guest:
    """Somebody who waits."""


def full_pool(*names: str, limit: int = 1) -> Pool:
    """A pool whose servers are up and have as much work as they may."""
    pool = pool_of(dict.fromkeys(names, (Health.UP, AdminState.READY)))
    for backend in pool.backends.values():
        backend.active = backend.connection_limit = limit
    return pool


def turns(line: WaitingLine, pool: Pool) -> list[tuple[object, str]]:
    return [(ticket.holder, backend.name) for ticket, backend in line.hand_out(pool.backends)]


def joined(line: WaitingLine, holder: str, backend: str = "") -> Ticket:
    ticket = line.join(holder, backend)
    assert ticket is not None
    return ticket


def free(pool: Pool, name: str) -> Backend:
    backend = pool.backends[name]
    backend.active -= 1
    return backend


def test_nobody_has_a_turn_while_all_are_full() -> None:
    pool, line = full_pool("a", "b"), WaitingLine(10)
    joined(line, "first")
    assert turns(line, pool) == []


def test_whoever_came_first_goes_first_and_the_place_is_taken() -> None:
    pool, line = full_pool("a"), WaitingLine(10)
    joined(line, "first")
    joined(line, "second")
    backend = free(pool, "a")
    assert turns(line, pool) == [("first", "a")]
    assert backend.is_full
    assert line.waiting == 1


def test_pinned_work_waits_for_its_own_server_and_holds_up_nobody_else() -> None:
    pool, line = full_pool("a", "b"), WaitingLine(10)
    joined(line, "pinned", "b")
    joined(line, "any")
    free(pool, "a")
    assert turns(line, pool) == [("any", "a")]
    free(pool, "b")
    assert turns(line, pool) == [("pinned", "b")]


def test_between_pinned_and_other_work_for_one_server_the_older_goes_first() -> None:
    for order in (("pinned", "any"), ("any", "pinned")):
        pool, line = full_pool("a", limit=2), WaitingLine(10)
        for holder in order:
            joined(line, holder, "a" if holder == "pinned" else "")
        free(pool, "a")
        free(pool, "a")
        assert [holder for holder, _ in turns(line, pool)] == list(order)


def test_who_left_is_passed_over() -> None:
    pool, line = full_pool("a"), WaitingLine(10)
    gone = joined(line, "gone")
    joined(line, "stays")
    line.leave(gone)
    line.leave(gone)
    assert line.waiting == 1
    free(pool, "a")
    assert turns(line, pool) == [("stays", "a")]


def test_who_left_is_not_kept_however_long_nobody_has_a_turn() -> None:
    """What waits is a request with up to 64 KB of its body."""
    line = WaitingLine(2)
    for backend in ("", "b"):
        gone = [ref(holder) for holder in come_and_gone(line, backend)]
        assert [left() for left in gone] == [None] * 50
    assert line.waiting == 0


def come_and_gone(line: WaitingLine, backend: str) -> Iterator[Guest]:
    for _ in range(50):
        holder = Guest()
        ticket = line.join(holder, backend)
        assert ticket is not None
        line.leave(ticket)
        yield holder


def test_a_full_line_takes_nobody() -> None:
    line = WaitingLine(2)
    first = joined(line, "first")
    joined(line, "second")
    assert line.join("third") is None
    line.leave(first)
    assert line.join("third") is not None


def test_a_draining_server_takes_only_what_is_pinned_to_it() -> None:
    pool, line = full_pool("a"), WaitingLine(10)
    joined(line, "any")
    joined(line, "pinned", "a")
    pool.set_admin_state("a", AdminState.DRAIN, 0.0)
    free(pool, "a")
    assert turns(line, pool) == [("pinned", "a")]


@given(st.lists(st.tuples(st.sampled_from(("join", "join a", "leave", "free")), st.integers(0, 5)), max_size=60))
def test_no_ticket_is_lost_or_called_twice(events: list[tuple[str, int]]) -> None:
    pool, line = full_pool("a", "b", limit=3), WaitingLine(20)
    waiting: list[Ticket] = []
    for event, number in events:
        if event.startswith("join"):
            ticket = line.join(object(), event.removeprefix("join").strip())
            assert (ticket is None) is (len(waiting) >= 20)
            waiting += [ticket] if ticket is not None else []
        elif event == "leave" and waiting:
            line.leave(waiting.pop(number % len(waiting)))
        elif event == "free":
            name = "ab"[number % 2]
            pool.backends[name].active = max(pool.backends[name].active - 1, 0)
            for called, backend in line.hand_out(pool.backends):
                waiting.remove(called)
                assert called.backend in ("", backend.name)
        assert line.waiting == len(waiting)
