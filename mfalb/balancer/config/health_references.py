"""Does what a pool says of health make sense: for its protocol, its backends, the files that it names?

Each check takes a Draft and adds findings; `check_health` runs them all.
"""

from __future__ import annotations

from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.health_models import HttpCheck, SdkCheck
from mfalb.balancer.config.models import Pool
from mfalb.balancer.config.secret_sources import read_file, reason
from mfalb.balancer.config.values import quoted


def check_health(draft: Draft, findings: Findings) -> None:
    """Adds everything about checks, active and passive, that does not fit."""
    for name, pool in draft.pools.items():
        for look in (_body_file, _password, _passive_check):
            look(name, pool, draft, findings)


def _body_file(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    check = pool.health_check
    if not isinstance(check, HttpCheck) or check.body_file is None:
        return
    try:
        read_file(check.body_file)
    except OSError as error:
        position = draft.document.at_value(("pools", name, "health_check", "body_file"))
        findings.error(position, f"body_file: cannot read {quoted(check.body_file)}: {reason(error)}")


def _password(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    check = pool.health_check
    if not isinstance(check, HttpCheck | SdkCheck) or check.user is None:
        return
    if pool.upstream_tls is None:
        findings.warning(
            draft.document.at_value(("pools", name, "health_check", "user")),
            f"user: pool {quoted(name)} has no upstream_tls, so the password of {quoted(check.user)} can be read on "
            "its way to the servers",
        )


def _passive_check(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    check = pool.passive_check
    if check is None:
        return
    position = draft.document.at_key(("pools", name, "passive_check"))
    if name in draft.radius_pools():
        findings.error(
            position,
            f"passive_check: pool {quoted(name)} takes RADIUS, where the health_check of type radius looks at the "
            "traffic itself; remove it",
        )
    elif check.most_ejected(len(pool.backends)) == 0:
        count = len(pool.backends)
        whom = "its only backend" if count == 1 else f"any of its {count} backends"
        findings.warning(position, f"passive_check: within its limits pool {quoted(name)} never ejects {whom}")
