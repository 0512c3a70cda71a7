"""One HTTP request and its answer.

    request head ──begin()──▶ Refuse                     (no route, nobody there)
                              NeedBody                   (what ties it to a backend is in the body) ──with_body()──▶
                              Forward   to a backend
    not sent     ──refused()──▶ Forward to another backend, or Refuse
    answer head  ──answer_begins()──▶ Release at once, or Hold until its body gave the pin ──answer_held()──▶

Rules of failure (the house, section 7): refused before a byte was sent is another backend at once; anything sent is
never sent again; what continues a transaction is never given to another backend than the one that began it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network

from mfalb.balancer.affinity.cookie import CookieSealer
from mfalb.balancer.affinity.store import Pin, PinStore
from mfalb.balancer.config.models import CookieAffinity, HttpListener, TransactionAffinity
from mfalb.balancer.exchange import refusals
from mfalb.balancer.exchange.forwarding import ClientFacts, request_bytes
from mfalb.balancer.exchange.http_affinity import (
    NOTHING_FOUND,
    CookieStrategy,
    HttpAffinity,
    Moment,
    PinFound,
    TransactionStrategy,
    WithoutAffinity,
)
from mfalb.balancer.exchange.http_hash_key import HttpKey, http_key
from mfalb.balancer.exchange.refusals import Refusal
from mfalb.balancer.exchange.routes import RouteTable
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.choice import NO_KEY
from mfalb.balancer.pools.pool import NOTHING_TRIED, Pool
from mfalb.wire.http import RequestHead, ResponseHead
from mfalb.wire.http_target import routing_path_untrusted

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS"))


@dataclass(slots=True, eq=False)
class HttpExchange:
    """One request under way."""

    head: RequestHead
    client: ClientFacts
    pool: Pool
    affinity: HttpAffinity
    found: PinFound = NOTHING_FOUND
    backend: Backend | None = None
    tried: frozenset[str] = NOTHING_TRIED

    @property
    def may_be_sent_twice(self) -> bool:
        """Whether the same request may reach a backend twice without harm. An OTP submission may not."""
        return self.head.method in _IDEMPOTENT


@dataclass(slots=True)
class Forward:
    """Send it to `backend`."""

    exchange: HttpExchange
    backend: Backend


@dataclass(slots=True)
class NeedBody:
    """Gather the body, up to `limit` bytes, and ask again (`with_body`)."""

    exchange: HttpExchange
    limit: int


@dataclass(slots=True)
class Refuse:
    """Answer the client with this."""

    refusal: Refusal
    exchange: HttpExchange | None = None


RequestDecision = Forward | NeedBody | Refuse


class HttpExchanges:
    """All exchanges of one listener: its routes, and the affinity of each pool."""

    def __init__(
        self, config: HttpListener, pools: Mapping[str, Pool], pins: PinStore, sealer: CookieSealer | None
    ) -> None:
        self._routes = RouteTable(config.routes, pools)
        self._trusted: tuple[IPv4Network | IPv6Network, ...] = config.trusted_proxies
        hashes = {route.pool: pools[route.pool].config.hash for route in config.routes}
        self._keys: dict[str, HttpKey] = {
            name: http_key(by, self._trusted) for name, by in hashes.items() if by is not None
        }
        is_secure = config.tls is not None
        self._affinities = {
            route.pool: _strategy(pools[route.pool], pins, sealer, is_secure=is_secure) for route in config.routes
        }

    def begin(self, head: RequestHead, client: ClientFacts, moment: Moment) -> RequestDecision:
        """Route a request. Raises MalformedMessage for a target that a backend could read as another."""
        host = head.host
        path = routing_path_untrusted(head.target)
        pool = self._routes.find(host, path)
        if pool is None:
            return Refuse(refusals.NO_ROUTE)
        affinity = self._affinities[pool.name]
        exchange = HttpExchange(head, client, pool, affinity)
        if affinity.needs_request_body(head):
            return NeedBody(exchange, affinity.body_limit)
        return self.with_body(exchange, None, moment)

    def with_body(self, exchange: HttpExchange, body: bytes | None, moment: Moment) -> Forward | Refuse:
        """Choose a backend. `body` is the whole body; None when it was not asked for or went past the limit."""
        found = exchange.found = exchange.affinity.pin_of(exchange.head, body, moment)
        pool = exchange.pool
        backend = None
        if found.backend is not None:
            backend = pool.pinned(found.backend)
            if backend is None:
                exchange.found = replace(found, letter="D")
                if found.is_strict:
                    return Refuse(refusals.PINNED_DOWN, exchange)
        elif found.key is not None:
            backend = pool.agreed(found.key)
        return self._to(exchange, backend or self._balanced(exchange))

    def _balanced(self, exchange: HttpExchange) -> Backend | None:
        key_of = self._keys.get(exchange.pool.name)
        key = NO_KEY if key_of is None else key_of(exchange.head, exchange.client)
        return exchange.pool.pick(exchange.tried, key)

    @staticmethod
    def _to(exchange: HttpExchange, backend: Backend | None) -> Forward | Refuse:
        if backend is None:
            return Refuse(refusals.REFUSED_EVERYWHERE if exchange.tried else refusals.NO_BACKEND, exchange)
        exchange.backend = backend
        return Forward(exchange, backend)

    def refused(self, exchange: HttpExchange, backend: Backend) -> Forward | Refuse:
        """The backend could not be reached, and nothing of the request was sent to it."""
        if exchange.found.is_strict:
            return Refuse(refusals.PINNED_DOWN, exchange)
        exchange.tried |= {backend.name}
        return self._to(exchange, self._balanced(exchange))

    def upstream_head(self, exchange: HttpExchange) -> bytes:
        """The request's head as the backend gets it."""
        return request_bytes(exchange.head, exchange.client, self._trusted)

    @staticmethod
    def hold_limit(exchange: HttpExchange, head: ResponseHead) -> int:
        """How many bytes of the answer to hold back for its pin; 0 when it may be released as it comes."""
        affinity = exchange.affinity
        return affinity.body_limit if affinity.needs_response_body(exchange.found, head) else 0

    @staticmethod
    def answer_held(exchange: HttpExchange, body: bytes, now: float) -> Pin | None:
        """The pin that a held answer begins, at monotonic `now`. It must be stored before the answer is released."""
        if exchange.backend is None:
            return None
        return exchange.affinity.pin_begun(exchange.found, body, exchange.backend, now)

    @staticmethod
    def answer_lines(exchange: HttpExchange, moment: Moment) -> bytes:
        """The header lines that affinity adds to the answer."""
        if exchange.backend is None:
            return b""
        return exchange.affinity.response_lines(exchange.found, exchange.backend, moment)


def _strategy(pool: Pool, pins: PinStore, sealer: CookieSealer | None, *, is_secure: bool) -> HttpAffinity:
    affinity = pool.config.affinity
    if isinstance(affinity, CookieAffinity):
        if sealer is None:
            raise ValueError(f"pool {pool.name}: cookie affinity needs cookie keys")  # `check` says so with a position
        return CookieStrategy(pool.name, affinity, sealer, is_secure=is_secure)
    if isinstance(affinity, TransactionAffinity):
        return TransactionStrategy(pool.name, affinity, pins)
    return WithoutAffinity()
