"""Measures throughput by batch size, to find the size from which a GPU is faster than NumPy.

    python bench/batch_sizes.py --device cuda --output sweep.json

It runs `nnxp bench --sweep batch-size` on workload `small`, at every second size, and starts all
contenders at once to be done within a minute. Sizes that do not fit the budget are left out.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from arguments import parser, run
from contenders import OPTIONS, chosen_entries, failures
from report.gpu import pays
from report.writing import write_json
from rich.console import Console

from nnxp.benchmark import QUICK, Result, measure, sweep, workload
from nnxp.benchmark.table import sweep_remarks, sweep_tables

AXIS = "batch-size"


def main() -> int:
    """Measure, print and write; return 1 if a contender failed or a size was left out."""
    command = parser(__doc__, *OPTIONS, "output", repeat=3, min_seconds=0.1, budget=3600.0)
    chosen = command.parse_args()
    first = workload(chosen.workload or "small")
    points = dict(list(sweep.points(AXIS, first).items())[::2])
    timing: dict[str, Any] = {"repeat": chosen.repeat, "min_seconds": chosen.min_seconds}
    if chosen.quick:
        points = sweep.quick(points)
        timing = QUICK

    entries = chosen_entries(chosen, first)
    found: dict[int, list[Result]] = {}
    start, longest = time.monotonic(), 0.0
    for size, each in points.items():
        begun = time.monotonic()
        if begun - start + longest > chosen.budget:
            break
        found[size] = measure(each, entries, floor=False, together=True, **timing)
        longest = max(longest, time.monotonic() - begun)
        content = {
            "axis": AXIS,
            "workload": asdict(first),
            "points": sweep.to_list(points, found),
        }
        if chosen.output:
            write_json(content, chosen.output)
    console = Console()
    for rows in sweep_tables(AXIS, found, console.width):
        console.print(rows)
    print("\n".join(sweep_remarks(AXIS, found)))
    for name, least in pays(content).items():
        print(
            f"{name} outruns nnxp[numpy] " + (f"from batch size {least} on" if least else "never")
        )
    status = failures([result.to_dict() for results in found.values() for result in results])
    if missing := [str(size) for size in points if size not in found]:
        print(f"left out for lack of time: batch sizes {', '.join(missing)}")
    return int(status or bool(missing))


if __name__ == "__main__":
    run(main)
