"""nnxp and its peers on the same workloads, in turn, each in a process of its own.

    python bench/compare.py                             # all: writes the results and the README
    python bench/compare.py --workload small --peers pytorch,jax_scan
    python bench/compare.py --device cuda
    python bench/compare.py --quick --output /tmp/trial     # that it runs; the figures mean nothing
    python bench/compare.py --from bench/results/FILE.json  # the README's tables anew

Needs nnxp and bench/requirements.txt installed; a peer that is missing is a row that says so. The
exit status is 1 if a contender failed or learnt something else than the first. On a GPU, `ci/gpu`
runs this and what else there is to measure there.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from markers import insert
from peers import PEERS
from ratios import OURS
from report import MARKERS, markdown, section
from rich.console import Console

from nnxp import files
from nnxp.benchmark import WORKLOADS, Entry, Result, Workload, measure, workload
from nnxp.benchmark.backend import entry
from nnxp.benchmark.machine import machine
from nnxp.errors import NnxpError, unknown_name

HERE = Path(__file__).parent
_QUICK: dict[str, Any] = {"repeat": 2, "min_seconds": 0.0, "steps": 8, "pause": 0.0}
_BACKENDS = {
    "cpu": ["numpy", "torch", "torch:compiled", "jax"],
    "cuda": ["numpy", "cupy:eager", "cupy:graph", "torch", "jax"],
}


def entries(each: Workload, backends: list[str], peers: list[str], device: str) -> list[Entry]:
    """Who is timed on a workload: nnxp[numpy] first, which the others are compared with.

    Not where it would take minutes a chunk.
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
    """Who is timed on a workload, by the command line.

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


def slug(found: dict[str, Any], kind: str) -> str:
    """The machine as part of a file's name: its GPU where one was trained on, else its CPU."""
    on_gpu = kind == "gpu" and found["gpus"]
    name = found["gpus"][0].split(",")[0] if on_gpu else f"{found['cpu']} {found['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")


def described() -> dict[str, Any]:
    """The machine, without what only this user's folders are called."""
    found = machine()
    kept = {name: v for name, v in found["environment"].items() if os.sep not in v}
    return found | {"environment": kept}


def options(parser: argparse.ArgumentParser) -> None:
    """What says who is timed, on what and where."""
    parser.add_argument("--workload", help="separated by commas; else all but those for GPUs")
    parser.add_argument("--backends", help="nnxp's, besides numpy; else all that the device has")
    parser.add_argument("--peers", default=",".join(PEERS), help="separated by commas; else all")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--quick", action="store_true", help="smoke size; needs --output")


def main() -> int:
    """Measure or read, and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser)
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    parser.add_argument("--min-seconds", type=float, default=0.3, help="of training in a round")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between contenders")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds; longer is to hang")
    parser.add_argument("--together", action="store_true", help="start all contenders at once")
    parser.add_argument("--budget", type=float, help="seconds; what will not fit is left out")
    parser.add_argument("--output", type=Path, help="folder for results and README; else bench/")
    parser.add_argument("--from", dest="source", type=Path, help="do not measure: read this JSON")
    chosen = parser.parse_args()
    if chosen.quick and not chosen.output:
        parser.error("--quick needs --output DIR: its figures are none for bench/")

    source = chosen.source
    content = json.loads(source.read_text("utf-8")) if source else compare(chosen)
    target = write_readme(content, chosen.output or HERE)
    print(f"\n{markdown(content)}\n\nsaved {target}")
    return int(any(result["problem"] for result in content["results"]))


def write_readme(content: dict[str, Any], folder: Path) -> Path:
    """bench/README.md with this report in its section, the other kept, into the folder."""
    text = (HERE / "README.md").read_text("utf-8")
    target = folder / "README.md"
    files.write(target, insert(text, markdown(content), *MARKERS[section(content)]).encode())
    return target


def write_results(content: dict[str, Any], folder: Path) -> Path:
    """The JSON, called after the machine and the day."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{slug(content['machine'], section(content))}-{content['machine']['date'][:10]}.json"
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    files.write(folder / name, text.encode())
    return folder / name


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure and write, workload by workload; what is written as JSON."""
    cuda = chosen.device.startswith("cuda")
    names = [each.name for each in WORKLOADS.values() if cuda or not each.gpu]
    names = chosen.workload.split(",") if chosen.workload else names
    workloads = [workload(name) for name in names]
    contenders = {each.name: chosen_entries(chosen, each) for each in workloads}
    timing = {name: getattr(chosen, name) for name in ("repeat", "min_seconds", "pause")}
    if chosen.quick:
        timing, workloads = _QUICK, [each.quick() for each in workloads]
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
                # A hundred steps of what only a GPU can do would take longer than to time them.
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
            # Now, lest it be lost with a later one.
            path = write_results(content, chosen.output or HERE / "results")
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
