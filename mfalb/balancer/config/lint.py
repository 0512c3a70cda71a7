"""Is a legal configuration a wise one? Only warnings come from here."""

from __future__ import annotations

import re
from ipaddress import ip_address

from mfalb.balancer.config.document import Loc
from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.models import (
    CookieAffinity,
    NoAffinity,
    Pool,
    RadiusCheck,
    RadiusStateAffinity,
    TcpCheck,
    TransactionAffinity,
)
from mfalb.balancer.config.values import quoted, seconds_text

PEOPLE_NEED_S = 60.0  # to take a call or type a code; VPN guides ask for 60 to 120 s
_SDK_PATH = re.compile(r"webservices?sdk|pfwssdk", re.IGNORECASE)
_BLAST_RADIUS = "answers can be forged without it (CVE-2024-3596)"


def lint(draft: Draft, findings: Findings) -> None:
    """Adds warnings about settings that work but do not do what their author wants."""
    for look in (_response_timeouts, _radius_affinity, _sdk_routes, _health_checks, _verification, _admin, _signatures):
        look(draft, findings)


def _response_timeouts(draft: Draft, findings: Findings) -> None:
    for name, pool in draft.pools.items():
        waits = isinstance(pool.affinity, TransactionAffinity | RadiusStateAffinity) or name in draft.radius_pools()
        if waits and pool.response_timeout_s < PEOPLE_NEED_S:
            findings.warning(
                draft.document.at_value(("pools", name, "response_timeout")),
                f"response_timeout: {seconds_text(pool.response_timeout_s)} is less than people need to answer a call "
                f"or type a code; write at least {seconds_text(PEOPLE_NEED_S)}",
            )


def _radius_affinity(draft: Draft, findings: Findings) -> None:
    for name, pool in _pools(draft, draft.radius_pools()):
        if isinstance(pool.affinity, NoAffinity):
            findings.warning(
                draft.document.at_key(("pools", name, "affinity")),
                f"pool {quoted(name)} takes RADIUS without radius_state affinity: a one-time password may reach a "
                "server that did not ask for it; write affinity: {preset: radius_challenge}",
            )


def _sdk_routes(draft: Draft, findings: Findings) -> None:
    for loc, route in draft.routes():
        pool = draft.pools.get(route.pool)
        if pool is None or _SDK_PATH.search(route.path) is None:
            continue
        if isinstance(pool.affinity, CookieAffinity | NoAffinity):
            trouble = "keep no cookies" if isinstance(pool.affinity, CookieAffinity) else "send a code in two requests"
            findings.warning(
                draft.document.at_value((*loc, "pool")),
                f"pool: callers of the Web Service SDK {trouble}, so {pool.affinity.type} affinity loses one-way SMS "
                f"sign-ins; give pool {quoted(route.pool)} affinity: {{preset: azure_mfa_sdk}}",
            )


def _health_checks(draft: Draft, findings: Findings) -> None:
    for name, pool in draft.pools.items():
        position = draft.document.at_key(("pools", name, "health_check"))
        is_radius = name in draft.radius_pools()
        if pool.health_check is None:
            kind = "radius" if is_radius else "http"
            findings.warning(
                position,
                f"pool {quoted(name)} has no health check: a dead server is noticed by failing sign-ins only; write "
                f"health_check: {{type: {kind}}}",
            )
        elif is_radius and isinstance(pool.health_check, TcpCheck):
            findings.warning(
                position, f"pool {quoted(name)} takes RADIUS over UDP, of which a tcp check says nothing; write radius"
            )
        elif isinstance(pool.health_check, RadiusCheck) and pool.health_check.fast:
            findings.warning(
                draft.document.at_value(("pools", name, "health_check", "fast")),
                f"fast: a server that is silent for {seconds_text(pool.health_check.interval_s)} counts as dead; RFC "
                "3539 section 3.4.1 wants 6s at least, so keep this to laboratories and tests",
            )


def _verification(draft: Draft, findings: Findings) -> None:
    for name, pool in draft.pools.items():
        if pool.upstream_tls is not None and not pool.upstream_tls.verify:
            findings.warning(
                draft.document.at_value(("pools", name, "upstream_tls", "verify")),
                "verify: anyone on the way can pose as the server and read passwords; write true and name its 'ca'",
            )


def _admin(draft: Draft, findings: Findings) -> None:
    if draft.admin is not None and not _is_loopback(draft.admin.bind.host):
        findings.warning(
            draft.document.at_value(("admin", "bind")),
            "bind: status and metrics have no authentication; bind them to 127.0.0.1 or keep others out by firewall",
        )


def _signatures(draft: Draft, findings: Findings) -> None:
    for loc, listener in draft.radius_listeners():
        for index, client in enumerate(listener.clients):
            if not client.require_message_authenticator:
                where: Loc = (*loc, "clients", index, "require_message_authenticator")
                findings.warning(draft.document.at_value(where), f"require_message_authenticator: {_BLAST_RADIUS}")
    for name, pool in _pools(draft, draft.radius_pools()):
        open_backends = [backend.name for backend in pool.backends if not backend.require_message_authenticator]
        if open_backends:
            findings.warning(
                draft.document.at_key(("pools", name, "backends")),
                f"backends {', '.join(open_backends)} need not sign: {_BLAST_RADIUS}; write "
                "require_message_authenticator: true where the server can",
            )


def _pools(draft: Draft, names: frozenset[str]) -> list[tuple[str, Pool]]:
    return [(name, draft.pools[name]) for name in sorted(names) if name in draft.pools]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
