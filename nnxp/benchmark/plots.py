"""Pictures of benchmarks, in the manner of `nnxp.plots`, which saves them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnxp.benchmark.measure import Result, Spread
from nnxp.plots import COLOURS, MARKERS, new_figure, put_title, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled()
def bars(results: Sequence[Result], title: str) -> Figure:
    """Samples per second, medians with the rounds' extremes, by workload and contender.

    Args:
        results: of any number of workloads; a contender without times has no bar.
        title: above the picture.
    """
    speeds = _speeds(results)
    workloads = list(dict.fromkeys(result.workload for result in results))
    names = list(dict.fromkeys(name for _, name in speeds))
    figure = new_figure(3.8)
    panel = figure.subplots()
    width = 0.8 / max(1, len(names))
    for i, name in enumerate(names):
        places = [(n, speeds[w, name]) for n, w in enumerate(workloads) if (w, name) in speeds]
        at = [n + (i - (len(names) - 1) / 2) * width for n, _ in places]
        medians = [speed.median for _, speed in places]
        below = [speed.median - speed.low for _, speed in places]
        above = [speed.high - speed.median for _, speed in places]
        colour, hatch = COLOURS[i % len(COLOURS)], "////" if i >= len(COLOURS) else None
        panel.bar(at, medians, 0.9 * width, label=name, color=colour, hatch=hatch, edgecolor="w")
        panel.errorbar(at, medians, [below, above], fmt="none", ecolor="0.2", capsize=2, lw=1)
    panel.set_yscale("log")
    if speeds:
        # A bar on a log scale has no foot of its own: a decade's below the shortest.
        lowest = min(speed.low for speed in speeds.values())
        panel.set_ylim(bottom=10 ** (math.ceil(math.log10(lowest)) - 1))
    panel.set_xticks(range(len(workloads)), workloads)
    panel.set_xlabel("workload")
    panel.set_ylabel("samples per second, log scale")
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.grid(axis="y", color="0.9")
    panel.set_axisbelow(True)
    if names:
        figure.legend(loc="outside lower center", ncols=min(5, len(names)))
    put_title(figure, title)
    return figure


@styled()
def curves(axis: str, points: dict[int, list[Result]], title: str) -> Figure:
    """Samples per second against the swept size, log-log, a band from least to most.

    Args:
        axis: what was swept, "batch-size" or "width".
        points: by size.
        title: above the picture.
    """
    from matplotlib import ticker

    names = list(dict.fromkeys(result.name for row in points.values() for result in row))
    figure = new_figure(4.2)
    panel = figure.subplots()
    for i, name in enumerate(names):
        found = [
            (point, result.samples_per_second)
            for point, row in points.items()
            for result in row
            if result.name == name
        ]
        drawn = [(point, speed) for point, speed in found if speed]
        if not drawn:
            continue
        at, colour = [point for point, _ in drawn], COLOURS[i % len(COLOURS)]
        low, high = [speed.low for _, speed in drawn], [speed.high for _, speed in drawn]
        panel.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)
        medians = [speed.median for _, speed in drawn]
        marker = MARKERS[i % len(MARKERS)]
        panel.plot(at, medians, color=colour, marker=marker, markersize=5, label=name)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(list(points), [str(point) for point in points])
    panel.minorticks_off()
    # Of a range within a decade, powers of ten alone would label one place or none.
    panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:,.0f}")
    unit = "samples a step" if axis == "batch-size" else "units a hidden layer"
    panel.set_xlabel(f"{axis.replace('-', ' ')} ({unit}), log scale")
    panel.set_ylabel("samples per second, log scale")
    panel.grid(color="0.9")
    panel.set_axisbelow(True)
    if panel.lines:
        panel.legend()
    put_title(figure, title)
    return figure


def _speeds(results: Sequence[Result]) -> dict[tuple[str, str], Spread]:
    """By workload and contender."""
    return {
        (result.workload, result.name): speed
        for result in results
        if (speed := result.samples_per_second) is not None
    }
