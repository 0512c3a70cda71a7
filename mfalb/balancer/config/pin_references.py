"""Can the store of shared pins be used, is it of use, and is what it holds safe on its way?

Each check takes a Draft and adds findings; `check_pins` runs them all.
"""

from __future__ import annotations

from importlib.util import find_spec
from ipaddress import ip_address
from typing import Final

from mfalb.balancer.config.document import Loc, Position
from mfalb.balancer.config.draft import Draft
from mfalb.balancer.config.findings import Findings
from mfalb.balancer.config.models import RadiusStateAffinity, TransactionAffinity
from mfalb.balancer.config.pin_models import SharedStore
from mfalb.balancer.config.radius_models import RadiusSessionAffinity
from mfalb.balancer.config.transaction_id_models import TransactionIdAffinity
from mfalb.balancer.config.values import seconds_text

_LONG_WAIT_S: Final = 1.0
_STORE: Final[Loc] = ("pins", "store")
_IN_TABLE: Final = (TransactionAffinity, TransactionIdAffinity, RadiusStateAffinity, RadiusSessionAffinity)


def check_pins(draft: Draft, findings: Findings) -> None:
    """Adds everything about the shared store that keeps it from working, or from working well."""
    store = draft.pins.store if draft.pins is not None else None
    if store is None:
        return
    for look in (_library, _safety, _waiting, _use):
        look(store, draft, findings)


def _library(_store: SharedStore, draft: Draft, findings: Findings) -> None:
    if find_spec("valkey") is None:
        position = draft.document.at_value((*_STORE, "type"))
        findings.error(
            position, "type: valkey needs a Python package that is not here; run: pip install 'mfalb[valkey]'"
        )


def _safety(store: SharedStore, draft: Draft, findings: Findings) -> None:
    if all(_is_loopback(address.host) for address in store.addresses):
        return
    at_store = draft.document.at_key(_STORE)
    if store.password is None:
        findings.warning(
            at_store,
            "store: whoever reaches it without a password can send users to another server; write 'password_file' and "
            "set the same in the store",
        )
    if store.tls is None:
        what = "pins" if store.password is None else "the password"
        findings.warning(at_store, f"store: without 'tls' {what} can be read, and pins forged, on the way to it")


def _waiting(store: SharedStore, draft: Draft, findings: Findings) -> None:
    if store.timeout_s > _LONG_WAIT_S:
        findings.warning(
            _at(draft, "timeout"),
            f"timeout: a sign-in may wait {seconds_text(store.timeout_s)} for a store that fails, and NASes send again "
            "meanwhile; write 50ms to 1s",
        )


def _use(_store: SharedStore, draft: Draft, findings: Findings) -> None:
    if draft.is_whole and not any(isinstance(pool.affinity, _IN_TABLE) for pool in draft.pools.values()):
        findings.warning(
            draft.document.at_key(_STORE),
            "store: no pool has an affinity whose pins stand in a table, so there is nothing to share; cookies need "
            "only the same 'cookie_keys' on all nodes",
        )


def _at(draft: Draft, key: str) -> Position:
    return draft.document.at_value((*_STORE, key))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
