"""Sign-in sessions in this process's memory: bounded, expiring, with a new id at each step up.

    (none) --password accepted, text sent--> Waiting --code accepted--> SignedIn --log out or idle--> (none)
    (none) --password accepted, call answered--------------------------> SignedIn
    (none) --password accepted, no phone known--> Enrolling --phone given--> as with a password accepted

A session id never survives a step up, so one that was planted or seen before is worth nothing after (session
fixation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cachetools import TLRUCache

from mfalb.reference.web.forms import new_token

WAITING_S: Final = 300.0  # outlives the code (about 180 s), so that a late code is refused by who knows best
IDLE_S: Final = 1200.0  # ASP.NET's default session time-out
LIMIT: Final = 10_000  # when full, the least recently used session ends; only holders of passwords can begin one


@dataclass(frozen=True, slots=True)
class Waiting:
    """The password was right; a code is on its way. `request_id` ties the code to the first half."""

    user: str
    request_id: str = field(repr=False)
    csrf: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Enrolling:
    """The password was right, and the MFA Servers do not know the user yet."""

    user: str
    csrf: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Both factors were right."""

    user: str
    csrf: str = field(repr=False)


Session = Waiting | Enrolling | SignedIn


class Sessions:
    """Sessions by id.

    `now` gives seconds on a clock that never goes back; `token` gives a new unguessable text for each id and each
    CSRF token.
    """

    def __init__(self, now: Callable[[], float], token: Callable[[], str] = new_token, limit: int = LIMIT) -> None:
        self._token = token
        self._sessions: TLRUCache[str, Session] = TLRUCache(limit, _expires_at, timer=now)

    def __len__(self) -> int:
        """How many sessions are alive."""
        self._sessions.expire()
        return len(self._sessions)

    def find(self, session_id: str) -> Session | None:
        """The session of that id. Finding a signed-in one keeps it from idling out; the others have a fixed end."""
        session = self._sessions.get(session_id)
        if isinstance(session, SignedIn):
            self._sessions[session_id] = session
        return session

    def wait_for_code(self, user: str, request_id: str) -> str:
        """Begin a session whose code is on its way; returns its id."""
        return self._begin(Waiting(user, request_id, self._token()))

    def enrol(self, user: str) -> str:
        """Begin a session in which a phone has to be given first; returns its id."""
        return self._begin(Enrolling(user, self._token()))

    def sign_in(self, user: str) -> str:
        """Begin a signed-in session, for a factor that needed no code; returns its id."""
        return self._begin(SignedIn(user, self._token()))

    def step_up(self, session_id: str) -> str | None:
        """Sign in the session that waits, under a new id; None when it ended meanwhile or does not wait."""
        session = self._sessions.get(session_id)
        if not isinstance(session, Waiting):
            return None
        self.end(session_id)
        return self.sign_in(session.user)

    def end(self, session_id: str) -> None:
        """End a session; one that is not there has ended already."""
        self._sessions.pop(session_id, None)

    def _begin(self, session: Session) -> str:
        session_id = self._token()
        self._sessions[session_id] = session
        return session_id


def _expires_at(_session_id: str, session: Session, now: float) -> float:
    return now + (IDLE_S if isinstance(session, SignedIn) else WAITING_S)
