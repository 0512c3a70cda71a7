"""What a RadSec listener does with packets of all kinds on one connection: a dispatch for each of its services."""

from __future__ import annotations

from collections.abc import Mapping

from mfalb.balancer.config.radius_models import ServiceKind
from mfalb.balancer.exchange.radius_peer import RadiusSource
from mfalb.balancer.exchange.radsec_rules import routes, unsupported
from mfalb.balancer.listeners.radius_dispatch import RadiusDispatch
from mfalb.telemetry.metrics import ListenerCounters


class RadsecDispatches:
    """The dispatches by service, which share their counters; the first one is the listener's own service's."""

    def __init__(self, dispatches: Mapping[ServiceKind, RadiusDispatch]) -> None:
        self._all = list(dispatches.values())
        self._own = self._all[0]
        self._by_code: dict[int, RadiusDispatch | None] = {
            code: None if service is None else dispatches[service] for code, service in routes(dispatches).items()
        }

    @property
    def counters(self) -> ListenerCounters:
        return self._own.counters

    def received(self, packet: bytes, source: RadiusSource, now: float) -> None:
        """A packet of at least 20 bytes came from a client."""
        self.counters.requests += 1
        dispatch = self._by_code.get(packet[0], self._own)
        if dispatch is None:
            self._own.decided(unsupported(packet, source.client), source, now)
        else:
            dispatch.received(packet, source, now)

    def drop(self, source: RadiusSource, reason: str) -> None:
        """What came from a known client is discarded before anyone saw of what kind it is."""
        self._own.drop(source, reason)

    def lost(self, reason: str) -> None:
        """Something of a client's did not make it, or an answer to one."""
        self._own.lost(reason)

    def busy_sources(self) -> set[RadiusSource]:
        """The connections that wait for an answer."""
        return {source for dispatch in self._all for source in dispatch.busy_sources()}

    def flush(self) -> None:
        """Send to backends what has gathered."""
        for dispatch in self._all:
            dispatch.upstream.flush()

    def close(self) -> None:
        for dispatch in self._all:
            dispatch.upstream.close()
