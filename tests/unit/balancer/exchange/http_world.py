"""An HTTP listener's exchanges without sockets: requests as bytes, pools of b1, b2... that are up, a still clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unit.balancer.affinity.node_pins import pin_hub

from mfalb.balancer.affinity.cookie import CookieSealer
from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.config.health_models import TcpCheck
from mfalb.balancer.config.models import (
    Backend,
    CookieAffinity,
    HttpListener,
    NoAffinity,
    Route,
    TransactionAffinity,
)
from mfalb.balancer.config.models import Pool as PoolConfig
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.config.values import Address
from mfalb.balancer.exchange.forwarding import ClientFacts
from mfalb.balancer.exchange.http import Forward, HttpExchange, HttpExchanges, Refuse
from mfalb.balancer.exchange.http_affinity import Moment
from mfalb.balancer.pools.pool import Pool
from mfalb.wire.http import RequestReader, ResponseReader
from mfalb.wire.http_events import RequestEvents, ResponseEvents
from mfalb.wire.http_heads import RequestHead, ResponseHead

CLIENT = ClientFacts("192.0.2.7", is_tls=True)
KEY = bytes(range(32))
Affinity = NoAffinity | CookieAffinity | TransactionAffinity | TransactionIdAffinity


def moment(now: float = 1000.0) -> Moment:
    """Both clocks show the same: nothing here depends on their difference."""
    return Moment(now, now, bytes(range(16)))


def make_pool(name: str = "web", affinity: Affinity | None = None, servers: int = 2) -> Pool:
    """A pool whose backends were all found up."""
    config = PoolConfig(
        backends=tuple(Backend(name=f"b{n}", address=Address("192.0.2.1", 80 + n)) for n in range(1, servers + 1)),
        affinity=affinity or NoAffinity(),
        health_check=TcpCheck(type="tcp", rise=1, fall=1),
    )
    pool = Pool(name, config)
    for backend in pool.backends:
        pool.observe(backend, is_good=True, reason="test", now=0.0)
    return pool


def make_exchanges(
    pools: Mapping[str, Pool], routes: Sequence[Route] = (Route(pool="web"),), pins: Hub | None = None
) -> HttpExchanges:
    config = HttpListener(name="l", protocol="http", bind=(Address("192.0.2.9", 80),), routes=tuple(routes))
    return HttpExchanges(config, pools, pin_hub(100) if pins is None else pins, CookieSealer([KEY]))


class GatheredRequests(RequestEvents):
    """The heads of the requests that a reader met."""

    def __init__(self) -> None:
        self.heads: list[RequestHead] = []

    def request_head(self, head: RequestHead) -> None:
        self.heads.append(head)

    def request_body(self, data: bytes) -> None: ...

    def request_end(self, trailers: list[bytes]) -> None: ...


class GatheredResponses(ResponseEvents):
    """The heads of the responses that a reader met, and their bodies in pieces."""

    def __init__(self) -> None:
        self.heads: list[ResponseHead] = []
        self.bodies: list[bytes] = []

    def response_head(self, head: ResponseHead) -> None:
        self.heads.append(head)

    def response_body(self, data: bytes) -> None:
        self.bodies.append(data)

    def response_end(self, trailers: list[bytes]) -> None: ...


def request(*lines: str, target: str = "/", method: str = "GET", version: str = "1.1") -> RequestHead:
    """A request head with these header lines, and `Host: x` unless one is given."""
    given = list(lines)
    if not any(line.lower().startswith("host:") for line in given):
        given.insert(0, "Host: x")
    text = "\r\n".join([f"{method} {target} HTTP/{version}", *given, "", ""])
    gathered = GatheredRequests()
    RequestReader(gathered, header_bytes=65_536).feed_untrusted(text.encode("latin-1"))
    return gathered.heads[0]


def response(*lines: str, status: str = "200 OK", method: bytes = b"GET") -> ResponseHead:
    """A response head with these header lines."""
    gathered = GatheredResponses()
    reader = ResponseReader(gathered)
    reader.expect(method, may_switch=True)
    reader.feed_untrusted("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1"))
    return gathered.heads[0]


def backend_of(decision: Forward | Refuse | object) -> str:
    """The name of the backend that a request goes to."""
    assert isinstance(decision, Forward), decision
    return decision.backend.name


def exchange_of(decision: Forward | object) -> HttpExchange:
    assert isinstance(decision, Forward), decision
    return decision.exchange
