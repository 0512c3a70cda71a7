"""How a pool's affinity looks at an HTTP exchange: one strategy a kind, all with the same questions.

needs_request_body   must the body be read before a backend can be chosen?
pin_of               which backend began what this request continues?
needs_response_body  must the answer be held until its pins are stored?
pin_changes          which pins does the held answer begin, or whose sign-in does it end?
response_lines       which header lines does the answer get for it?
shown_path           how is a path written into the access log?
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from mfalb.balancer.affinity.cookie import CookieFinding, CookieLife, CookiePin, CookieSealer
from mfalb.balancer.affinity.store import Pin, PinChange, PinEnd, PinStore
from mfalb.balancer.affinity.transaction import TransactionReader
from mfalb.balancer.config.models import CookieAffinity, TransactionAffinity
from mfalb.balancer.pools.backend import Backend
from mfalb.wire.cookies import find_cookie, set_cookie, without_cookie
from mfalb.wire.http_fields import Framing
from mfalb.wire.http_heads import RequestHead, ResponseHead

_OPENED_LIMIT: Final = 10_000  # about 400 bytes each
_OK: Final = 200
_XML_TYPES: Final = (b"text/xml", b"application/soap+xml", b"application/xml")


class Moment:
    """Now on both clocks (seconds): monotonic for tables, wall for what other nodes read; and 16 random bytes."""

    __slots__ = ("entropy", "monotonic", "wall")

    def __init__(self, monotonic: float, wall: float, entropy: bytes) -> None:
        self.monotonic = monotonic
        self.wall = wall
        self.entropy = entropy


class PinFound:
    """What a request carried.

    `backend` is the name a pin gives (None: no pin). `is_strict`: what it continues cannot be finished by another.
    `letter` is for the access log: HAProxy's third letter (N none, V valid, E expired, O old, I invalid, D down).
    `key` is set when the request continues something, whether its pin is known or not, and `found_at` is when that was
    looked for (monotonic seconds); `user` and `cookie` are what the strategy remembers until the answer. A value: never
    changed once it is made.
    """

    __slots__ = ("backend", "cookie", "found_at", "is_strict", "key", "letter", "user")

    def __init__(  # noqa: PLR0913 - a value made on the hot path
        self,
        letter: str,
        backend: str | None = None,
        *,
        is_strict: bool = False,
        key: bytes | None = None,
        user: str = "",
        cookie: CookiePin | None = None,
        found_at: float = 0.0,
    ) -> None:
        self.letter = letter
        self.backend = backend
        self.is_strict = is_strict
        self.key = key
        self.user = user
        self.cookie = cookie
        self.found_at = found_at

    def with_letter(self, letter: str) -> PinFound:
        """The same with another letter."""
        return PinFound(
            letter,
            self.backend,
            is_strict=self.is_strict,
            key=self.key,
            user=self.user,
            cookie=self.cookie,
            found_at=self.found_at,
        )


class HttpAffinity(ABC):
    """What each strategy answers; see the module's docstring. `body_limit` is 0 for those that need no bodies."""

    body_limit: int
    is_by_cookie: bool

    @abstractmethod
    def needs_request_body(self, head: RequestHead) -> bool: ...

    @abstractmethod
    def pin_of(self, head: RequestHead, body: bytes | None, moment: Moment) -> PinFound: ...

    @abstractmethod
    def needs_response_body(self, found: PinFound, head: ResponseHead) -> bool: ...

    @abstractmethod
    def pin_changes(self, found: PinFound, body: bytes, backend: Backend, now: float) -> tuple[PinChange, ...]: ...

    @abstractmethod
    def response_lines(self, found: PinFound, backend: Backend, moment: Moment) -> bytes: ...

    @abstractmethod
    def shown_path(self, path: bytes) -> bytes: ...


NOTHING_FOUND: Final = PinFound("-")
NO_CHANGES: Final[tuple[PinChange, ...]] = ()
_VALID: Final = CookieFinding.VALID
_NO_COOKIE: Final = PinFound(CookieFinding.NONE.value)
_INVALID_COOKIE: Final = PinFound(CookieFinding.INVALID.value)


class WithoutAffinity(HttpAffinity):
    """Every request is balanced by itself."""

    def __init__(self) -> None:
        self.body_limit = 0
        self.is_by_cookie = False

    def needs_request_body(self, _head: RequestHead) -> bool:
        return False

    def pin_of(self, _head: RequestHead, _body: bytes | None, _moment: Moment) -> PinFound:
        return NOTHING_FOUND

    def needs_response_body(self, _found: PinFound, _head: ResponseHead) -> bool:
        return False

    def pin_changes(self, _found: PinFound, _body: bytes, _backend: Backend, _now: float) -> tuple[PinChange, ...]:
        return NO_CHANGES

    def response_lines(self, _found: PinFound, _backend: Backend, _moment: Moment) -> bytes:
        return b""

    def shown_path(self, path: bytes) -> bytes:
        return path


