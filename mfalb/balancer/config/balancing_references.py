"""Does what a pool says of balancing make sense: for its algorithm, its protocol, its backends?

Each check takes a Draft and adds findings; `check_balancing` runs them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from mfalb.balancer.config.balancing_models import HTTP_KEYS, RADIUS_KEYS, TCP_KEYS, Algorithm, HashOfPart
from mfalb.balancer.config.document import Loc
from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.models import CookieAffinity, Pool
from mfalb.balancer.config.radius_models import ServiceKind
from mfalb.balancer.config.values import quoted

_FOR_BALANCING = ("algorithm", "hash", "slow_start", "panic_threshold")


def check_balancing(draft: Draft, findings: Findings) -> None:
    """Adds everything about balancing that does not fit."""
    for name, pool in draft.pools.items():
        if name in draft.pools_for(ServiceKind.DYNAMIC_AUTHORIZATION):
            _not_balanced(name, pool, draft, findings)
        else:
            for look in (_takers, _algorithm, _hash_key, _slow_start, _panic):
                look(name, pool, draft, findings)


def _not_balanced(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    """A pool of NASes: a request names the one it is for."""
    written: list[Loc] = [("pools", name, key) for key in _FOR_BALANCING if ("pools", name, key) in draft.document.keys]
    for index, backend in enumerate(pool.backends):
        loc: Loc = ("pools", name, "backends", index)
        written += [(*loc, "weight")] if backend.weight != 1 else []
        written += [(*loc, "backup")] if backend.backup else []
    for loc in written:
        findings.error(
            draft.document.at_key(loc), f"{loc[-1]}: a request names its NAS, and nothing is balanced; remove it"
        )


def _takers(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    """Somebody has to take new work who is no backup."""
    backends = list(enumerate(pool.backends))
    if any(backend.weight and not backend.backup for _, backend in backends):
        return
    if all(backend.backup for _, backend in backends):
        position = draft.document.at_key(("pools", name, "backends", 0, "backup"))
        findings.error(position, f"backup: all backends of pool {quoted(name)} are, but of whom? Remove it from one")
        return
    index = next(index for index, backend in backends if not backend.weight)
    findings.error(
        draft.document.at_value(("pools", name, "backends", index, "weight")),
        f"weight: none but backups would take new work in pool {quoted(name)}, since 0 is for pinned work only; write "
        "1 or more at one",
    )


def _algorithm(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    loc: Loc = ("pools", name)
    if pool.algorithm is Algorithm.HASH and pool.hash is None:
        keys = next((keys for _, keys in _protocols(name, draft)), HTTP_KEYS)
        findings.error(
            draft.document.at_value((*loc, "algorithm")),
            f"algorithm: hash needs to know of what; add hash: {{key: one of {', '.join(keys)}}}",
        )
    if pool.algorithm is not Algorithm.HASH and pool.hash is not None:
        findings.error(
            draft.document.at_key((*loc, "hash")),
            f"hash: {pool.algorithm.value} makes none; write algorithm: hash, or remove it",
        )


def _hash_key(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    by = pool.hash
    if by is None:
        return
    loc: Loc = ("pools", name, "hash")
    for protocol, keys in _protocols(name, draft):
        if by.key not in keys:
            accepted = keys[0] if len(keys) == 1 else f"one of {', '.join(keys)}"
            findings.error(
                draft.document.at_value((*loc, "key")),
                f"key: pool {quoted(name)} takes {protocol}, which has no {by.key}; write {accepted}",
            )
            break
    affinity = pool.affinity
    cookie = by.name if isinstance(by, HashOfPart) and by.key == "cookie" else ""
    if isinstance(affinity, CookieAffinity) and cookie == affinity.name:
        findings.error(
            draft.document.at_value((*loc, "name")),
            f"name: {quoted(cookie)} is the balancer's own cookie, which names a backend already; choose another or "
            "remove 'hash'",
        )


def _protocols(name: str, draft: Draft) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The protocols that a pool takes, and of what each can make a hash."""
    takers = (
        ("RADIUS", draft.radius_pools(), RADIUS_KEYS),
        ("TCP", draft.tcp_pools(), TCP_KEYS),
        ("HTTP", draft.http_pools(), HTTP_KEYS),
    )
    return ((protocol, keys) for protocol, names, keys in takers if name in names)


def _slow_start(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    if pool.slow_start_s is None:
        return
    position = draft.document.at_key(("pools", name, "slow_start"))
    if pool.algorithm is Algorithm.HASH:
        findings.error(
            position, "slow_start: with algorithm hash each step would move keys from server to server; remove it"
        )
    elif pool.health_check is None and pool.passive_check is None:
        findings.warning(
            position, f"slow_start: pool {quoted(name)} has no health check, so nobody is ever seen to come up in it"
        )


def _panic(name: str, pool: Pool, draft: Draft, findings: Findings) -> None:
    if pool.panic_threshold is not None and pool.health_check is None and pool.passive_check is None:
        findings.error(
            draft.document.at_key(("pools", name, "panic_threshold")),
            f"panic_threshold: pool {quoted(name)} has no health check, so nobody is ever down in it; remove it or add "
            "a health_check",
        )
