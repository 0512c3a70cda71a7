"""Pictures of results, beside the JSON files: the same figures, with the range that they were seen in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from measure import Series

_COLOURS: Final = {
    "mfalb": "#c1272d",
    "mfalb_compiled": "#e8853b",
    "mfalb_fast": "#e8853b",
    "radsecproxy": "#4878a8",
    "freeradius": "#7fa650",
    "nginx": "#8c8c8c",
    "haproxy": "#4878a8",
    "envoy": "#8e6bb0",
    "aiohttp_handler": "#7fa650",
    "primary_secondary": "#4878a8",
}
_DOTS_PER_INCH: Final = 110
_WHISKERS: Final[dict[str, Any]] = {"elinewidth": 1.0, "capsize": 2.5, "ecolor": "#222222"}
_QUIET: Final = {"fontsize": 8, "color": "#555555"}
_HEADLINE_LOAD: Final = 128  # whose metrics have no `@load`

Contender = Mapping[str, Any]


def _save(figure: Figure, result: Mapping[str, Any], title: str, path: Path) -> None:
    machine = result["machine"]
    """Writes the picture with its title and what it was taken on."""
    verdict, colour = ("", "black") if result["valid"] else (" - NOT VALID, see notes", "#c1272d")
    figure.suptitle(title + verdict, fontsize=13, fontweight="bold", color=colour)
    figure.text(
        0.01,
        0.008,
        f"{result['date'][:10]}, {result['rounds']} rounds, {machine['cpu']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}, Python {machine['python']}",
        fontdict=_QUIET,
    )
    figure.savefig(path, dpi=_DOTS_PER_INCH)


def _thousands(value: float, _position: object = None) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


# ------------------------------------------------------------------------------------------- radius


def _loads(contenders: Mapping[str, Contender]) -> list[int]:
    """Which loads were measured, in order."""
    names = {name for one in contenders.values() for name in one["metrics"] if name.startswith("transactions_per_s")}
    given = {part for name in names for part in name.split("@")[1:] if part.isdigit()}
    has_headline = any(name.split("@")[1:2] in ([], ["same_secret"]) for name in names)
    return sorted({int(load) for load in given} | ({_HEADLINE_LOAD} if has_headline else set()))


def _summary(one: Contender, metric: str, load: int, variant: str) -> Mapping[str, float] | None:
    suffix = "" if load == _HEADLINE_LOAD else f"@{load}"
    found: Mapping[str, float] | None = one["metrics"].get(f"{metric}{suffix}{variant}")
    return found


def _ranges(found: Sequence[Mapping[str, float]]) -> tuple[list[float], list[list[float]]]:
    """Medians, and how far below and above them the rounds went."""
    medians = [one["median"] for one in found]
    return medians, [[one["median"] - one["min"] for one in found], [one["max"] - one["median"] for one in found]]


def _bars(axes: Axes, contenders: Mapping[str, Contender], metric: str, variant: str) -> None:
    """A group of bars for each load; hatched where requests were lost."""
    loads, width = _loads(contenders), 0.8 / len(contenders)
    for number, (name, one) in enumerate(contenders.items()):
        for group, load in enumerate(loads):
            found, lost = (_summary(one, what, load, variant) for what in (metric, "lost"))
            if found is None:
                continue
            heights, ranges = _ranges([found])
            axes.bar(
                [group + (number + 0.5) * width - 0.4],
                heights,
                width * 0.92,
                yerr=ranges,
                color=_COLOURS[name],
                hatch="////" if lost is not None and lost["median"] else None,
                edgecolor="white",
                linewidth=0,
                error_kw=_WHISKERS,
            )
    axes.yaxis.set_major_formatter(FuncFormatter(_thousands))


def _latencies(axes: Axes, contenders: Mapping[str, Contender], variant: str) -> None:
    """A line from p50 (dot) to p99 (triangle) for each load."""
    width = 0.8 / len(contenders)
    for number, (name, one) in enumerate(contenders.items()):
        for group, load in enumerate(_loads(contenders)):
            pair = [_summary(one, what, load, variant) for what in ("p50_us", "p99_us")]
            found = [{what: value / 1e3 for what, value in one.items() if what != "unit"} for one in pair if one]
            if len(found) != 2:
                continue
            at, (medians, ranges) = group + (number + 0.5) * width - 0.4, _ranges(found)
            axes.vlines([at], medians[0], medians[1], color=_COLOURS[name], linewidth=2)
            for middle, below, above, marker in zip(medians, *ranges, "o^", strict=True):
                axes.errorbar(
                    [at], [middle], [[below], [above]], marker=marker, color=_COLOURS[name], markersize=6, **_WHISKERS
                )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(_thousands))


def radius(result: Mapping[str, Any], path: Path) -> None:
    """Rate, CPU time and latency of each contender by load; one row for two secrets, one for one secret."""
    contenders: Mapping[str, Contender] = result["contenders"]
    figure = Figure(figsize=(13, 9.4))
    grid = figure.subplots(2, 3, sharex=True, sharey="col")
    variants = {"": "clients and backends\nwith different secrets", "@same_secret": "one secret\non both sides"}
    titles = (
        "transactions per second\n(more is better)",
        "CPU time per transaction, µs\n(less is better)",
        "latency, ms, p50 (dot) to p99 (triangle)\n(less is better)",
    )
    for row, (variant, label) in zip(grid, variants.items(), strict=True):
        _bars(row[0], contenders, "transactions_per_s", variant)
        _bars(row[1], contenders, "cpu_us_per_transaction", variant)
        _latencies(row[2], contenders, variant)
        row[0].set_ylabel(label, fontsize=10, fontweight="bold", labelpad=10)
        for axes in row:
            axes.grid(axis="y", color="#dddddd")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title, fontsize=10)
    loads = _loads(contenders)
    for axes in grid[1]:
        axes.set_xticks(range(len(loads)), [str(load) for load in loads])
        axes.set_xlabel("requests outstanding")
    for name, one in contenders.items():
        grid[0][0].bar([0], [0], color=_COLOURS[name], label=f"{name} {one['version']}")
    figure.legend(loc="upper right", ncols=len(contenders), frameon=False, bbox_to_anchor=(0.99, 0.945))
    remark = "whiskers: least and most of all rounds; hatched: requests lost; nginx knows one secret only, in both rows"
    figure.text(0.99, 0.008, remark, ha="right", fontdict=_QUIET)
    figure.subplots_adjust(left=0.09, right=0.99, top=0.83, bottom=0.1, hspace=0.12, wspace=0.18)
    _save(figure, result, "RADIUS: PAP with Message-Authenticator, one core for each contender", path)


# ----------------------------------------------------------------------------------------- failover

_CLIENTS: Final = {
    "radclient": "radclient",
    "nas": "NAS, no dead time",
    "nas_dead_time": "NAS, dead time 60 s",
}
_WAYS: Final = {
    "primary_secondary": "knows both servers",
    "mfalb": "knows mfalb",
    "mfalb_fast": "knows mfalb, fast watchdog",
}
_PHASES: Final = {"first": "users within a second of the fault", "later": "users in the window after it"}
_FAULTS: Final = {"refused": "server ended: its port refuses", "silent": "server stands still: no answer"}


def _visits(axes: Axes, series: Mapping[str, Series], phase: str, fault: str) -> None:
    """A line of dots, one a user, for each client and way; a bar at the median, p99 in words."""
    labels: list[str] = []
    for client, client_label in _CLIENTS.items():
        for way, way_label in _WAYS.items():
            height = -len(labels)
            labels.append(f"{client_label}\n{way_label}")
            times_s = [value / 1e3 for value in series[way].values(f"{phase}_ms_{fault}@{client}")]
            jitter = [height + 0.22 * (number % 7 - 3) / 3 for number in range(len(times_s))]
            axes.plot(times_s, jitter, ".", color=_COLOURS[way], alpha=0.45, markersize=5, markeredgewidth=0)
            if times_s:
                axes.vlines([median(times_s)], height - 0.36, height + 0.36, color=_COLOURS[way], linewidth=2.5)
            for p99_ms in series[way].values(f"{phase}_p99_ms_{fault}@{client}"):
                said = f"p99 {p99_ms / 1e3:.3g} s" if p99_ms >= 1e3 else f"p99 {p99_ms:.0f} ms"
                axes.text(1.01, height, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks([-number for number in range(len(labels))], labels, fontsize=8.5)


def failover(result: Mapping[str, Any], series: Mapping[str, Series], path: Path) -> None:
    """How long each user waited; columns are faults, rows are before when users came."""
    figure = Figure(figsize=(13, 9.4))
    grid = figure.subplots(2, 2, sharex=True, sharey=True)
    for row, (phase, when) in zip(grid, _PHASES.items(), strict=True):
        for axes, (fault, what) in zip(row, _FAULTS.items(), strict=True):
            _visits(axes, series, phase, fault)
            axes.set_title(f"{what}; {when}", fontsize=10)
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(_seconds))
            axes.grid(axis="x", color="#dddddd")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[1]:
        axes.set_xlabel("time until the user is in")
    version = result["contenders"]["mfalb"]["version"]
    remark = f"one dot a user, bars: medians; mfalb {version}; radclient's own start is part of its times"
    figure.text(0.99, 0.008, remark, ha="right", fontdict=_QUIET)
    figure.subplots_adjust(left=0.15, right=0.94, top=0.89, bottom=0.1, hspace=0.2, wspace=0.2)
    _save(figure, result, "RADIUS: one of two servers fails", path)


def _seconds(value: float, _position: object = None) -> str:
    return f"{value:g} s" if value >= 1 else f"{value * 1e3:g} ms"


# -------------------------------------------------------------------------------------------- https


def _ranked(axes: Axes, contenders: Mapping[str, Contender], metrics: Mapping[str, str]) -> None:
    """For each contender, from the top, a bar for each metric that it has; the first one full, the second one pale.

    The median stands beside its bar. `metrics` gives each metric's label.
    """
    height = 0.8 / len(metrics)
    names = list(contenders)
    for number, metric in enumerate(metrics):
        for row, name in enumerate(names):
            found = contenders[name]["metrics"].get(metric)
            at = -row + 0.4 - (number + 0.5) * height
            if found is None:
                axes.text(0, at, " not measured", va="center", fontsize=8, color=_QUIET["color"])
                continue
            medians, ranges = _ranges([found])
            colour, alpha = _COLOURS[name], 1.0 if number == 0 else 0.5
            axes.barh([at], medians, height * 0.88, xerr=ranges, color=colour, alpha=alpha, error_kw=_WHISKERS)
            said = f"{metrics[metric]} {_short(medians[0])}"
            axes.annotate(
                said, (found["max"], at), (5, 0), textcoords="offset points", va="center", fontsize=8, color="#222222"
            )
    labels = [f"{name}\n{contenders[name]['version']}" for name in names]
    axes.set_yticks([-row for row in range(len(names))], labels, fontsize=9)
    widest = max(
        (
            one["metrics"][metric]["max"]
            for one in contenders.values()
            for metric in metrics
            if metric in one["metrics"]
        ),
        default=1.0,
    )
    axes.set_xlim(0, widest * 1.3)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def https(result: Mapping[str, Any], path: Path) -> None:
    """CPU time of requests, new connections and large bodies, and p99 at fixed rates: what was measured of them."""
    contenders: Mapping[str, Contender] = result["contenders"]
    panels = {
        "CPU time per kept-alive request, 64 connections, µs": {
            "cpu_us_per_request_plain": "plain",
            "cpu_us_per_request_tls": "TLS",
        },
        "p99 of TLS requests, ms": {"p99_ms": "half of own capacity", "p99_ms@same_rate": "same rate for all"},
        "CPU time per new TLS connection and request, µs": {
            "cpu_us_per_connection_tls": "full",
            "cpu_us_per_connection_tls_resumed": "resumed",
        },
        "CPU time per body of 10 MB, ms": {"cpu_ms_per_10mb_down": "down", "cpu_ms_per_10mb_up": "up"},
    }
    figure = Figure(figsize=(13, 9.4))
    grid = figure.subplots(2, 2, sharey=True)
    for axes, (title, metrics) in zip(grid.flat, panels.items(), strict=True):
        _ranked(axes, contenders, metrics)
        axes.set_title(f"{title} (less is better)", fontsize=10)
        axes.grid(axis="x", color="#dddddd")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    remark = "whiskers: least and most of all rounds; with affinity cookies (not nginx) and access logs"
    figure.text(0.99, 0.008, remark, ha="right", fontdict=_QUIET)
    figure.subplots_adjust(left=0.12, right=0.98, top=0.91, bottom=0.08, hspace=0.2, wspace=0.06)
    _save(figure, result, "HTTPS proxies, one core for each contender", path)
