"""From a RADIUS listener's configuration to the exchanges of one of its services."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import assert_never

from mfalb.balancer.affinity.store import PinStore
from mfalb.balancer.config.radius_models import (
    ProxyStateUse,
    RadiusClient,
    RadiusListener,
    RadiusSessionAffinity,
    RefusalForm,
    ServiceKind,
)
from mfalb.balancer.config.radsec_models import RadsecClient, RadsecListener
from mfalb.balancer.exchange.duplicates import DuplicateTable
from mfalb.balancer.exchange.radius import RadiusExchanges
from mfalb.balancer.exchange.radius_accounting import Accounting, FollowedAuthentication
from mfalb.balancer.exchange.radius_authentication import Authentication
from mfalb.balancer.exchange.radius_dynamic_authorization import DynamicAuthorization
from mfalb.balancer.exchange.radius_exchange import RadiusExchange
from mfalb.balancer.exchange.radius_guards import RadiusGuards, UserLimit
from mfalb.balancer.exchange.radius_peer import RadiusPeer, Secrets
from mfalb.balancer.exchange.radius_service import RadiusService
from mfalb.balancer.exchange.radius_shared import SharedRadiusExchanges
from mfalb.balancer.pools.backend import Backend
from mfalb.balancer.pools.pool import Pool
from mfalb.wire import radius

AnyRadiusListener = RadiusListener | RadsecListener


class RadiusAssembly:
    """Puts exchanges together from what all of them share: the pools, the pins and one object for each secret.

    `mark` gives 8 bytes for a service's name, what it knows its own requests by: nobody else can guess them, and they
    are the same after a reload and in all workers. `is_shared`: other nodes share the pins.
    """

    is_shared = False

    def __init__(
        self, pools: Mapping[str, Pool], pins: PinStore, secrets: Secrets, mark: Callable[[str], bytes]
    ) -> None:
        self._pools = pools
        self._pins = pins
        self._secrets = secrets
        self._mark = mark

    def exchanges(
        self, config: AnyRadiusListener, kind: ServiceKind, unhandled_hidden: Counter[str]
    ) -> RadiusExchanges:
        """The exchanges of a service that this listener has. `unhandled_hidden` is the listener's count.

        Tables and guards are each service's own, with the listener's limits: records that pile up cost no sign-in.
        """
        pool = self._pools[config.pools[kind]]
        own_proxy_state = self._mark(f"{config.name}/{kind}")
        service = self._service(config, kind, pool)
        for backend in pool.backends.values():
            if is_marked(config, backend):
                service.upstreams[backend.name].proxy_state = radius.attribute(radius.PROXY_STATE, own_proxy_state)
        service.unhandled_hidden = unhandled_hidden
        duplicates: DuplicateTable[RadiusExchange] = DuplicateTable(
            config.in_flight_limit, config.answer_cache_limit, config.answer_cache_s
        )
        made = SharedRadiusExchanges if self.is_shared else RadiusExchanges
        return made(service, duplicates, _guards(config, kind, own_proxy_state))

    def _service(self, config: AnyRadiusListener, kind: ServiceKind, pool: Pool) -> RadiusService:
        upstreams = self._backends(pool, kind)
        match kind:
            case ServiceKind.AUTHENTICATION:
                session_s = _followed_s(pool.name, self._pools)
                if session_s > 0:
                    return FollowedAuthentication(pool, upstreams, self._pins, session_s)
                return Authentication(pool, upstreams, self._pins)
            case ServiceKind.ACCOUNTING:
                return Accounting(pool, upstreams, self._pins)
            case ServiceKind.DYNAMIC_AUTHORIZATION:
                follows = self._pools[config.follows] if config.follows is not None else None
                return DynamicAuthorization(pool, upstreams, follows)
        assert_never(kind)

    def _backends(self, pool: Pool, kind: ServiceKind) -> dict[str, RadiusPeer]:
        """What is shared with each backend of a RADIUS pool. Every such backend has a secret: `check` sees to it.

        What may be required of answers against CVE-2024-3596 is required of authentication only.
        """
        is_forgeable = kind is ServiceKind.AUTHENTICATION
        shared = {name: pool.config.radius_secret(backend.config) for name, backend in pool.backends.items()}
        return {
            backend.name: RadiusPeer(
                backend.name,
                self._secrets.of(secret.reveal()),
                is_forgeable and backend.config.require_message_authenticator,
                is_forgeable and backend.config.limit_proxy_state,
            )
            for backend in pool.backends.values()
            if (secret := shared[backend.name]) is not None
        }


def is_marked(config: AnyRadiusListener, backend: Backend) -> bool:
    """Whether what a backend gets has a Proxy-State of ours in it.

    Two balancers that have each other for a backend would pass a request on for ever otherwise.
    """
    match config.add_proxy_state:
        case ProxyStateUse.ALWAYS:
            return True
        case ProxyStateUse.NEVER:
            return False
        case ProxyStateUse.AUTO:
            return _may_be_client(config, backend.address.host)
    assert_never(config.add_proxy_state)


def _may_be_client(config: AnyRadiusListener, host: str) -> bool:
    clients: tuple[RadiusClient | RadsecClient, ...] = config.clients
    networks = [client.network for client in clients]
    try:
        address = ip_address(host)
    except ValueError:
        return True  # over TLS a host is looked up for each connection
    return any(network is None or address in network for network in networks)


def _followed_s(pool: str, pools: Mapping[str, Pool]) -> float:
    """How long the sessions that a pool lets in are followed by accounting; 0 when they are not."""
    affinities = (other.config.affinity for other in pools.values())
    lives = [one.lifetime_s for one in affinities if isinstance(one, RadiusSessionAffinity) and one.follows == pool]
    return max(lives, default=0.0)


def _guards(config: AnyRadiusListener, kind: ServiceKind, own_proxy_state: bytes) -> RadiusGuards:
    """The guards of a service, as its listener is configured. Only sign-ins are counted by user."""
    clients: tuple[RadiusClient | RadsecClient, ...] = config.clients
    rates = {client.name: client.rate_limit for client in clients if client.rate_limit is not None}
    limit = config.user_limit if kind is ServiceKind.AUTHENTICATION else None
    user_limit = UserLimit(limit.sign_ins, limit.window_s, limit.answer is RefusalForm.REJECT) if limit else None
    return RadiusGuards(config.proxy_state_limit, rates, user_limit, own_proxy_state)
