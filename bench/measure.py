"""What is measured and how it is written down: CPU time from /proc, rounds to medians, one JSON file a scenario."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

RESULTS: Final = Path(__file__).resolve().parent / "results"
OURS: Final = ("mfalb", "mfalb_compiled", "mfalb_fast")  # whose ratios to the others are given
SATURATED: Final = 0.95  # of a core: past this generator or responder may be what limits the round,
BUSY: Final = 0.90  # unless the contender had so little left that its rate is right within a tenth all the same
DISTURBED: Final = 0.25  # of a core used by strangers: past this the machine was not ours to measure on
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


# ----------------------------------------------------------------------------------------- CPU time


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()  # the second field, the name, may hold spaces and brackets


def _session_stats(session: int) -> Iterator[list[str]]:
    for entry in Path("/proc").iterdir():
        fields = _stat_fields(int(entry.name)) if entry.name.isdigit() else None
        if fields is not None and int(fields[3]) == session:
            yield fields


def session_cpu_s(session: int) -> float:
    """User and system seconds used so far by all processes of a session (a Program begins one with its pid)."""
    return sum(int(fields[11]) + int(fields[12]) for fields in _session_stats(session)) * _TICK_S


def session_rss_kb(session: int) -> float:
    """Resident memory of all processes of a session, in KB; pages that they share count once for each."""
    return sum(int(fields[21]) for fields in _session_stats(session)) * os.sysconf("SC_PAGE_SIZE") / 1024


def own_rss_kb() -> float:
    """Resident memory of this process, in KB."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024


def own_cpu_s() -> float:
    """User and system seconds used so far by this process and by those it started and waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def machine_cpu_s() -> float:
    """Seconds that all cores together were busy since boot, time stolen by a hypervisor included."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = (
        int(ticks) for ticks in Path("/proc/stat").read_text("ascii").split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) * _TICK_S


@dataclass(frozen=True, slots=True)
class Cores:
    """The contender's core, and the others, which generator and backends share.

    On a machine with one core both are the same one, which spoils the figures.
    """

    contender: frozenset[int]
    load: frozenset[int]

    @classmethod
    def pick(cls) -> Cores:
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(others or {first}))

    @property
    def is_shared(self) -> bool:
        return self.contender == self.load


@dataclass(frozen=True, slots=True)
class Effort:
    """Who used how much of a core during a turn (1.0 is all of one); generator and responder have one thread each."""

    contender: float
    generator: float
    responder: float
    strangers: float

    @property
    def is_disturbed(self) -> bool:
        """Whether something else on this machine took CPU time from the turn."""
        return self.strangers > DISTURBED

    def is_limited_by_load(self, load_cores: int) -> bool:
        """Whether generator or responder, not the contender, set the pace: then a rate says nothing about it."""
        is_saturated = (
            max(self.generator, self.responder) >= SATURATED
            or self.generator + self.responder >= SATURATED * load_cores
        )
        return is_saturated and self.contender < BUSY


class Stopwatch:
    """CPU time of the contender's, the responder's and the generator's sessions over a turn.

    The generator is this process and, when it still runs at the end, the session of a program beside it.
    """

    def __init__(self, contender: int, responder: int, generator: int | None = None) -> None:
        self._sessions = (contender, responder, generator)
        self._before = self._used()

    def _used(self) -> tuple[float, float, float, float]:
        contender, responder, generator = self._sessions
        generator_s = own_cpu_s() + (session_cpu_s(generator) if generator is not None else 0.0)
        return session_cpu_s(contender), generator_s, session_cpu_s(responder), machine_cpu_s()

    def stop(self, elapsed_s: float) -> tuple[float, Effort]:
        """The contender's CPU seconds since the start, and everyone's effort over `elapsed_s`."""
        *ours_s, all_s = (after - before for before, after in zip(self._before, self._used(), strict=True))
        strangers_s = max(0.0, all_s - sum(ours_s))
        return ours_s[0], Effort(*(seconds / elapsed_s for seconds in (*ours_s, strangers_s)))


# ------------------------------------------------------------------------------------------ results


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure to report: its name as in the results file, and its unit."""

    name: str
    unit: str


Round = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Turns:
    """All turns that somebody had at a work."""

    who: str
    work: str


@dataclass(slots=True)
class Series:
    """One contender's rounds so far."""

    version: str
    rounds: list[Round] = field(default_factory=list)

    def values(self, metric: str) -> list[float]:
        return [one[metric] for one in self.rounds if metric in one]


