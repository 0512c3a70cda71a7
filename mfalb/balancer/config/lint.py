"""Is a legal configuration a wise one? Only warnings come from here."""

from __future__ import annotations

import re
from ipaddress import ip_address

from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.health_models import RadiusCheck, TcpCheck
from mfalb.balancer.config.models import (
    CookieAffinity,
    NoAffinity,
    RadiusStateAffinity,
    TransactionAffinity,
)
from mfalb.balancer.config.radius_lint import PEOPLE_NEED_S, lint_radius
from mfalb.balancer.config.radius_models import ServiceKind
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.config.values import quoted, seconds_text

_SDK_PATH = re.compile(r"webservices?sdk|pfwssdk", re.IGNORECASE)


def lint(draft: Draft, findings: Findings) -> None:
    """Adds warnings about settings that work but do not do what their author wants."""
    for look in (_response_timeouts, _transaction_ids, _sdk_routes, _health_checks, _verification, _admin, lint_radius):
        look(draft, findings)


def _response_timeouts(draft: Draft, findings: Findings) -> None:
    for name, pool in draft.pools.items():
        is_for_sign_ins = name in draft.pools_for(ServiceKind.AUTHENTICATION)
        waits = is_for_sign_ins or isinstance(
            pool.affinity, TransactionAffinity | TransactionIdAffinity | RadiusStateAffinity
        )
        if waits and pool.response_timeout_s < PEOPLE_NEED_S:
            findings.warning(
                draft.document.at_value(("pools", name, "response_timeout")),
                f"response_timeout: {seconds_text(pool.response_timeout_s)} is less than people need to answer a call "
                f"or type a code; write at least {seconds_text(PEOPLE_NEED_S)}",
            )


def _transaction_ids(draft: Draft, findings: Findings) -> None:
    for name, pool in draft.pools.items():
        if not isinstance(pool.affinity, TransactionIdAffinity):
            continue
        if pool.affinity.lifetime_s < PEOPLE_NEED_S:
            findings.warning(
                draft.document.at_value(("pools", name, "affinity", "lifetime")),
                f"lifetime: after {seconds_text(pool.affinity.lifetime_s)} nobody knows which server asked for a code, "
                f"and people need longer to type one; write at least {seconds_text(PEOPLE_NEED_S)}",
            )
        if pool.retries.idempotent and (pool.affinity.request_query or pool.affinity.request_path):
            findings.warning(
                draft.document.at_value(("pools", name, "retries", "idempotent")),
                "idempotent: where a sign-in may be a GET, one that is sent again can text or ring twice; write false",
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
            if pool.passive_check is not None:
                continue  # said on purpose: it cannot be asked
            if name in draft.pools_for(ServiceKind.DYNAMIC_AUTHORIZATION):
                continue  # few NASes answer Status-Server at this port, and no other takes a dead one's place
            is_tcp = name in draft.tcp_pools()
            kind = "radius" if is_radius else "tcp" if is_tcp else "http"
            trouble = "lost records" if name in draft.pools_for(ServiceKind.ACCOUNTING) else "failing sign-ins"
            findings.warning(
                position,
                f"pool {quoted(name)} has no health check: a dead server is noticed by {trouble} only; write "
                f"health_check: {{type: {kind}}}",
            )
        elif is_radius and isinstance(pool.health_check, TcpCheck) and pool.upstream_tls is None:
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


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
