"""Pictures of benchmarks, in the manner of `nnxp.plots`, which saves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nnxp.benchmark.measure import Result, Spread
from nnxp.benchmark.table import marked
from nnxp.metrics import format_count
from nnxp.plots import COLOURS, MARKERS, new_figure, put_caption, put_title, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@styled()
def dots(results: Sequence[Result], title: str, caption: str = "") -> Figure:
    """Samples per second on a log axis: a dot for the median, a line from least to most.

    Args:
        results: of any number of workloads, a panel for each; the fastest is above. A contender
            without times has no dot; one in doubt has a hollow dot and a question mark.
        title: above the picture.
        caption: below it.
    """
    from matplotlib import ticker

    names = list(dict.fromkeys(result.name for result in results if result.step_seconds))
    workloads = list(dict.fromkeys(result.workload for result in results))
    rows = {w: [r for r in results if r.workload == w and r.step_seconds] for w in workloads}
    count = sum(map(len, rows.values()))
    figure = new_figure(1.1 + 0.4 * len(workloads) + 0.2 * count)
    ratios = [len(row) + 0.4 for row in rows.values()] or [1.0]
    panels = figure.subplots(
        len(ratios), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": ratios}
    )[:, 0]
    for panel, (name, row) in zip(panels, rows.items(), strict=False):
        row.sort(key=lambda result: -_speed(result).median)
        for place, result in enumerate(row):
            speed, index = _speed(result), names.index(result.name)
            colour = COLOURS[index % len(COLOURS)]
            panel.plot([speed.low, speed.high], [place, place], color=colour, lw=1.5)
            panel.plot(
                [speed.median], [place], color=colour, marker=MARKERS[index % len(MARKERS)],
                markersize=6, markerfacecolor="white" if result.doubt else colour,
                label=result.name,
            )  # fmt: skip
            panel.annotate(
                marked(format_count(speed.median), result.doubt), (speed.high, place), (6, 0),
                textcoords="offset points", va="center", fontsize=8, color="0.25",
            )  # fmt: skip
        panel.set_yticks(range(len(row)), [result.name for result in row])
        panel.set_ylim(len(row) - 0.4, -0.6)
        panel.set_xscale("log")
        panel.set_title(name, loc="left")
        panel.grid(color="0.9")
        panel.set_axisbelow(True)
        panel.tick_params(axis="y", length=0)
    speeds = [_speed(result) for row in rows.values() for result in row]
    if speeds:
        low, high = min(speed.low for speed in speeds), max(speed.high for speed in speeds)
        panels[-1].set_xlim(low / (high / low) ** 0.05 / 1.1, high * (high / low) ** 0.15 * 1.2)
        # Of a range within a decade, powers of ten alone would label one place or none.
        subs = (1, 2, 5) if high < 100 * low else (1,)
        panels[-1].xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    panels[-1].xaxis.set_minor_formatter(ticker.NullFormatter())
    panels[-1].xaxis.set_major_formatter("{x:,.0f}")
    panels[-1].set_xlabel("samples per second, log scale")
    put_title(figure, title)
    if caption:
        put_caption(figure, caption)
    return figure


@styled()
def curves(axis: str, points: dict[int, list[Result]], title: str, caption: str = "") -> Figure:
    """Samples per second against the swept size, log-log, a band from least to most.

    Args:
        axis: what was swept, "batch-size" or "width".
        points: by size.
        title: above the picture.
        caption: below it.
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
    if caption:
        put_caption(figure, caption)
    return figure


def _speed(result: Result) -> Spread:
    """Return the samples per second of a result that has times."""
    speed = result.samples_per_second
    assert speed is not None
    return speed