@dataclass(slots=True)
class Scenario:
    """All that a bench script found; `notes` with a reason makes the figures invalid."""

    name: str
    metrics: Sequence[Metric]
    series: dict[str, Series] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_valid: bool = True
    efforts: dict[Turns, list[Effort]] = field(default_factory=dict)

    def note_effort(self, who: str, effort: Effort, work: str = "") -> None:
        """Keeps what a turn cost everyone; `judge_efforts` says what that means."""
        self.efforts.setdefault(Turns(who, work), []).append(effort)

    def judge_efforts(self, load_cores: int, *, is_limit_fatal: bool = True) -> None:
        """Spoils the figures when half of someone's turns were limited by load or disturbed: a median then is, too.

        Where CPU time is the headline, to be limited by load is only noted (`is_limit_fatal=False`): it makes rates
        lower bounds. The median shares go into the notes in any case.
        """
        limited = self._named_where(lambda effort: effort.is_limited_by_load(load_cores))
        if limited and is_limit_fatal:
            self.spoil(f"generator or responder were the limit in {limited}")
        elif limited:
            self.note(f"generator or responder set the pace, so that rates are lower bounds, in {limited}")
        if disturbed := self._named_where(lambda effort: effort.is_disturbed):
            self.spoil(f"other programs were busy in {disturbed}")
        shares: dict[str, list[str]] = {}
        for turns, efforts in self.efforts.items():
            shares.setdefault(turns.work, []).append(f"{turns.who} {_median_shares(efforts)}")
        for work, whose in shares.items():
            what = f"median share of a core ({work})" if work else "median share of a core"
            self.note(f"{what}, contender/generator/responder: {', '.join(whose)}")

    def _named_where(self, is_so: Callable[[Effort], bool]) -> str:
        """The turns of which half or more are so, by work; empty when there are none."""
        everyone: dict[str, list[str]] = {}
        found: dict[str, list[str]] = {}
        for turns, efforts in self.efforts.items():
            everyone.setdefault(turns.work, []).append(turns.who)
            if sum(map(is_so, efforts)) >= len(efforts) / 2:
                found.setdefault(turns.work, []).append(turns.who)
        if found == everyone:
            return "all turns" if found else ""
        parts = ((work, ", ".join(whose), whose == everyone[work]) for work, whose in found.items())
        return ", ".join(f"{work} ({'all' if are_all else whose})" if work else whose for work, whose, are_all in parts)

    def spoil(self, reason: str) -> None:
        """The figures must not be used as they stand; the reason is noted once."""
        self.is_valid = False
        self.note(reason)

    def note(self, fact: str) -> None:
        """What a reader of the figures should know, noted once."""
        if fact not in self.notes:
            self.notes.append(fact)

    def ratio(self, metric: str, contender: str, other: str) -> float | None:
        """The median over rounds of contender/other, both measured in the same round; None without both."""
        if contender not in self.series or other not in self.series:
            return None
        pairs = zip(self.series[contender].rounds, self.series[other].rounds, strict=False)
        ratios = [one[metric] / two[metric] for one, two in pairs if metric in one and two.get(metric)]
        return round(median(ratios), 3) if ratios else None

    def result(self) -> dict[str, Any]:
        """The results file's content: see the module's docstring and RESULTS."""
        others = [name for name in self.series if name not in OURS]
        ratios = {
            f"{metric.name} {reference}/{other}": ratio
            for reference in OURS
            for metric in self.metrics
            for other in others
            if (ratio := self.ratio(metric.name, reference, other)) is not None
        }
        return {
            "scenario": self.name,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "rounds": max((len(series.rounds) for series in self.series.values()), default=0),
            "contenders": {name: self._contender(series) for name, series in self.series.items()},
            "ratios": ratios,
            "valid": self.is_valid,
            "notes": self.notes,
        }

    def _contender(self, series: Series) -> dict[str, Any]:
        found = {metric: series.values(metric.name) for metric in self.metrics}
        return {
            "version": series.version,
            "metrics": {metric.name: _summary(values, metric.unit) for metric, values in found.items() if values},
        }


def _median_shares(efforts: Sequence[Effort]) -> str:
    parts = ("contender", "generator", "responder")
    return "/".join(f"{median(getattr(one, part) for one in efforts):.0%}" for part in parts)


def _summary(values: Sequence[float], unit: str) -> dict[str, Any]:
    return {
        "median": round(median(values), 2),
        "min": round(min(values), 2),
        "max": round(max(values), 2),
        "unit": unit,
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("ascii", errors="replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write_result(result: Mapping[str, Any], directory: Path = RESULTS) -> Path:
    """Writes `<scenario>.json`; the path it has."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{result['scenario']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    return path


def table(result: Mapping[str, Any]) -> str:
    """The medians, one metric a line and one contender a column, for a terminal."""
    contenders: Mapping[str, Any] = result["contenders"]
    metrics = list(dict.fromkeys(name for one in contenders.values() for name in one["metrics"]))
    rows = [["", *contenders]]
    rows += [[metric, *(_cell(one["metrics"].get(metric)) for one in contenders.values())] for metric in metrics]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    verdict = "valid" if result["valid"] else "NOT VALID"
    return "\n".join([*lines, *(f"note: {note}" for note in result["notes"]), f"{result['scenario']}: {verdict}"])


def _cell(summary: Mapping[str, Any] | None) -> str:
    return "-" if summary is None else f"{summary['median']:,.1f}"
