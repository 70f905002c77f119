"""Compares nnxp with its peers on the same workloads, in turn, each in a process of its own.

    python bench/compare.py                             # all: writes the results and the README
    python bench/compare.py --workload small --peers pytorch,jax_scan
    python bench/compare.py --device cuda
    python bench/compare.py --quick --output /tmp/trial     # check that it runs, at smoke size
    python bench/compare.py --from bench/results/FILE.json  # the README's tables anew

It needs nnxp and bench/requirements.txt installed; a missing peer gets a row that says so. The exit
status is 1 if a contender failed or its loss differs from the reference's. On a GPU, `ci/gpu` runs
this and the other measurements.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arguments import parser, run
from contenders import OPTIONS, chosen_entries, failures
from report.tables import markdown
from report.writing import BENCH, write_readme, write_results
from rich.console import Console

from nnxp.benchmark import QUICK, Entry, Result, Workload, measure
from nnxp.benchmark.machine import disturbance, kernels, machine
from nnxp.benchmark.workloads import select


def described() -> dict[str, Any]:
    """Describe the machine without environment variables that hold this user's paths."""
    found = machine()
    kept = {name: v for name, v in found["environment"].items() if os.sep not in v}
    return found | {"environment": kept}


def main() -> int:
    """Measure or read a report, and write it; return the exit status."""
    command = parser(__doc__, *OPTIONS, "budget", repeat=7, min_seconds=0.3)
    command.add_argument("--pause", type=float, default=0.2, help="seconds between contenders")
    command.add_argument(
        "--timeout", type=float, default=600.0, help="seconds until a contender is stopped"
    )
    command.add_argument("--together", action="store_true", help="start all contenders at once")
    command.add_argument(
        "--output", type=Path, help="folder for results and README; default: bench/"
    )
    command.add_argument(
        "--from", dest="source", type=Path, help="read this JSON instead of measuring"
    )
    chosen = command.parse_args()
    if chosen.quick and not chosen.output:
        command.error("--quick needs --output DIR: its figures do not belong in bench/")

    source = chosen.source
    content = json.loads(source.read_text("utf-8")) if source else compare(chosen)
    target = write_readme(content, chosen.output or BENCH)
    print(f"\n{markdown(content)}\n\nsaved {target}")
    return failures(content["results"])


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure and write, workload by workload; return the JSON's content."""
    cuda = chosen.device.startswith("cuda")
    workloads = select(chosen.workload.split(",") if chosen.workload else (), gpu=cuda)
    contenders = {each.name: chosen_entries(chosen, each) for each in workloads}
    timing = {name: getattr(chosen, name) for name in ("repeat", "min_seconds", "pause")}
    if chosen.quick:
        timing, workloads = QUICK, [each.quick() for each in workloads]
    content: dict[str, Any] = {
        "section": "gpu" if cuda else "cpu",
        "machine": described(),
        "quick": chosen.quick,
        "options": timing,
        "workloads": [],
        "results": [],
    }
    start, last, path = time.monotonic(), 0.0, None
    console = Console(stderr=True, highlight=False)
    for line in (disturbance(content["machine"]), *kernels(content["machine"])):
        if line:
            console.print(line, markup=False)
    with console.status("") as status:
        for each in workloads:
            begun = time.monotonic()
            if chosen.budget is not None and begun - start + last > chosen.budget:
                found = [_left_out(other, each, chosen) for other in contenders[each.name]]
            else:
                # A hundred steps of a workload for GPUs would take longer than the rounds.
                steps = {"steps": min(timing.get("steps", 100), 16)} if each.gpu else {}
                found = measure(
                    each,
                    contenders[each.name],
                    progress=status.update,
                    together=chosen.together,
                    timeout=chosen.timeout,
                    **timing | steps,
                )
                last = time.monotonic() - begun
            content["workloads"].append(asdict(each))
            content["results"] += [result.to_dict() for result in found]
            # Write now: a later workload may fail.
            path = write_results(content, chosen.output or BENCH / "results")
    print(f"saved {path}")
    return content


def _left_out(other: Entry, each: Workload, chosen: argparse.Namespace) -> Result:
    problem = f"left out: {chosen.budget:g} seconds were too few"
    return Result(other.name, each.name, each.batch_size, problem=problem)


if __name__ == "__main__":
    run(main)
