"""The picture of how time and memory grow, from the measurements of bench/growth.py."""

import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from nnxp import plots

RESULTS = Path(__file__).parents[2] / "bench" / "results" / "growth.json"
PANELS = {
    "samples": ("samples", "samples, streamed from disk"),
    "features": ("features",),
    "width": ("width",),
    "ranks": ("ranks",),
}
LABELS = {"samples": "in memory", "samples, streamed from disk": "streamed from disk"}


def growth() -> Figure:
    """Seconds of an epoch and bytes of memory against samples, features, width and processes."""
    report = json.loads(RESULTS.read_text("utf-8"))
    figure = plots.new_figure(9.0)
    panels = figure.subplots(len(PANELS), 2, sharex="row")
    for (time, memory), (name, curves) in zip(panels, PANELS.items(), strict=True):
        for colour, curve in zip(plots.COLOURS, curves, strict=False):
            found = report["curves"][curve]
            label = LABELS.get(curve, "measured")
            time.plot(found["x"], found["seconds"], "o-", color=colour, label=label, markersize=4)
            megabytes = [size / 1e6 for size in found["bytes"]]
            memory.plot(found["x"], megabytes, "o-", color=colour, markersize=4)
        _proportional(time, report["curves"][curves[0]], "seconds", -1 if name == "ranks" else 1)
        for panel in (time, memory):
            _log_scales(panel, report["curves"][curves[0]]["x"])
            panel.set_xlabel("processes" if name == "ranks" else name)
        time.set_ylabel("seconds an epoch")
        memory.set_ylabel("MB at the peak")
        time.legend(fontsize=7)
    return figure


def _log_scales(panel: Axes, points: list[float]) -> None:
    """Make both axes logarithmic, with plain numbers; the lower one has the points."""
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(points, [f"{x:,g}" for x in points])
    low, high = panel.get_ylim()
    panel.set_ylim(low / 1.5, 1.5 * high)
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(alpha=0.3)


def _proportional(panel: Axes, found: dict[str, Any], name: str, power: int) -> None:
    """Draw what is proportional to x, or to 1 / x, through the last point."""
    last, value = found["x"][-1], found[name][-1]
    if power < 0:
        last, value = found["x"][0], found[name][0]
    expected = [value * (x / last) ** power for x in found["x"]]
    panel.plot(found["x"], expected, "--", color="0.5", linewidth=1, label="proportional")
