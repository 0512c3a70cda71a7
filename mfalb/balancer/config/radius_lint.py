"""Is a legal RADIUS configuration a wise one? Only warnings come from here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from itertools import product
from typing import Final

from mfalb.balancer.config.document import Loc
from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.models import NoAffinity, Pool, RadiusStateAffinity
from mfalb.balancer.config.radius_models import (
    RadiusClient,
    RadiusClientRules,
    RadiusListener,
    RadiusSessionAffinity,
    ServiceKind,
)
from mfalb.balancer.config.radsec_models import RadsecListener
from mfalb.balancer.config.values import Network, quoted, seconds_text

CACHE_S: Final = (5.0, 30.0)  # RFC 5080 section 2.2.2
NPS_FILTER_S: Final = 10.0  # NPS's MFA extension takes a repeated sign-in within that time for a duplicate
SHORTEST_WINDOW_S: Final = 10.0
LONGEST_WINDOW_S: Final = 3600.0
_BLAST_RADIUS: Final = "answers can be forged without it (CVE-2024-3596)"
_AGAINST_FORGERY: Final = ("require_message_authenticator", "limit_proxy_state")
_SETTINGS: Final = (
    "secret",
    "require_message_authenticator",
    "limit_proxy_state",
    "send_message_authenticator",
    "rate_limit",
)
LEAST_IN_FLIGHT: Final = 256  # what a single socket of one client can have under way
PEOPLE_NEED_S: Final = 60.0  # to take a call or type a code; VPN guides ask for 60 to 120 s


def lint_radius(draft: Draft, findings: Findings) -> None:
    """Adds warnings about RADIUS settings that work but do not do what their author wants."""
    for look in (
        _affinity,
        _pin_lives,
        _answer_caches,
        _user_limits,
        _user_limits_without_pins,
        _in_flight_limits,
        _everybody,
        _client_signatures,
        _backend_signatures,
        _radsec_certificates,
        _nested_networks,
        _backends_as_clients,
        _without_effect,
        _followers,
    ):
        look(draft, findings)


def _affinity(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft, draft.pools_for(ServiceKind.AUTHENTICATION)):
        if isinstance(pool.affinity, NoAffinity):
            findings.warning(
                draft.document.at_key(("pools", name, "affinity")),
                f"pool {quoted(name)} takes RADIUS without radius_state affinity: a one-time password may reach a "
                "server that did not ask for it; write affinity: {preset: radius_challenge}",
            )


def _pin_lives(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft, draft.pools_for(ServiceKind.AUTHENTICATION)):
        if isinstance(pool.affinity, RadiusStateAffinity) and pool.affinity.lifetime_s < PEOPLE_NEED_S:
            findings.warning(
                draft.document.at_value(("pools", name, "affinity", "lifetime")),
                f"lifetime: after {seconds_text(pool.affinity.lifetime_s)} nobody knows which server asked for a code, "
                f"and people need longer to type one; write at least {seconds_text(PEOPLE_NEED_S)}",
            )


def _answer_caches(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        cache_s = listener.answer_cache_s
        pool = draft.pools.get(listener.pool)
        at_least_s, at_most_s = CACHE_S
        if cache_s < at_least_s:
            trouble = "a client that asks again after that makes the phone ring again"
        elif cache_s > at_most_s:
            trouble = "no client asks again after so long a time, and each answer takes memory"
        elif cache_s < NPS_FILTER_S and pool is not None and isinstance(pool.affinity, RadiusStateAffinity):
            at_least_s = NPS_FILTER_S
            trouble = f"NPS with the MFA extension drops what it takes for a duplicate for {seconds_text(NPS_FILTER_S)}"
        else:
            continue
        findings.warning(
            draft.document.at_value((*loc, "answer_cache")),
            f"answer_cache: {seconds_text(cache_s)}: {trouble}; write {seconds_text(at_least_s)} to "
            f"{seconds_text(at_most_s)} (RFC 5080 section 2.2.2)",
        )


def _user_limits(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        limit, at = listener.user_limit, (*loc, "user_limit")
        if limit is None:
            continue
        window = seconds_text(limit.window_s)
        if limit.sign_ins == 1:
            findings.warning(
                draft.document.at_value((*at, "sign_ins")),
                f"sign_ins: who mistypes a password once is refused for {window}; write at least 2",
            )
        if limit.window_s < SHORTEST_WINDOW_S:
            findings.warning(
                draft.document.at_value((*at, "window")),
                f"window: {window} is forgotten before the phone has stopped ringing; write at least "
                f"{seconds_text(SHORTEST_WINDOW_S)}",
            )
        if limit.window_s > LONGEST_WINDOW_S:
            findings.warning(
                draft.document.at_value((*at, "window")),
                f"window: whoever knows a user's name can keep that user out for {window}; write at most "
                f"{seconds_text(LONGEST_WINDOW_S)}",
            )


def _user_limits_without_pins(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        pool = draft.pools.get(listener.pool)
        if listener.user_limit is not None and pool is not None and isinstance(pool.affinity, NoAffinity):
            findings.warning(
                draft.document.at_key((*loc, "user_limit")),
                f"user_limit: pool {quoted(listener.pool)} has no radius_state affinity, so each round of EAP and each "
                "code typed counts as a sign-in; write affinity: {preset: radius_challenge} there",
            )


def _in_flight_limits(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        if listener.in_flight_limit < LEAST_IN_FLIGHT:
            findings.warning(
                draft.document.at_value((*loc, "in_flight_limit")),
                f"in_flight_limit: {listener.in_flight_limit} people who look for their phones keep all others out; "
                f"write at least {LEAST_IN_FLIGHT}",
            )


def _everybody(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.udp_radius_listeners():
        for index, client in enumerate(listener.clients):
            if client.network.prefixlen == 0:
                findings.warning(
                    draft.document.at_value((*loc, "clients", index, "network")),
                    f"network: {quoted(client.network)} is everybody: whoever learns this one secret may ask, and can "
                    "guess passwords; write the networks of your NASes",
                )


def _client_signatures(draft: Draft, findings: Findings) -> None:
    for at, client in _clients(draft, ServiceKind.AUTHENTICATION):
        if not client.send_message_authenticator:
            findings.warning(
                draft.document.at_value((*at, "send_message_authenticator")),
                "send_message_authenticator: whoever is between can turn a Reject to this client into an Accept "
                "(CVE-2024-3596); write false only for a device that chokes on it",
            )
        if client.require_message_authenticator:
            continue
        trouble = _BLAST_RADIUS
        if not client.limit_proxy_state:
            trouble = (
                "with limit_proxy_state false as well nothing is in the way of the attack as it was published: whoever "
                "is between can turn a Reject into an Accept (CVE-2024-3596); write true for one of the two"
            )
        findings.warning(
            draft.document.at_value((*at, "require_message_authenticator")),
            f"require_message_authenticator: {trouble}",
        )


def _backend_signatures(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft, draft.pools_for(ServiceKind.AUTHENTICATION)):
        open_backends = [backend.name for backend in pool.backends if not backend.require_message_authenticator]
        if open_backends and pool.upstream_tls is None:  # what TLS carries nobody on the way can forge
            findings.warning(
                draft.document.at_key(("pools", name, "backends")),
                f"backends {', '.join(open_backends)} need not sign: {_BLAST_RADIUS}; write "
                "require_message_authenticator: true where the server can",
            )


def _radsec_certificates(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft, draft.radius_pools()):
        if pool.upstream_tls is not None and pool.upstream_tls.certificate is None:
            findings.warning(
                draft.document.at_key(("pools", name, "upstream_tls")),
                "upstream_tls: RadSec servers want to see a certificate (RFC 6614 section 2.3); write the balancer's "
                "'cert' and 'key'",
            )


def _nested_networks(draft: Draft, findings: Findings) -> None:
    """Nested networks are legal, the longest prefix wins; with other settings inside, somebody may be surprised."""
    for loc, listener in draft.udp_radius_listeners():
        clients = list(enumerate(listener.clients))
        for index, client in clients:
            around = [(place, one) for place, one in clients if _is_inside(client.network, one.network)]
            if not around:
                continue
            place, outer = max(around, key=lambda pair: pair[1].network.prefixlen)
            others = [key for key in _SETTINGS if getattr(client, key) != getattr(outer, key)]
            if others:
                line = draft.document.at_value((*loc, "clients", place, "network")).line
                findings.warning(
                    draft.document.at_value((*loc, "clients", index, "network")),
                    f"network: {quoted(client.network)} of client {quoted(client.name)} lies in "
                    f"{quoted(outer.network)} of client {quoted(outer.name)} on line {line} and has another "
                    f"{' and another '.join(others)}; in it {quoted(client.name)} counts",
                )


def _backends_as_clients(draft: Draft, findings: Findings) -> None:
    """Only single addresses: a network that holds servers and gateways alike is how many sites are."""
    for loc, listener in draft.udp_radius_listeners():
        pool = draft.pools.get(listener.pool)
        backends = pool.backends if pool is not None else ()
        for (index, client), backend in product(enumerate(listener.clients), backends):
            if _is_host(client.network, backend.address.host):
                findings.warning(
                    draft.document.at_value((*loc, "clients", index, "network")),
                    f"network: {quoted(backend.address.host)} is backend {quoted(backend.name)} of pool "
                    f"{quoted(listener.pool)}, too: what it passes back here is dropped as a loop; keep it a client "
                    "only if it passes nothing on",
                )


def _without_effect(draft: Draft, findings: Findings) -> None:
    """What guards sign-ins against forgery guards nothing where the authenticators cover the content of a packet."""
    services = (ServiceKind.ACCOUNTING, ServiceKind.DYNAMIC_AUTHORIZATION)
    tables: list[Loc] = [at for at, _ in _clients(draft, *services)]
    for name, pool in _pools(draft, draft.pools_for(services[0]) | draft.pools_for(services[1])):
        tables += [("pools", name, "backends", index) for index in range(len(pool.backends))]
    for at, key in product(tables, _AGAINST_FORGERY):
        position = draft.document.keys.get((*at, key))
        if position is not None:
            findings.warning(position, f"{key}: this is for authentication and has no effect here; remove it")


def _followers(draft: Draft, findings: Findings) -> None:
    """What follows finds a session by its NAS's name, too: a NAS has to have one name everywhere."""
    for use in draft.radius_uses():
        loc, listener, pool = use.listener_at, use.listener, draft.pools.get(use.pool)
        if pool is None:
            continue
        if isinstance(pool.affinity, RadiusSessionAffinity):
            clients = [((*loc, "clients", index, "name"), client.name) for index, client in enumerate(listener.clients)]
            _named_alike(pool.affinity.follows, clients, draft, findings)
        elif listener.follows is not None:
            at: Loc = ("pools", use.pool, "backends")
            nases = [((*at, index, "name"), backend.name) for index, backend in enumerate(pool.backends)]
            _named_alike(listener.follows, nases, draft, findings)


