"""The watchdog by its table (each row once, and every pair without a row), then by what D3 to D5 ask of it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfalb.balancer.pools.health_state import Health
from mfalb.balancer.pools.watchdog import Ask, Event, Moment, Orders, Pace, Phase, Watchdog

UP, DOWN = Health.UP, Health.DOWN
NOTHING, ANEW, ALSO = Ask.NOTHING, Ask.ANEW, Ask.ALSO
NOW = 1000.0
DUE = "due"  # the timer as it stood

IN, F, OK, P, S, D, R, RP = (
    Phase.INITIAL,
    Phase.FIRST,
    Phase.OKAY,
    Phase.PROBED,
    Phase.SUSPECT,
    Phase.DOWN,
    Phase.REOPEN,
    Phase.REPROBED,
)
REPLIED, ANSWERED, EXPIRED = Event.REPLIED, Event.ANSWERED, Event.EXPIRED
SUSPECTED, REFUSED, UNSENT, PAUSED = Event.SUSPECTED, Event.REFUSED, Event.UNSENT, Event.PAUSED
GIVEN = (REPLIED, ANSWERED, EXPIRED, SUSPECTED, REFUSED, UNSENT, PAUSED)

# (phase, how many of this event came in a row already, event) -> (phase, seconds until the timer, probe, verdict)
ROWS: list[tuple[Phase, int, Event, Phase, float | str, Ask, Health | None]] = [
    (IN, 0, EXPIRED, F, 0.0, NOTHING, None),
    (IN, 0, PAUSED, IN, 30.0, NOTHING, None),
    (F, 0, ANSWERED, OK, 30.0, NOTHING, UP),
    (F, 0, EXPIRED, F, 4 / 3, ALSO, None),
    (F, 2, EXPIRED, F, 4 / 3, ALSO, None),
    (F, 3, EXPIRED, D, 30.0, ANEW, DOWN),
    (F, 0, REFUSED, D, 30.0, NOTHING, DOWN),
    (F, 0, UNSENT, F, DUE, NOTHING, None),
    (F, 0, PAUSED, IN, 30.0, NOTHING, None),
    (OK, 0, REPLIED, OK, 30.0, NOTHING, None),
    (OK, 0, ANSWERED, OK, 30.0, NOTHING, None),
    (OK, 0, EXPIRED, P, 0.0, NOTHING, None),
    (OK, 0, SUSPECTED, S, 0.0, NOTHING, None),
    (OK, 0, REFUSED, S, 0.0, NOTHING, None),
    (OK, 2, REFUSED, D, 30.0, NOTHING, DOWN),
    (OK, 0, PAUSED, OK, 30.0, NOTHING, None),
    (P, 0, REPLIED, OK, 30.0, NOTHING, None),
    (P, 0, ANSWERED, OK, 30.0, NOTHING, None),
    (P, 0, EXPIRED, P, 10.0, ALSO, None),
    (P, 2, EXPIRED, P, 10.0, ALSO, None),
    (P, 3, EXPIRED, D, 30.0, ANEW, DOWN),
    (P, 0, SUSPECTED, S, 0.0, NOTHING, None),
    (P, 0, REFUSED, S, 2.0, NOTHING, None),
    (P, 2, REFUSED, D, 30.0, NOTHING, DOWN),
    (P, 0, UNSENT, P, DUE, NOTHING, None),
    (P, 0, PAUSED, OK, 30.0, NOTHING, None),
    (S, 0, REPLIED, OK, 30.0, NOTHING, None),
    (S, 0, ANSWERED, OK, 30.0, NOTHING, None),
    (S, 0, EXPIRED, S, 2.0, ALSO, None),
    (S, 2, EXPIRED, S, 2.0, ALSO, None),
    (S, 3, EXPIRED, D, 30.0, ANEW, DOWN),
    (S, 1, REFUSED, S, DUE, NOTHING, None),
    (S, 2, REFUSED, D, 30.0, NOTHING, DOWN),
    (S, 0, UNSENT, S, DUE, NOTHING, None),
    (S, 0, PAUSED, OK, 30.0, NOTHING, None),
    (D, 0, ANSWERED, R, DUE, NOTHING, None),
    (D, 2, ANSWERED, OK, 30.0, NOTHING, UP),
    (D, 0, EXPIRED, D, 30.0, ANEW, None),
    (D, 0, PAUSED, D, 30.0, NOTHING, None),
    (R, 0, EXPIRED, RP, 30.0, ANEW, None),
    (R, 0, REFUSED, D, DUE, NOTHING, None),
    (R, 0, PAUSED, R, 30.0, NOTHING, None),
    (RP, 1, ANSWERED, R, DUE, NOTHING, None),
    (RP, 2, ANSWERED, OK, 30.0, NOTHING, UP),
    (RP, 2, EXPIRED, D, 30.0, ANEW, None),
    (RP, 0, REFUSED, D, DUE, NOTHING, None),
    (RP, 0, UNSENT, R, DUE, NOTHING, None),
    (RP, 0, PAUSED, R, 30.0, NOTHING, None),
]
ROWLESS = sorted(
    set(product(Phase, GIVEN)) - {(phase, event) for phase, _, event, *_ in ROWS},
    key=lambda pair: (pair[0].value, pair[1].value),
)


def watchdog_in(phase: Phase, *, pace: Pace | None = None, due: float = NOW) -> Watchdog:
    made = Watchdog(pace or Pace())
    made.phase, made.expires_at = phase, due
    return made


def tell(watchdog: Watchdog, event: Event, now: float = NOW, replied_at: float = 0.0, spread: float = 0.0) -> Orders:
    """Hand over an event; a reply to traffic comes as it does in life, with the next look at the watchdog."""
    if event is REPLIED:
        return watchdog.handle(EXPIRED, Moment(now, now, spread))
    return watchdog.handle(event, Moment(now, replied_at, spread))


@pytest.mark.parametrize(("phase", "before", "event", "then", "timer", "ask", "verdict"), ROWS)
def test_d5_each_event_moves_the_watchdog_as_the_table_says(  # noqa: PLR0913, PLR0917 - the columns of the table
    phase: Phase, before: int, event: Event, then: Phase, timer: float | str, ask: Ask, verdict: Health | None
) -> None:
    watchdog = watchdog_in(phase)
    match event:
        case Event.ANSWERED:
            watchdog.answers = before
        case Event.REFUSED:
            watchdog.refusals = before
        case Event.EXPIRED:
            watchdog._steps = before
        case _:
            assert before == 0
    assert tell(watchdog, event) == Orders(ask, verdict)
    assert watchdog.phase is then
    assert watchdog.expires_at == pytest.approx(NOW + timer if isinstance(timer, float) else NOW)


@pytest.mark.parametrize(("phase", "event"), ROWLESS)
def test_an_event_without_a_row_changes_nothing(phase: Phase, event: Event) -> None:
    # A timer that is not due, so that a reply's look at the watchdog is nothing but the reply.
    watchdog = watchdog_in(phase, due=NOW + 1)
    assert tell(watchdog, event) == Orders()
    assert (watchdog.phase, watchdog.expires_at) == (phase, NOW + 1)


def test_the_rows_without_effect_are_those_that_were_meant() -> None:
    assert set(ROWLESS) == {
        *((phase, REPLIED) for phase in (IN, F, D, R, RP)),
        *((phase, SUSPECTED) for phase in (IN, F, S, D, R, RP)),
        *((phase, UNSENT) for phase in (IN, OK, D, R)),
        *((IN, ANSWERED), (IN, REFUSED), (R, ANSWERED), (D, REFUSED)),
    }


@pytest.mark.parametrize("event", [EXPIRED, PAUSED])
@pytest.mark.parametrize("phase", Phase)
def test_a_timer_that_fires_early_does_nothing(phase: Phase, event: Event) -> None:
    watchdog = watchdog_in(phase, due=NOW + 0.001)
    assert tell(watchdog, event) == Orders()
    assert watchdog.phase is phase


# ------------------------------------------------------------------------------------------ D4 and D5


def expire(watchdog: Watchdog, times: int) -> list[Orders]:
    """Let the timer run out so often; nothing comes from the backend."""
    return [tell(watchdog, EXPIRED, watchdog.expires_at) for _ in range(times)]


def test_d5_a_busy_backend_is_never_probed() -> None:
    watchdog = watchdog_in(OK)
    for second in range(600):
        now = NOW + second
        assert tell(watchdog, EXPIRED, now, replied_at=now - 0.5) == Orders()
        assert watchdog.expires_at == pytest.approx(now - 0.5 + 30.0), "Tw counts from the last reply"


def test_d5_a_silent_idle_backend_is_down_after_two_tw() -> None:
    watchdog = watchdog_in(OK, due=NOW + 30)
    assert expire(watchdog, 1) == [Orders()]
    assert watchdog.expires_at == NOW + 30, "the first probe goes out when the timer expires"
    assert expire(watchdog, 4) == [Orders(ALSO), Orders(ALSO), Orders(ALSO), Orders(ANEW, DOWN)]
    assert watchdog.expires_at - 30 == NOW + 60


@pytest.mark.parametrize("phase", [F, P, S])
@pytest.mark.parametrize("sent", [0, 1, 2])
def test_d5_probes_that_did_not_leave_bring_nobody_down_however_many_they_are(phase: Phase, sent: int) -> None:
    watchdog = watchdog_in(phase)
    expire(watchdog, sent)
    for _ in range(20):
        assert expire(watchdog, 1) == [Orders(ALSO)], "it is asked again, in a third of the time that it has"
        assert tell(watchdog, UNSENT, watchdog.expires_at) == Orders()
    assert watchdog.phase is phase
    assert expire(watchdog, 4 - sent) == [Orders(ALSO)] * (3 - sent) + [Orders(ANEW, DOWN)]


def test_d5_a_probe_of_an_earlier_phase_that_did_not_leave_gives_nobody_more_than_the_usual_time() -> None:
    watchdog = watchdog_in(S)
    tell(watchdog, UNSENT)
    assert expire(watchdog, 4) == [Orders(ALSO), Orders(ALSO), Orders(ALSO), Orders(ANEW, DOWN)]


def test_d5_a_probe_that_did_not_leave_costs_a_returning_backend_none_of_its_answers() -> None:
    watchdog = watchdog_in(R)
    watchdog.answers = 2
    assert expire(watchdog, 1) == [Orders(ANEW)]
    tell(watchdog, UNSENT)
    assert expire(watchdog, 1) == [Orders(ANEW)]
    assert tell(watchdog, ANSWERED) == Orders(NOTHING, UP)


@pytest.mark.parametrize("phase", [OK, P])
def test_d4_a_suspected_backend_that_stays_silent_is_down_after_the_least_tw_and_three_probes(phase: Phase) -> None:
    watchdog = watchdog_in(phase, due=NOW + 20)
    assert tell(watchdog, SUSPECTED) == Orders()
    assert watchdog.expires_at == NOW, "the first probe goes out at once"
    assert expire(watchdog, 4) == [Orders(ALSO), Orders(ALSO), Orders(ALSO), Orders(ANEW, DOWN)]
    assert watchdog.expires_at - 30 == pytest.approx(NOW + 6)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_d4_a_suspected_backend_that_says_anything_at_all_stays_up(steps: int) -> None:
    for event in (ANSWERED, REPLIED):
        watchdog = watchdog_in(OK, due=NOW + 20)
        tell(watchdog, SUSPECTED)
        expire(watchdog, steps)
        assert tell(watchdog, event, NOW + 5.9) == Orders()
        assert watchdog.phase is OK
        assert watchdog.expires_at == pytest.approx(NOW + 35.9)
        assert expire(watchdog, 4) == [Orders(), *[Orders(ALSO)] * 3], "nothing of the old suspicion is left"
        assert watchdog.phase is P


def test_d4_suspicions_do_not_add_up() -> None:
    watchdog = watchdog_in(OK)
    for _ in range(100):
        tell(watchdog, SUSPECTED)
    assert expire(watchdog, 3) == [Orders(ALSO)] * 3
    for _ in range(100):
        assert tell(watchdog, SUSPECTED, watchdog.expires_at) == Orders()
    assert watchdog.phase is S


def test_d4_a_reply_before_the_suspicion_does_not_clear_it() -> None:
    watchdog = watchdog_in(OK, due=NOW + 20)
    assert tell(watchdog, SUSPECTED, NOW, replied_at=NOW - 8) == Orders()
    assert tell(watchdog, EXPIRED, NOW, replied_at=NOW - 8) == Orders(ALSO)
    assert watchdog.phase is S


def return_from(watchdog: Watchdog, answered: Iterable[bool]) -> list[Health | None]:
    """One Tw after the other, each with its probe answered or not; the verdicts on the way."""
    verdicts = []
    for is_answered in answered:
        orders = tell(watchdog, EXPIRED, watchdog.expires_at)
        assert orders.ask is ANEW
        verdicts.append(tell(watchdog, ANSWERED, watchdog.expires_at - 29).verdict if is_answered else orders.verdict)
    return verdicts


def test_d5_three_answered_probes_bring_a_backend_back_one_each_tw() -> None:
    watchdog = watchdog_in(D, due=NOW)
    assert return_from(watchdog, [True, True, True]) == [None, None, UP]
    assert watchdog.expires_at - 30 == NOW + 60 + 1, "two Tw after the first probe, and the time of the answer"


def test_d5_the_answers_must_come_in_a_row() -> None:
    watchdog = watchdog_in(D)
    assert return_from(watchdog, [True, True, False, True, True]) == [None] * 5
    assert tell(watchdog, EXPIRED, watchdog.expires_at).ask is ANEW
    assert tell(watchdog, ANSWERED, watchdog.expires_at - 29).verdict is UP


def test_d5_traffic_brings_no_backend_back() -> None:
    watchdog = watchdog_in(D)
    for second in range(20):
        assert tell(watchdog, EXPIRED, NOW + second, replied_at=NOW + second).verdict is None
    assert watchdog.phase is D


def test_d5_a_killed_process_is_down_after_fall_refusals_without_waiting() -> None:
    watchdog = watchdog_in(OK, due=NOW + 25)
    assert [tell(watchdog, REFUSED).verdict for _ in range(3)] == [None, None, DOWN]


def test_d5_a_single_refusal_is_looked_into_within_the_least_tw() -> None:
    watchdog = watchdog_in(OK, due=NOW + 25)
    tell(watchdog, REFUSED)
    for expected in (None, DOWN):
        assert expire(watchdog, 1) == [Orders(ALSO)]
        assert tell(watchdog, REFUSED, watchdog.expires_at - 2).verdict is expected
    assert watchdog.expires_at - 30 == pytest.approx(NOW + 2)


@pytest.mark.parametrize("event", [ANSWERED, REPLIED])
def test_refusals_with_a_reply_between_them_are_not_in_a_row(event: Event) -> None:
    watchdog = watchdog_in(OK, due=NOW + 25)
    for second in range(10):
        now = NOW + second
        assert tell(watchdog, REFUSED, now) == Orders()
        assert tell(watchdog, REFUSED, now) == Orders()
        tell(watchdog, event, now + 0.5)
        assert watchdog.phase is OK


@pytest.mark.parametrize("spread", [-1.0, -0.3, 0.0, 1.0])
@pytest.mark.parametrize(("interval_s", "jitter_s"), [(30.0, 2.0), (6.0, 2.0), (3.0, 1.0), (0.6, 0.2)])
def test_d5_jitter_spreads_tw_by_two_seconds_or_a_third_of_a_fast_one(
    interval_s: float, jitter_s: float, spread: float
) -> None:
    watchdog = watchdog_in(OK, pace=Pace(interval_s))
    tell(watchdog, REPLIED, spread=spread)
    assert watchdog.expires_at == pytest.approx(NOW + interval_s + spread * jitter_s)


@pytest.mark.parametrize(("interval_s", "first_s", "suspect_s"), [(30.0, 4.0, 6.0), (6.0, 4.0, 6.0), (1.0, 1.0, 1.0)])
def test_d5_no_time_but_the_first_is_below_six_seconds_unless_tw_is(
    interval_s: float, first_s: float, suspect_s: float
) -> None:
    pace = Pace(interval_s)
    patience_s = [pace.patience_s(phase, 0.0) for phase in (F, P, S)]
    assert patience_s == [first_s, interval_s, suspect_s]
    assert [pace.patience_s(phase, 0.5) for phase in (F, P, S)] == [first_s, interval_s + 0.5, suspect_s + 0.5]


@pytest.mark.parametrize("phase", [F, P, S])
def test_a_lost_probe_or_two_decide_nothing(phase: Phase) -> None:
    """Of a server that answers every third probe only, none is ever taken for dead."""
    watchdog, now = watchdog_in(phase), NOW
    for _ in range(200):
        asked = 0
        while asked < 3:
            now = watchdog.expires_at
            orders = tell(watchdog, EXPIRED, now)
            assert orders.verdict is None
            asked += orders.ask is not NOTHING
        now += 0.1
        assert tell(watchdog, ANSWERED, now).verdict in {None, UP}
        tell(watchdog, SUSPECTED, now + 5)


EVENTS = st.tuples(st.sampled_from([*GIVEN, EXPIRED, EXPIRED]), st.floats(0, 40), st.floats(-1, 1))


@given(st.lists(EVENTS, max_size=60))
@settings(max_examples=300)
def test_d4_d5_no_backend_goes_down_without_a_silent_probe_or_enough_refusals(
    events: list[tuple[Event, float, float]],
) -> None:
    """Whatever happens: each verdict turns health over, and one against a backend has its evidence."""
    watchdog, now, health = Watchdog(Pace()), NOW, Health.UNKNOWN
    unanswered_since, refusals = math.inf, 0
    for event, wait_s, spread in events:
        now += wait_s
        if event is ANSWERED or (event is REPLIED and watchdog.phase in {OK, P, S}):
            unanswered_since, refusals = math.inf, 0
        refusals += event is REFUSED
        orders = tell(watchdog, event, now, spread=spread)
        if orders.verdict is DOWN:
            assert refusals >= (1 if health is Health.UNKNOWN else 3) or now - unanswered_since > 3.999
        assert orders.verdict is not health
        health = orders.verdict or health
        if orders.ask is not NOTHING:
            unanswered_since = min(now, unanswered_since)
        assert math.isfinite(watchdog.expires_at)
