"""Do TCP listeners and the pools that they lead to fit together?

Each check takes a Draft and adds findings; `check_tcp_references` runs them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.health_models import RadiusCheck
from mfalb.balancer.config.models import NoAffinity, Pool
from mfalb.balancer.config.references import no_repeats
from mfalb.balancer.config.values import quoted


def check_tcp_references(draft: Draft, findings: Findings) -> None:
    """Adds everything about TCP that repeats itself or does not fit."""
    for look in (_routes, _shared_pools, _affinities, _backends, _checks):
        look(draft, findings)


def _routes(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.tcp_listeners():
        names = (
            ((*loc, "routes", index), (route.sni or "any name").lower().rstrip("."))
            for index, route in enumerate(listener.routes)
        )
        no_repeats(names, "route: {value} has a route on line {line} already; remove one", draft, findings)


def _shared_pools(draft: Draft, findings: Findings) -> None:
    for loc, route in draft.tcp_routes():
        pool = draft.pools.get(route.pool)
        if route.pool in draft.radius_pools():
            trouble = "takes RADIUS already; TCP needs a pool of its own"
        elif pool is not None and pool.upstream_tls is not None:
            trouble = "has upstream_tls, which TCP cannot use: bytes pass as they are; it needs a pool of its own"
        else:
            continue
        findings.error(draft.document.at_value((*loc, "pool")), f"pool: {quoted(route.pool)} {trouble}")


def _affinities(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft):
        if not isinstance(pool.affinity, NoAffinity):
            findings.error(
                draft.at_affinity(name),
                f"affinity: pool {quoted(name)} takes TCP, of which nothing is read that could be a pin; remove it",
            )


def _backends(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft):
        for index, backend in enumerate(pool.backends):
            if backend.secret is not None:
                findings.error(
                    draft.document.at_key(("pools", name, "backends", index)),
                    f"backend {quoted(backend.name)} takes TCP, which uses no secret; remove it",
                )


def _checks(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft):
        if isinstance(pool.health_check, RadiusCheck):
            position = draft.document.at_value(("pools", name, "health_check", "type"))
            findings.error(position, f"type: pool {quoted(name)} takes TCP, which radius cannot check; write tcp")


def _pools(draft: Draft) -> Iterator[tuple[str, Pool]]:
    """The pools that take TCP only: of what they share with others the others' checks speak."""
    names = draft.tcp_pools() - draft.http_pools() - draft.radius_pools()
    return ((name, draft.pools[name]) for name in sorted(names) if name in draft.pools)
