"""The watchdog of RFC 3539 section 3.4.1, for RADIUS over UDP: when a backend is asked, and when it is given up.

Silence on one request proves nothing: people are slow to answer their phones. Only a missing answer to a probe of our
own (Status-Server, RFC 5997) shows that a backend is dead, and any sound reply shows that it lives.

What differs from the RFC, and why:

* There is no connection to close. The RFC's SUSPECT (work has moved, the connection still stands) and DOWN are one
  phase here; SUSPECT is the name of the doubt before that.
* UDP loses datagrams, and a wrong verdict makes a second phone ring. Where the RFC has one probe pending until the
  timer expires, three go out in that time, evenly spread (none is a retransmit of another); and a reply of any kind
  forgives them all, where in the RFC it only sets the timer anew.
* A refused port is evidence by itself: `fall` refusals in a row, with no reply between them, are enough.
* A probe that did not leave, because this host has no socket for it, was never sent: it is asked again in its turn.

A backend that came back takes work again after `rise` answered probes, one each Tw: 60 to 90 s with the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, assert_never

from mfalb.balancer.config.health_models import LEAST_WATCHDOG_INTERVAL_S
from mfalb.balancer.pools.health_state import Health

JITTER_S: Final = 2.0  # RFC 3539 section 3.4.1: so that many clients of one server do not march in step
_FIRST_WAIT_S: Final = 4.0  # for the very first answer: whoever starts a balancer waits for it
PROBES: Final = 3  # that must be lost before a backend is given up


class Phase(Enum):
    """What a watchdog knows. A backend takes work in OKAY, PROBED and SUSPECT."""

    INITIAL = "initial"  # nothing was asked yet
    FIRST = "first"  # it is asked for the first time; the result decides alone
    OKAY = "okay"  # the timer runs since the last reply; nothing is pending
    PROBED = "probed"  # nothing came for one Tw: it is asked, and has another Tw
    SUSPECT = "suspect"  # a client asked in vain, or somebody was refused: it is asked, and has the least Tw
    DOWN = "down"  # given up; a probe is out, or was refused
    REOPEN = "reopen"  # the last probe was answered, and more must be; the next one follows when the timer expires
    REPROBED = "reprobed"  # on the way back as in REOPEN; the next probe is out


class Event(Enum):
    """What happened. The last three are what `Watchdog` makes of the ones above them by counting."""

    REPLIED = "replied"  # any sound reply to traffic
    ANSWERED = "answered"  # a sound answer to a probe
    EXPIRED = "expired"  # the timer
    SUSPECTED = "suspected"  # a client's retransmit, and no reply of any kind since it asked first
    REFUSED = "refused"  # the backend's host said that nobody listens, to traffic or to a probe
    UNSENT = "unsent"  # the probe that was asked for did not leave: this host lacks what it takes to send it
    PAUSED = "paused"  # the timer, while an operator wants nothing sent there
    ANSWERED_ENOUGH = "answered enough"
    EXPIRED_ENOUGH = "expired enough"
    REFUSED_ENOUGH = "refused enough"


class Timer(Enum):
    """What becomes of the timer."""

    KEEP = "keep"
    FULL = "full"  # one Tw, with jitter
    STEP = "step"  # until the next probe of several: together they last as long as the phase may
    NOW = "now"


class Ask(Enum):
    """Which probe to send."""

    NOTHING = "nothing"
    ANEW = "anew"  # whatever is still out counts as lost
    ALSO = "also"  # the answer to an earlier one is as good


class Row(NamedTuple):
    """What follows from an event in a phase."""

    phase: Phase
    timer: Timer
    ask: Ask = Ask.NOTHING
    verdict: Health | None = None


# An event that has no row in a phase changes nothing there (the RFC's "Throwaway").
TABLE: Final[dict[Phase, dict[Event, Row]]] = {
    Phase.INITIAL: {
        Event.EXPIRED: Row(Phase.FIRST, Timer.NOW),
        Event.PAUSED: Row(Phase.INITIAL, Timer.FULL),
    },
    Phase.FIRST: {
        Event.ANSWERED: Row(Phase.OKAY, Timer.FULL, verdict=Health.UP),
        Event.EXPIRED: Row(Phase.FIRST, Timer.STEP, Ask.ALSO),
        Event.EXPIRED_ENOUGH: Row(Phase.DOWN, Timer.FULL, Ask.ANEW, Health.DOWN),
        Event.REFUSED: Row(Phase.DOWN, Timer.FULL, verdict=Health.DOWN),
        Event.PAUSED: Row(Phase.INITIAL, Timer.FULL),
        Event.UNSENT: Row(Phase.FIRST, Timer.KEEP),
    },
    Phase.OKAY: {
        Event.REPLIED: Row(Phase.OKAY, Timer.FULL),
        Event.ANSWERED: Row(Phase.OKAY, Timer.FULL),
        Event.EXPIRED: Row(Phase.PROBED, Timer.NOW),
        Event.SUSPECTED: Row(Phase.SUSPECT, Timer.NOW),
        Event.REFUSED: Row(Phase.SUSPECT, Timer.NOW),
        Event.REFUSED_ENOUGH: Row(Phase.DOWN, Timer.FULL, verdict=Health.DOWN),
        Event.PAUSED: Row(Phase.OKAY, Timer.FULL),
    },
    Phase.PROBED: {
        Event.REPLIED: Row(Phase.OKAY, Timer.FULL),
        Event.ANSWERED: Row(Phase.OKAY, Timer.FULL),
        Event.EXPIRED: Row(Phase.PROBED, Timer.STEP, Ask.ALSO),
        Event.EXPIRED_ENOUGH: Row(Phase.DOWN, Timer.FULL, Ask.ANEW, Health.DOWN),
        Event.SUSPECTED: Row(Phase.SUSPECT, Timer.NOW),
        Event.REFUSED: Row(Phase.SUSPECT, Timer.STEP),
        Event.REFUSED_ENOUGH: Row(Phase.DOWN, Timer.FULL, verdict=Health.DOWN),
        Event.PAUSED: Row(Phase.OKAY, Timer.FULL),
        Event.UNSENT: Row(Phase.PROBED, Timer.KEEP),
    },
    Phase.SUSPECT: {
        Event.REPLIED: Row(Phase.OKAY, Timer.FULL),
        Event.ANSWERED: Row(Phase.OKAY, Timer.FULL),
        Event.EXPIRED: Row(Phase.SUSPECT, Timer.STEP, Ask.ALSO),
        Event.EXPIRED_ENOUGH: Row(Phase.DOWN, Timer.FULL, Ask.ANEW, Health.DOWN),
        Event.REFUSED: Row(Phase.SUSPECT, Timer.KEEP),
        Event.REFUSED_ENOUGH: Row(Phase.DOWN, Timer.FULL, verdict=Health.DOWN),
        Event.PAUSED: Row(Phase.OKAY, Timer.FULL),
        Event.UNSENT: Row(Phase.SUSPECT, Timer.KEEP),
    },
    Phase.DOWN: {
        Event.ANSWERED: Row(Phase.REOPEN, Timer.KEEP),
        Event.ANSWERED_ENOUGH: Row(Phase.OKAY, Timer.FULL, verdict=Health.UP),
        Event.EXPIRED: Row(Phase.DOWN, Timer.FULL, Ask.ANEW),
        Event.PAUSED: Row(Phase.DOWN, Timer.FULL),
    },
    Phase.REOPEN: {
        Event.EXPIRED: Row(Phase.REPROBED, Timer.FULL, Ask.ANEW),
        Event.REFUSED: Row(Phase.DOWN, Timer.KEEP),
        Event.PAUSED: Row(Phase.REOPEN, Timer.FULL),
    },
    Phase.REPROBED: {
        Event.ANSWERED: Row(Phase.REOPEN, Timer.KEEP),
        Event.ANSWERED_ENOUGH: Row(Phase.OKAY, Timer.FULL, verdict=Health.UP),
        Event.EXPIRED: Row(Phase.DOWN, Timer.FULL, Ask.ANEW),
        Event.REFUSED: Row(Phase.DOWN, Timer.KEEP),
        Event.PAUSED: Row(Phase.REOPEN, Timer.FULL),
        Event.UNSENT: Row(Phase.REOPEN, Timer.KEEP),
    },
}
_ASKING: Final = frozenset((Phase.FIRST, Phase.PROBED, Phase.SUSPECT))  # until PROBES of them are lost
_COUNT_AFRESH: Final = frozenset((Phase.INITIAL, Phase.OKAY, Phase.DOWN))


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of a watchdog in seconds, and how many results in a row it wants.

    `interval_s` is Tw. A lower one than RFC 3539 allows makes everything else as fast: see `fast` in the configuration.
    """

    interval_s: float = 30.0
    rise: int = 3
    fall: int = 3

    @property
    def jitter_s(self) -> float:
        return min(JITTER_S, self.interval_s / 3)

    def patience_s(self, phase: Phase, jitter_s: float) -> float:
        """How long a backend that is asked again and again may be silent: FIRST, PROBED or SUSPECT."""
        if phase is Phase.FIRST:
            return min(_FIRST_WAIT_S, self.interval_s)
        if phase is Phase.SUSPECT:
            return min(LEAST_WATCHDOG_INTERVAL_S, self.interval_s) + jitter_s
        return self.interval_s + jitter_s


