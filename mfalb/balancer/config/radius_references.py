"""Do RADIUS listeners, their pools and the servers in them fit the service they are for?

Each check takes a Draft and adds findings; `check_radius_references` runs them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from itertools import product
from typing import Final

from mfalb.balancer.config.document import Loc, Position
from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.models import Backend, NoAffinity, Pool, RadiusStateAffinity
from mfalb.balancer.config.outline import did_you_mean
from mfalb.balancer.config.radius_models import RadiusClient, RadiusSessionAffinity, ServiceKind
from mfalb.balancer.config.radsec_models import RadsecClient, RadsecListener
from mfalb.balancer.config.references import ip_of
from mfalb.balancer.config.values import Address, quoted

_MAPPED: Final = IPv6Network("::ffff:0:0/96")  # IPv4-mapped addresses (RFC 4291 section 2.5.5.2)
_AFFINITIES = {
    ServiceKind.AUTHENTICATION: (NoAffinity, RadiusStateAffinity),
    ServiceKind.ACCOUNTING: (NoAffinity, RadiusSessionAffinity),
    ServiceKind.DYNAMIC_AUTHORIZATION: (NoAffinity,),
}
_ACCEPTED = {
    ServiceKind.AUTHENTICATION: "write type: radius_state",
    ServiceKind.ACCOUNTING: "write type: radius_session",
    ServiceKind.DYNAMIC_AUTHORIZATION: "a request names its NAS, so remove it",
}


def check_radius_references(draft: Draft, findings: Findings) -> None:
    """Adds everything about RADIUS that does not refer or does not fit."""
    for look in (
        _one_service_a_pool,
        _listener_keys,
        _mapped_networks,
        _follows_of_listeners,
        _affinities,
        _followed_pools,
        _nases,
        _own_addresses,
    ):
        look(draft, findings)


def _pools(draft: Draft, service: ServiceKind) -> Iterator[tuple[str, Pool]]:
    names = draft.pools_for(service) - draft.http_pools()
    return ((name, draft.pools[name]) for name in sorted(names) if name in draft.pools)


# ------------------------------------------------------------------------------------------ listeners


def _one_service_a_pool(draft: Draft, findings: Findings) -> None:
    services: dict[str, ServiceKind] = {}
    for use in draft.radius_uses():
        service = services.setdefault(use.pool, use.service)
        if service is not use.service:
            findings.error(
                draft.document.at_value(use.at),
                f"{use.key}: {quoted(use.pool)} is there for {service.value} already; {use.service.value} has "
                "another port and needs a pool of its own",
            )


def _listener_keys(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        if listener.user_limit is not None and listener.service is not ServiceKind.AUTHENTICATION:
            findings.error(
                draft.document.at_key((*loc, "user_limit")),
                f"user_limit: {listener.service.value} begins no sign-ins that could be counted; remove it",
            )
        if listener.follows is not None and listener.service is not ServiceKind.DYNAMIC_AUTHORIZATION:
            findings.error(
                draft.document.at_key((*loc, "follows")),
                "follows: on a listener this is for dynamic_authorization; accounting follows by its pool's affinity: "
                "{type: radius_session, follows: ...}",
            )
        is_accounting_added = isinstance(listener, RadsecListener) and listener.accounting_pool is not None
        if is_accounting_added and listener.service is not ServiceKind.AUTHENTICATION:
            findings.error(
                draft.document.at_key((*loc, "accounting_pool")),
                f"accounting_pool: this adds accounting to authentication, and here is {listener.service.value}; "
                "remove it",
            )


def _mapped_networks(draft: Draft, findings: Findings) -> None:
    """Each socket serves its own family, so that an IPv4 client never comes by an IPv6 address."""
    for loc, listener in draft.radius_listeners():
        clients: tuple[RadiusClient | RadsecClient, ...] = listener.clients
        for index, client in enumerate(clients):
            network = client.network
            if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
                meant = IPv4Network((int(network.network_address) & 0xFFFF_FFFF, network.prefixlen - _MAPPED.prefixlen))
                findings.error(
                    draft.document.at_value((*loc, "clients", index, "network")),
                    f"network: nobody comes from {quoted(network)}: IPv4 clients are known by their IPv4 addresses; "
                    f"write {meant}",
                )


def _follows_of_listeners(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        if listener.follows is None or listener.service is not ServiceKind.DYNAMIC_AUTHORIZATION:
            continue
        position = draft.document.at_value((*loc, "follows"))
        followed = _followed(draft, listener.follows, position, findings)
        if followed is None:
            continue
        servers = {backend.name for backend in followed.backends}
        for index, client in enumerate(listener.clients):
            if client.name not in servers:
                findings.warning(
                    draft.document.at_value((*loc, "clients", index, "name")),
                    f"name: pool {quoted(listener.follows)} has no backend {quoted(client.name)}, so what it asks for "
                    f"ties nothing to it; its backends are {', '.join(sorted(servers))}",
                )


def _followed(draft: Draft, name: str, position: Position, findings: Findings) -> Pool | None:
    """The authentication pool of that name; None when there is none, or it is broken, and that is told."""
    known = sorted(draft.pools_for(ServiceKind.AUTHENTICATION))
    if name not in draft.pool_names:
        findings.error(position, f"follows: there is no pool {quoted(name)}{did_you_mean(name, known)}")
        return None
    if name not in known:
        if draft.is_whole:  # else a broken listener may be the one that leads there
            findings.error(position, f"follows: no listener for authentication leads to pool {quoted(name)}")
        return None
    return draft.pools.get(name)


# ---------------------------------------------------------------------------------------------- pools


def _affinities(draft: Draft, findings: Findings) -> None:
    for service, accepted in _AFFINITIES.items():
        for name, pool in _pools(draft, service):
            if not isinstance(pool.affinity, accepted):
                findings.error(
                    draft.at_affinity(name),
                    f"affinity: pool {quoted(name)} takes RADIUS {service.value}, which has no {pool.affinity.type} "
                    f"affinity; {_ACCEPTED[service]}",
                )


def _followed_pools(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft, ServiceKind.ACCOUNTING):
        affinity = pool.affinity
        if not isinstance(affinity, RadiusSessionAffinity):
            continue
        position = draft.document.at_value(("pools", name, "affinity", "follows"))
        followed = _followed(draft, affinity.follows, position, findings)
        if followed is None:
            continue
        ours = {backend.name for backend in pool.backends}
        missing = sorted({backend.name for backend in followed.backends} - ours)
        if len(missing) == len(followed.backends):
            findings.error(
                position,
                f"follows: pools {quoted(name)} and {quoted(affinity.follows)} have no backend in common; servers are "
                f"the same when their names are: {', '.join(missing)}",
            )
        elif missing:
            findings.warning(
                position,
                f"follows: pool {quoted(name)} has no backend {' and no '.join(missing)}: accounting of the sessions "
                "begun there is balanced",
            )


def _own_addresses(draft: Draft, findings: Findings) -> None:
    """A backend that is the listener itself: each request would come back at once."""
    for use in draft.radius_uses():
        pool, loc = draft.pools.get(use.pool), use.listener_at
        if pool is None or isinstance(use.listener, RadsecListener) is (pool.upstream_tls is None):
            continue  # one over UDP, the other over TCP
        for (index, backend), (place, bind) in product(enumerate(pool.backends), enumerate(use.listener.bind)):
            if _reaches(backend.address, bind):
                line = draft.document.at_value((*loc, "bind", place)).line
                findings.error(
                    draft.document.at_value(("pools", use.pool, "backends", index, "address")),
                    f"address: {quoted(backend.address)} is where listener {quoted(use.listener.name)} itself is bound "
                    f"(line {line}): its requests would come back to it; write the server's",
                )


def _reaches(address: Address, bind: Address) -> bool:
    """Whether what is sent to that address surely arrives at this bind."""
    if address.port != bind.port:
        return False
    host, bound = ip_of(address.host), ip_of(bind.host)
    if host is None or bound is None:
        return address.host.lower() == bind.host.lower()
    is_own = host.version == bound.version and (host.is_loopback or host.is_unspecified)
    return host == bound or (bound.is_unspecified and is_own)


def _nases(draft: Draft, findings: Findings) -> None:
    is_for_nases = draft.pools_for(ServiceKind.DYNAMIC_AUTHORIZATION)
    for name, pool in draft.pools.items():
        for index, backend in enumerate(pool.backends):
            loc: Loc = ("pools", name, "backends", index)
            if name in is_for_nases:
                _nas(backend, loc, draft, findings)
            elif backend.nas is not None and draft.is_whole:  # else a broken listener may be the one that leads here
                findings.error(
                    draft.document.at_key((*loc, "nas")),
                    "nas: this is for pools that a listener with service: dynamic_authorization leads to; remove it",
                )
        if name in is_for_nases:
            _repeated_identities(name, pool, draft, findings)


def _nas(backend: Backend, loc: Loc, draft: Draft, findings: Findings) -> None:
    if not _identities(backend):
        findings.error(
            draft.document.at_key(loc),
            f"backend {quoted(backend.name)}: a request cannot name it by the host {quoted(backend.address.host)}; "
            "write nas: {addresses: [...]} or nas: {identifiers: [...]}",
        )


def _repeated_identities(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    first: dict[str, str] = {}
    for index, backend in enumerate(pool.backends):
        for identity in _identities(backend):
            earlier = first.setdefault(identity, backend.name)
            if earlier != backend.name:
                findings.warning(
                    draft.document.at_key(("pools", name, "backends", index)),
                    f"backend {quoted(backend.name)}: {quoted(identity)} names {quoted(earlier)} as well; a request "
                    "that says no more than that is refused",
                )


def _identities(backend: Backend) -> list[str]:
    """What a request may call this NAS."""
    return [*backend.nas_identifiers, *(str(address) for address in backend.nas_addresses)]
