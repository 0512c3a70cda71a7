"""What all wiring of a worker shares."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from mfalb.balancer.affinity.hub import Hub
from mfalb.balancer.config.models import Config
from mfalb.balancer.pools.evidence import ReportedEvidence
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.upstreams.pin_sharing import PinSharing
from mfalb.net.clock import Clock
from mfalb.net.lifecycle import Tasks
from mfalb.net.rounds import WriteRound
from mfalb.net.tls_files import TlsFiles
from mfalb.telemetry.log import AccessLog
from mfalb.telemetry.metrics import ListenerCounters


@dataclass(slots=True)
class Wiring:
    """The worker's means. `config` is exchanged by a reload; `counters` go on for a listener of the same name."""

    config: Config
    pools: Mapping[str, Pool]
    pins: Hub
    evidence: ReportedEvidence
    tls_files: TlsFiles
    access_log: AccessLog | None
    sharing: PinSharing | None = None  # pins that nodes share; set before the first listener is begun
    counters: dict[str, ListenerCounters] = field(default_factory=dict)
    writes: WriteRound = field(default_factory=WriteRound)
    clock: Clock = field(default_factory=Clock)
    tasks: Tasks = field(default_factory=lambda: Tasks("worker"))

    def count(self, name: str, protocol: str) -> ListenerCounters:
        """The counters of a listener."""
        counters = self.counters.get(name)
        if counters is None:
            counters = self.counters[name] = ListenerCounters(name, protocol)
        return counters

    def tls_towards(self, pool: Pool) -> ssl.SSLContext | None:
        """What a pool's backends are spoken to with; None for plain text."""
        tls = pool.config.upstream_tls
        return None if tls is None else self.tls_files.client(pool.name, tls.files)
