"""From the configuration to pins that nodes share; the store's library is loaded only where there is a store."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from mfalb.balancer.affinity.node_settings import node_settings
from mfalb.balancer.affinity.pin_tags import pin_tags
from mfalb.balancer.config.models import Config
from mfalb.balancer.pools.backend import AdminState
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.node_watch import NodeWatch
from mfalb.balancer.upstreams.pin_ends import Whose
from mfalb.balancer.upstreams.pin_sharing import NodePins, PinSharing
from mfalb.net.tls_files import TlsFiles

_TLS_NAME = "pins/store"  # shown with the metrics of its files, beside pools, whose names have no slash


def share_pins(
    config: Config, local: NodePins, pools: Mapping[str, Pool], tls_files: TlsFiles, released: Callable[[], None]
) -> PinSharing | None:
    """The sharing that the configuration asks for, under way; None when it asks for none."""
    store = config.pins.store
    if store is None:
        return None
    from mfalb.balancer.upstreams.valkey import ValkeyPins  # noqa: PLC0415 - an extra that few installations have

    tls = None if store.tls is None else tls_files.client(_TLS_NAME, store.tls.files)
    sharing = PinSharing(
        local,
        ValkeyPins(store, tls),
        NodeWatch(store.node or socket.gethostname(), node_settings(config)),
        timeout_s=store.timeout_s,
        known=_names(config),
        released=released,
        draining=lambda: _draining(pools),
    )
    sharing.start()
    return sharing


def _draining(pools: Mapping[str, Pool]) -> frozenset[Whose]:
    """Whose sign-ins an operator may be waiting for."""
    return frozenset(
        (tag, backend.name)
        for pool in pools.values()
        for backend in pool.backends.values()
        if backend.admin_state is AdminState.DRAIN
        for tag in pin_tags(pool.name, pool.config.affinity)
    )


def follow_settings(sharing: PinSharing, config: Config) -> None:
    """Other backends, or other settings to compare with those of other nodes."""
    sharing.known = _names(config)
    sharing.watch.settings = node_settings(config)


def _names(config: Config) -> frozenset[str]:
    return frozenset(backend.name for pool in config.pools.values() for backend in pool.backends)
