"""One HTTP request and its answer.

    request head ──begin()──▶ Refuse                     (no route, nobody there)
                              NeedBody                   (what ties it to a backend is in the body) ──with_body()──▶
                              Wait      until a backend has room ──(its turn comes)──▶ Forward
                              Forward   to a backend
    not sent     ──refused()──▶ Forward to another backend, or Refuse
    not answered ──unanswered()──▶ Forward to another backend where that was asked for, or None
    answer head  ──hold_limit()──▶ release at once, or hold until its body gave the pins ──answer_held()──▶

Rules of failure (the house, section 7): refused before a byte was sent is another backend at once; what continues a
transaction is never given to another backend than the one that began it; an OTP submission is never sent again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mfalb.balancer.affinity.cookie import CookieSealer
from mfalb.balancer.affinity.store import Pin, PinChange, PinStore
from mfalb.balancer.config.models import CookieAffinity, HttpListener, TransactionAffinity
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts, Networks, RequestWriter
from mfalb.balancer.exchange.http_affinity import (
    NO_CHANGES,
    NOTHING_FOUND,
    CookieStrategy,
    HttpAffinity,
    Moment,
    TransactionStrategy,
    WithoutAffinity,
)
from mfalb.balancer.exchange.http_hash_key import HttpKey, http_key
from mfalb.balancer.exchange.http_transaction_id import TransactionIdStrategy
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.exchange.request_ids import RequestIds
from mfalb.balancer.exchange.routes import RouteTable
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.choice import NO_KEY
from mfalb.balancer.pools.pool import NOTHING_TRIED, Pool
from mfalb.wire.http_heads import RequestHead, ResponseHead
from mfalb.wire.http_target import routing_path_untrusted

_IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_KNOWN_LIMIT: Final = 4096  # targets whose route is remembered; clients choose them, so when full all are forgotten


class HttpExchange:
    """One request under way. `request_id` is b"" where none is given.

    `given` is the access log's letter for what the answer did to the pin: HAProxy's fourth (N none, I inserted, U
    updated).
    """

    __slots__ = ("affinity", "backend", "client", "found", "given", "head", "pool", "request_id", "tried")

    def __init__(self, head: RequestHead, client: ClientFacts, pool: Pool, affinity: HttpAffinity) -> None:
        self.head = head
        self.client = client
        self.pool = pool
        self.affinity = affinity
        self.found = NOTHING_FOUND
        self.backend: Backend | None = None
        self.tried = NOTHING_TRIED
        self.request_id = b""
        self.given = "-"

    @property
    def may_be_sent_twice(self) -> bool:
        """Whether the same request may reach a backend twice without harm. An OTP submission may not."""
        return self.head.method in _IDEMPOTENT and not self.found.is_strict


class Forward:
    """Send it to `backend`."""

    __slots__ = ("backend", "exchange")

    def __init__(self, exchange: HttpExchange, backend: Backend) -> None:
        self.exchange = exchange
        self.backend = backend


class NeedBody:
    """Gather the body, up to `limit` bytes, and ask again (`with_body`)."""

    __slots__ = ("exchange", "limit")

    def __init__(self, exchange: HttpExchange, limit: int) -> None:
        self.exchange = exchange
        self.limit = limit


class Wait:
    """Let it wait in its pool's line: for `backend`, or for any when that is None."""

    __slots__ = ("backend", "exchange")

    def __init__(self, exchange: HttpExchange, backend: Backend | None) -> None:
        self.exchange = exchange
        self.backend = backend


class Refuse:
    """Answer the client with this."""

    __slots__ = ("exchange", "refusal")

    def __init__(self, refusal: Refusal, exchange: HttpExchange | None = None) -> None:
        self.refusal = refusal
        self.exchange = exchange


Decision = Forward | Wait | Refuse
RequestDecision = Decision | NeedBody