def _named_alike(followed: str, names: list[tuple[Loc, str]], draft: Draft, findings: Findings) -> None:
    """A warning for each NAS that the followed pool's listeners do not know by that name."""
    known = {client.name for _, listener in draft.radius_listeners() for client in _asking(listener, followed)}
    for loc, name in names:
        if known and name not in known:
            findings.warning(
                draft.document.at_value(loc),
                f"name: no client {quoted(name)} signs in at pool {quoted(followed)}, so nothing follows its sessions; "
                f"give a NAS the same name everywhere: {', '.join(sorted(known))}",
            )


def _asking(listener: RadiusListener | RadsecListener, pool: str) -> Sequence[RadiusClientRules]:
    return listener.clients if listener.pool == pool else ()


# -------------------------------------------------------------------------------------- small helpers


def _clients(draft: Draft, *services: ServiceKind) -> Iterator[tuple[Loc, RadiusClient]]:
    """Each client of each UDP listener for one of these services, and where it stands."""
    for loc, listener in draft.udp_radius_listeners():
        for index, client in enumerate(listener.clients if listener.service in services else ()):
            yield (*loc, "clients", index), client


def _pools(draft: Draft, names: frozenset[str]) -> list[tuple[str, Pool]]:
    return [(name, draft.pools[name]) for name in sorted(names) if name in draft.pools]


def _is_inside(inner: Network, outer: Network) -> bool:
    is_longer = inner.version == outer.version and inner.prefixlen > outer.prefixlen
    return is_longer and inner.network_address in outer


def _is_host(network: Network, host: str) -> bool:
    """Whether a network is one address, that of `host`; on loopback everything is everybody's, and nobody minds."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return network.num_addresses == 1 and network.network_address == address and not address.is_loopback