class CookieStrategy(WithoutAffinity):
    """A browser session: the cookie carries the pin. The backend never sees it (it is taken out of the request)."""

    def __init__(self, pool: str, config: CookieAffinity, sealer: CookieSealer, *, is_secure: bool) -> None:
        super().__init__()
        self.is_by_cookie = True
        self._pool = pool
        self._config = config
        self._name = config.name.encode()
        self._start = self._name + b"="
        self._idle_s = config.idle_timeout_s
        self._max_s = config.max_life_s
        self._life = CookieLife(config.idle_timeout_s, config.max_life_s)
        self._sealer = sealer
        self._is_secure = is_secure
        # A cookie is renewed after a tenth of its idle time: sealing on every answer would buy nothing
        self._renew_after_s = config.idle_timeout_s / 10
        # What a sealed value says never changes, and a browser sends it with every request: a look-up instead of
        # 8 us of decryption (measured). When full it is emptied. Only whether it still counts is judged each time.
        self._opened: dict[bytes, PinFound] = {}

    def pin_of(self, head: RequestHead, _body: bytes | None, moment: Moment) -> PinFound:
        header = head.special.get(b"cookie")
        if header is None:
            return _NO_COOKIE
        if header.startswith(self._start):  # ours alone, as with most clients but browsers, and seen before
            found = self._opened.get(header[len(self._start) :])
            if found is not None:
                head.special[b"cookie"] = b""
                return self._judged(found, moment)
        value = find_cookie(header, self._name)
        if value is None:
            return _NO_COOKIE
        head.special[b"cookie"] = without_cookie(header, self._name)
        found = self._opened.get(value)
        if found is None:
            found = self._found_untrusted(value)
            if found is None:
                return _INVALID_COOKIE
        return self._judged(found, moment)

    def _judged(self, found: PinFound, moment: Moment) -> PinFound:
        """What a cookie that is ours counts for now."""
        pin = found.cookie
        if pin is None:
            return found
        age_s = moment.wall - pin.used_at
        if 0 <= age_s <= self._idle_s and moment.wall - pin.issued_at <= self._max_s:
            return found
        finding = self._life.judge(pin, moment.wall)
        return found if finding is _VALID else PinFound(finding.value)

    def _found_untrusted(self, value: bytes) -> PinFound | None:
        """What a cookie says that was not seen before; None for one that is not ours."""
        pin = self._sealer.open_untrusted(self._pool, value)
        if pin is None:
            return None
        if len(self._opened) >= _OPENED_LIMIT:
            self._opened.clear()
        found = self._opened[value] = PinFound(CookieFinding.VALID.value, pin.backend, cookie=pin)
        return found

    def response_lines(self, found: PinFound, backend: Backend, moment: Moment) -> bytes:
        """A Set-Cookie line when the session is new, moved (the cookie names who answered) or due for renewal."""
        old = found.cookie
        is_same = old is not None and old.backend == backend.name
        if old is not None and is_same and moment.wall - old.used_at < self._renew_after_s:
            return b""
        issued_at = old.issued_at if old is not None and is_same else int(moment.wall)
        value = self._sealer.seal(self._pool, CookiePin(backend.name, issued_at, int(moment.wall)), moment.entropy[:12])
        line = set_cookie(self._config.name, value, self._config.path, is_secure=self._is_secure)
        # RFC 9111 section 7.3: a shared cache that kept this answer would send everybody to one server
        return b'Set-Cookie: %b\r\nCache-Control: no-cache="Set-Cookie"\r\n' % line


class TransactionStrategy(WithoutAffinity):
    """The halves of a SOAP transaction: the answer to each is held until it is read, and its pin stored or ended."""

    def __init__(self, pool: str, config: TransactionAffinity, pins: PinStore) -> None:
        super().__init__()
        self.body_limit = config.body_limit
        self._life_s = config.lifetime_s
        self._reader = TransactionReader(pool, config)
        self._pins = pins

    def needs_request_body(self, head: RequestHead) -> bool:
        if head.framing is Framing.NONE or not head.special.get(b"content-type", b"").lower().startswith(_XML_TYPES):
            return False
        # The answer must be readable too, so no encoding is asked for; a compressed one would pass unpinned.
        head.special.pop(b"accept-encoding", None)
        return True

    def pin_of(self, _head: RequestHead, body: bytes | None, moment: Moment) -> PinFound:
        if body is None:
            return NOTHING_FOUND
        user, key = self._reader.request_untrusted(body)
        if key is None:
            return PinFound("N", user=user)
        backend = self._pins.find(key, moment.monotonic)
        letter = "V" if backend is not None else "I"
        return PinFound(letter, backend, is_strict=True, key=key, user=user, found_at=moment.monotonic)

    def needs_response_body(self, found: PinFound, head: ResponseHead) -> bool:
        if found.key is not None:
            is_of_interest = found.backend is not None and head.status == _OK
        else:
            is_of_interest = self._reader.is_by_id_alone or bool(found.user)
        return is_of_interest and b"content-encoding" not in head.special

    def pin_changes(self, found: PinFound, body: bytes, backend: Backend, now: float) -> tuple[PinChange, ...]:
        if found.key is not None:
            is_ended = self._reader.is_ended_by_untrusted(body)
            return (PinEnd(found.key, backend.name, found.found_at),) if is_ended else NO_CHANGES
        key = self._reader.response_untrusted(found.user, body)
        return NO_CHANGES if key is None else (Pin(key, backend.name, now + self._life_s),)
