"""The workers' numbers, added up: those of workers that are gone still count."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from mfalb.balancer.admin.summed_metrics import Words, counters_of, summed, words_of
from mfalb.balancer.pools.pool import Pool
from mfalb.balancer.supervisor.crew import Crew

SUSPECTS_SHOWN: Final = 256


class Reports:
    """Asks the crew, and keeps what the answers said."""

    def __init__(self, crew: Crew, pools: Mapping[str, Pool]) -> None:
        self.forged = 0
        self._crew = crew
        self._pools = pools
        self._last: dict[int, dict[str, Any]] = {}
        self._born: dict[int, float] = {}
        self._gone: list[Words] = []
        self._gone_requests: dict[tuple[str, str], int] = {}

    async def refresh(self) -> None:
        """Ask all workers. Who does not answer in time stands with what was known of it."""
        for seat in self._crew.seats:
            self._retire(seat.number, seat.born_at)
        for number, words in (await self._crew.reports()).items():
            if _is_report_untrusted(words):
                self._last[number] = words
            else:
                self.forged += 1
        self._count_backends()

    def families(self) -> list[Metric]:
        """The sums, as of the last `refresh`."""
        serving = self._crew.alive - self._crew.silent
        workers = GaugeMetricFamily("mfalb_workers", "Workers that serve.", value=serving)
        silent = GaugeMetricFamily(
            "mfalb_workers_silent", "Workers that have given no sign of life for 5 s.", value=self._crew.silent
        )
        restarts = CounterMetricFamily("mfalb_worker_restarts", "Workers that were replaced.", labels=["worker"])
        silences = CounterMetricFamily(
            "mfalb_worker_silences",
            "Signs of life, asked for once a second, that did not come before the next one was due.",
            labels=["worker"],
        )
        kills = CounterMetricFamily(
            "mfalb_worker_kills", "Workers that were killed since they gave no sign of life.", labels=["worker"]
        )
        for seat in self._crew.seats:
            silences.add_metric([str(seat.number)], seat.silences)
            kills.add_metric([str(seat.number)], seat.kills)
            restarts.add_metric([str(seat.number)], seat.restarts)
        ignored = CounterMetricFamily(
            "mfalb_control_messages_ignored", "Messages of workers that meant nothing.", value=self.forged
        )
        own: list[Metric] = [workers, silent, restarts, silences, kills, ignored]
        return own + summed([*self._gone, *(words["families"] for words in self._last.values())])

    @property
    def missing(self) -> int:
        """Workers that do not serve now: not yet, or not again."""
        return len(self._crew.seats) - self._crew.alive

    @property
    def silent(self) -> int:
        """Workers that should serve and give no sign of life."""
        return self._crew.silent

    def suspects(self) -> dict[str, object]:
        """The suspects page of all workers, newest first."""
        entries = [one for words in self._last.values() for one in words["suspects"]["suspects"]]
        entries.sort(key=lambda entry: str(entry["time"]), reverse=True)
        return {"suspects": entries[:SUSPECTS_SHOWN]}

    def _retire(self, number: int, born_at: float) -> None:
        """Another worker sits there now: what the one before had counted goes on counting."""
        if self._born.get(number, born_at) != born_at and number in self._last:
            words = self._last.pop(number)
            self._gone = [words_of(summed([*self._gone, counters_of(words["families"])]))]
            for pool, backend, _, requests in words["backends"]:
                key = (pool, backend)
                self._gone_requests[key] = self._gone_requests.get(key, 0) + requests
        self._born[number] = born_at

    def _count_backends(self) -> None:
        active: dict[tuple[str, str], int] = {}
        requests = dict(self._gone_requests)
        for words in self._last.values():
            for pool, backend, under_way, sent in words["backends"]:
                key = (pool, backend)
                active[key] = active.get(key, 0) + under_way
                requests[key] = requests.get(key, 0) + sent
        for one in self._pools.values():
            for backend in one.backends.values():
                backend.active = active.get((one.name, backend.name), 0)
                backend.requests = requests.get((one.name, backend.name), 0)


def _is_report_untrusted(words: Mapping[str, Any]) -> bool:
    """Whether all that is read of a worker's numbers is there, and can be added up."""
    try:
        summed([words["families"]])
        entries = words["suspects"]["suspects"]
        return all(map(_is_row, words["backends"])) and all("time" in entry for entry in entries)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return False


def _is_row(row: object) -> bool:
    match row:
        case [str(), str(), int(), int()]:
            return True
    return False