class Moment(NamedTuple):
    """What the caller knows: the time, when the last sound reply came (0.0: never), and a random number in [-1, 1]."""

    now: float
    replied_at: float = 0.0
    spread: float = 0.0


class Orders(NamedTuple):
    """What the caller is to do: send a probe, and take a backend for up or down (None: as it was)."""

    ask: Ask = Ask.NOTHING
    verdict: Health | None = None


_NOTHING: Final = Orders()


class Watchdog:
    """One backend's watchdog. Wake it with `Event.EXPIRED` at `expires_at`; too early does no harm.

    Replies to traffic are no calls: each event brings the time of the last one, so that a busy backend costs nothing.
    """

    __slots__ = ("_replied_at", "_steps", "answers", "expires_at", "pace", "phase", "refusals")

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.phase = Phase.INITIAL
        self.expires_at = 0.0  # at once
        self.answers = 0
        self.refusals = 0
        self._steps = 0
        self._replied_at = 0.0

    def handle(self, event: Event, moment: Moment) -> Orders:
        """Take one event. `event` is none of those that are counted."""
        if moment.replied_at > self._replied_at:
            self._replied_at = moment.replied_at
            self._step(Event.REPLIED, moment._replace(now=moment.replied_at))
        if event in (Event.EXPIRED, Event.PAUSED) and moment.now < self.expires_at:
            return _NOTHING
        return self._step(event, moment)

    def _step(self, event: Event, moment: Moment) -> Orders:
        row = TABLE[self.phase].get(self._counted(event))
        if row is None:
            return _NOTHING
        if row.phase is not self.phase:
            self._steps = 0
        if row.phase in _COUNT_AFRESH:
            self.answers = self.refusals = 0
        self.phase = row.phase
        self._set_timer(row.timer, moment)
        return Orders(row.ask, row.verdict)

    def _counted(self, event: Event) -> Event:
        """The event, or its last one when enough of them came in a row."""
        phase, pace = self.phase, self.pace
        if event is Event.ANSWERED and phase in (Phase.DOWN, Phase.REPROBED):
            self.answers += 1
            return Event.ANSWERED_ENOUGH if self.answers >= pace.rise else event
        if event is Event.REFUSED and phase in (Phase.OKAY, Phase.PROBED, Phase.SUSPECT):
            self.refusals += 1
            return Event.REFUSED_ENOUGH if self.refusals >= pace.fall else event
        if event is Event.EXPIRED and phase in _ASKING:
            self._steps += 1
            return Event.EXPIRED_ENOUGH if self._steps > PROBES else event
        if event is Event.UNSENT and phase in _ASKING:
            self._steps = max(0, self._steps - 1)  # it may be of an earlier phase
        return event

    def _set_timer(self, timer: Timer, moment: Moment) -> None:
        jitter_s = moment.spread * self.pace.jitter_s
        match timer:
            case Timer.KEEP:
                pass
            case Timer.FULL:
                self.expires_at = moment.now + self.pace.interval_s + jitter_s
            case Timer.STEP:
                self.expires_at = moment.now + self.pace.patience_s(self.phase, jitter_s) / PROBES
            case Timer.NOW:
                self.expires_at = moment.now
            case _:
                assert_never(timer)
