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
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from peers import PEERS
from report.ratios import OURS
from report.tables import markdown
from report.writing import BENCH, write_readme, write_results
from rich.console import Console

from nnxp.benchmark import QUICK, WORKLOADS, Entry, Result, Workload, measure, workload
from nnxp.benchmark.backend import entry
from nnxp.benchmark.machine import machine
from nnxp.errors import NnxpError, unknown_name

_BACKENDS = {
    "cpu": ["numpy", "torch", "torch:compiled", "jax"],
    "cuda": ["numpy", "cupy:eager", "cupy:graph", "torch", "jax"],
}


def entries(each: Workload, backends: list[str], peers: list[str], device: str) -> list[Entry]:
    """Return the contenders of a workload: first nnxp[numpy], with which the others are compared.

    A workload for GPUs has no nnxp[numpy], which would take minutes for a chunk.
    """
    kind = device.partition(":")[0]
    names = [name for name in backends if name.partition(":")[0] != "numpy" or not each.gpu]
    ours = [replace(entry(name, device), name=f"{OURS}{name}]") for name in names or backends]
    theirs = [
        Entry(peer.name, peer.contender, device if peer.device == "any" else peer.device)
        for peer in (PEERS[name] for name in peers)
        if peer.device != "cuda" or kind == "cuda"
        if peer.device != "cpu" or not each.gpu
        if not peer.workloads or each.name in peer.workloads
    ]
    return ours + theirs


def chosen_entries(chosen: argparse.Namespace, each: Workload) -> list[Entry]:
    """Return the contenders of a workload that the command line chooses.

    Raises:
        InputError: a peer is unknown.
    """
    peers = chosen.peers.split(",") if chosen.peers else []
    for name in peers:
        if name not in PEERS:
            raise unknown_name("peer", name, PEERS)
    default = _BACKENDS["cuda" if chosen.device.startswith("cuda") else "cpu"]
    asked = ["numpy", *chosen.backends.split(",")] if chosen.backends else default
    return entries(each, list(dict.fromkeys(asked)), peers, chosen.device)


def described() -> dict[str, Any]:
    """Describe the machine without environment variables that hold this user's paths."""
    found = machine()
    kept = {name: v for name, v in found["environment"].items() if os.sep not in v}
    return found | {"environment": kept}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose contenders, workloads and device."""
    parser.add_argument("--workload", help="separated by commas; default: all but those for GPUs")
    parser.add_argument("--backends", help="nnxp's, besides numpy; default: all for the device")
    parser.add_argument(
        "--peers", default=",".join(PEERS), help="separated by commas; default: all"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--quick", action="store_true", help="smoke size; needs --output")


def main() -> int:
    """Measure or read a report, and write it; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser)
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    parser.add_argument("--min-seconds", type=float, default=0.3, help="of training in a round")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between contenders")
    parser.add_argument(
        "--timeout", type=float, default=600.0, help="seconds until a contender is stopped"
    )
    parser.add_argument("--together", action="store_true", help="start all contenders at once")
    parser.add_argument(
        "--budget", type=float, help="seconds; workloads that do not fit are left out"
    )
    parser.add_argument(
        "--output", type=Path, help="folder for results and README; default: bench/"
    )
    parser.add_argument(
        "--from", dest="source", type=Path, help="read this JSON instead of measuring"
    )
    chosen = parser.parse_args()
    if chosen.quick and not chosen.output:
        parser.error("--quick needs --output DIR: its figures do not belong in bench/")

    source = chosen.source
    content = json.loads(source.read_text("utf-8")) if source else compare(chosen)
    target = write_readme(content, chosen.output or BENCH)
    print(f"\n{markdown(content)}\n\nsaved {target}")
    return int(any(result["problem"] for result in content["results"]))


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure and write, workload by workload; return the JSON's content."""
    cuda = chosen.device.startswith("cuda")
    names = [each.name for each in WORKLOADS.values() if cuda or not each.gpu]
    names = chosen.workload.split(",") if chosen.workload else names
    workloads = [workload(name) for name in names]
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
    with Console(stderr=True).status("") as status:
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
    try:
        sys.exit(main())
    except NnxpError as error:
        sys.exit(f"compare: {error}")