class HttpExchanges:
    """All exchanges of one listener: its routes, and the affinity of each pool."""

    def __init__(
        self, config: HttpListener, pools: Mapping[str, Pool], pins: PinStore, sealer: CookieSealer | None
    ) -> None:
        self._routes = RouteTable(config.routes, pools)
        self._known: dict[bytes, dict[bytes, Pool]] = {}
        self._known_paths = 0
        self.trusted: Networks = config.trusted_proxies
        self._accepts_encoded_slashes = "encoded_slashes" in config.accept
        self._writer = RequestWriter(config.forwarding)
        self.via = config.forwarding.via.encode() if config.forwarding.via is not None else b""
        self._ids = RequestIds(config.request_id) if config.request_id is not None else None
        hashes = {route.pool: pools[route.pool].config.hash for route in config.routes}
        self._keys: dict[str, HttpKey] = {
            name: http_key(by, self.trusted) for name, by in hashes.items() if by is not None
        }
        is_secure = config.tls is not None
        self._affinities: dict[str, HttpAffinity] = {
            route.pool: _strategy(pools[route.pool], pins, sealer, is_secure=is_secure) for route in config.routes
        }

    def begin(self, head: RequestHead, client: ClientFacts, moment: Moment) -> RequestDecision:
        """Route a request. Raises MalformedMessage for a target that a backend could read as another."""
        pool = self._pool_untrusted(head)
        if pool is None:
            return Refuse(refusals.NO_ROUTE)
        affinity = self._affinities[pool.name]
        exchange = HttpExchange(head, client, pool, affinity)
        if self._ids is not None:
            exchange.request_id = self._ids.id_for(head, client, moment.entropy)
        if b"expect" in head.special and not _settle_expect(head):
            return Refuse(refusals.EXPECTATION_FAILED, exchange)
        pool.retries.earn()
        if affinity.body_limit and affinity.needs_request_body(head):
            return NeedBody(exchange, affinity.body_limit)
        return self.with_body(exchange, None, moment)

    def _pool_untrusted(self, head: RequestHead) -> Pool | None:
        """Where a target leads. The path of nearly every request was seen before, and is judged once."""
        host = head.special.get(b"host", b"")
        paths = self._known.get(host)
        pool = None if paths is None else paths.get(head.path)
        if pool is None:
            routing_path = routing_path_untrusted(head.target, accepts_slashes=self._accepts_encoded_slashes)
            pool = self._routes.find(head.host, routing_path)
            if pool is not None:
                self._remember(host, head.path, pool)
        return pool

    def _remember(self, host: bytes, path: bytes, pool: Pool) -> None:
        """By host and path apart: those of a known header and request line are not hashed again (0.1 us)."""
        if self._known_paths >= _KNOWN_LIMIT:
            self._known.clear()
            self._known_paths = 0
        self._known.setdefault(host, {})[path] = pool
        self._known_paths += 1

    def with_body(self, exchange: HttpExchange, body: bytes | None, moment: Moment) -> Decision:
        """Choose a backend. `body` is the whole body; None when it was not asked for or went past the limit."""
        exchange.found = exchange.affinity.pin_of(exchange.head, body, moment)
        return self.with_pin(exchange)

    @staticmethod
    def missing_keys(exchange: HttpExchange, body: bytes, moment: Moment) -> tuple[bytes, ...]:
        """The keys of pins that a request needs and this node has not. Afterwards `with_pin`, or `with_body` anew."""
        found = exchange.found = exchange.affinity.pin_of(exchange.head, body, moment)
        return () if found.key is None or found.backend is not None else (found.key,)

    def with_pin(self, exchange: HttpExchange) -> Decision:
        """Choose a backend by what was found."""
        found, pool = exchange.found, exchange.pool
        backend = None
        if found.backend is not None:
            backend = pool.pinned(found.backend)
            if backend is None:
                exchange.found = found.with_letter("D")
                if found.is_strict:
                    return Refuse(refusals.PINNED_DOWN, exchange)
        elif found.key is not None:
            backend = pool.agreed(found.key)
        if backend is None:
            return self._balanced(exchange)
        return Wait(exchange, backend) if backend.is_full else self._to(exchange, backend)

    def _balanced(self, exchange: HttpExchange) -> Decision:
        """Whose turn it is; the line when all that could take it have as much as they may."""
        pool = exchange.pool
        key = NO_KEY
        if self._keys:
            key_of = self._keys.get(pool.name)
            key = NO_KEY if key_of is None else key_of(exchange.head, exchange.client)
        backend = pool.pick(exchange.tried, key)
        if backend is None:
            return Refuse(refusals.REFUSED_EVERYWHERE if exchange.tried else refusals.NO_BACKEND, exchange)
        if backend.is_full:
            backend = pool.pick(exchange.tried | pool.full, key)
            if backend is None:
                return Wait(exchange, None)
        return self._to(exchange, backend)

    @staticmethod
    def _to(exchange: HttpExchange, backend: Backend) -> Decision:
        exchange.backend = backend
        return Forward(exchange, backend)

    def turn(self, exchange: HttpExchange, backend: Backend) -> Decision:
        """Its turn has come at this backend."""
        return self._to(exchange, backend)

    def refused(self, exchange: HttpExchange, backend: Backend) -> Decision:
        """The backend could not be reached, and nothing of the request was sent to it."""
        exchange.tried |= {backend.name}
        if exchange.found.is_strict:
            return Refuse(refusals.PINNED_DOWN, exchange)
        if not exchange.pool.retries.spend():
            return Refuse(refusals.REFUSED_EVERYWHERE, exchange)
        return self._balanced(exchange)

    def unanswered(self, exchange: HttpExchange, backend: Backend) -> Decision | None:
        """The request was sent whole, and the connection broke before a byte came back. None: it may not go on."""
        if not exchange.pool.config.retries.idempotent or not exchange.may_be_sent_twice:
            return None
        if not exchange.pool.retries.spend():
            return None
        exchange.tried |= {backend.name}
        decision = self._balanced(exchange)
        return None if isinstance(decision, Refuse) else decision

    def upstream_head(self, exchange: HttpExchange) -> bytes:
        """The request's head as the backend gets it."""
        added = b"" if self._ids is None else self._ids.line(exchange.request_id)
        return self._writer.head(exchange.head, exchange.client, added)

    @staticmethod
    def hold_limit(exchange: HttpExchange, head: ResponseHead) -> int:
        """How many bytes of the answer to hold back for its pin; 0 when it may be released as it comes."""
        affinity = exchange.affinity
        return affinity.body_limit if affinity.needs_response_body(exchange.found, head) else 0

    @staticmethod
    def answer_held(exchange: HttpExchange, body: bytes, now: float) -> tuple[PinChange, ...]:
        """The pins that a held answer begins, at monotonic `now`, or the end of what the request continued.

        Pins must be stored before the answer is released.
        """
        if exchange.backend is None:
            return NO_CHANGES
        changes = exchange.affinity.pin_changes(exchange.found, body, exchange.backend, now)
        exchange.given = "I" if any(isinstance(one, Pin) for one in changes) else "N"
        return changes

    def answer_lines(self, exchange: HttpExchange, moment: Moment) -> bytes:
        """The header lines that affinity and the request's name add to the answer."""
        if exchange.backend is None:
            return b""
        lines = exchange.affinity.response_lines(exchange.found, exchange.backend, moment)
        if exchange.affinity.is_by_cookie:
            exchange.given = "N" if not lines else "I" if exchange.found.cookie is None else "U"
        return lines if self._ids is None else lines + self._ids.answer_line(exchange.request_id)


def _settle_expect(head: RequestHead) -> bool:
    """Whether what is expected can be met: 100-continue alone, ignored in 1.0 (RFC 9110 section 10.1.1)."""
    wanted = {one.strip().lower() for one in head.special.pop(b"expect").split(b",")} - {b""}
    if not head.minor_version or not wanted:
        return True
    head.special[b"expect"] = b"100-continue"
    return wanted == {b"100-continue"}


def _strategy(pool: Pool, pins: PinStore, sealer: CookieSealer | None, *, is_secure: bool) -> HttpAffinity:
    affinity = pool.config.affinity
    if isinstance(affinity, CookieAffinity):
        if sealer is None:
            raise ValueError(f"pool {pool.name}: cookie affinity needs cookie keys")  # `check` says so with a position
        return CookieStrategy(pool.name, affinity, sealer, is_secure=is_secure)
    if isinstance(affinity, TransactionAffinity):
        return TransactionStrategy(pool.name, affinity, pins)
    if isinstance(affinity, TransactionIdAffinity):
        return TransactionIdStrategy(pool.name, affinity, pins)
    return WithoutAffinity()
