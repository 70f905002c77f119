"""nnxp and its peers on the same workloads, in turn, each in a process of its own.

    python bench/compare.py                             # all: writes the results and the README
    python bench/compare.py --workload small --peers pytorch,jax_scan
    python bench/compare.py --device cuda
    python bench/compare.py --quick --output /tmp/trial     # that it runs; the figures mean nothing
    python bench/compare.py --from bench/results/FILE.json  # the README's tables anew

Needs nnxp and bench/requirements.txt installed; a peer that is missing is a row that says so. The
exit status is 1 if a contender failed or learnt something else than the first.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from markers import insert
from peers import PEERS
from report import BEGIN, END, OURS, markdown
from rich.console import Console

from nnxp import files
from nnxp.benchmark import WORKLOADS, Entry, Workload, measure, workload
from nnxp.benchmark.backend import entry
from nnxp.benchmark.machine import machine
from nnxp.errors import NnxpError, unknown_name

HERE = Path(__file__).parent
_QUICK: dict[str, Any] = {"repeat": 2, "min_seconds": 0.0, "steps": 8, "pause": 0.0}


def entries(each: Workload, backends: list[str], peers: list[str], device: str) -> list[Entry]:
    """Who is timed on a workload: nnxp[numpy] first, which the others are compared with."""
    kind = device.partition(":")[0]
    names = dict.fromkeys(["numpy", *backends])
    ours = [replace(entry(name, device), name=f"{OURS}{name}]") for name in names]
    theirs = [
        Entry(peer.name, peer.contender, device if peer.device == "any" else peer.device)
        for peer in (PEERS[name] for name in peers)
        if peer.device != "cuda" or kind == "cuda"
        if not peer.workloads or each.name in peer.workloads
    ]
    return ours + theirs


def slug(found: dict[str, Any], device: str) -> str:
    """The machine as part of a file's name: its GPU where one is trained on, else its CPU."""
    on_gpu = not device.startswith("cpu") and found["gpus"]
    name = found["gpus"][0].split(",")[0] if on_gpu else f"{found['cpu']} {found['cores']} cores"
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"\((r|tm)\)", "", name.lower())).strip("-")


def described() -> dict[str, Any]:
    """The machine, without what only this user's folders are called."""
    found = machine()
    kept = {name: v for name, v in found["environment"].items() if os.sep not in v}
    return found | {"environment": kept}


def main() -> int:
    """Measure or read, and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workload", help="separated by commas; else all but those for GPUs")
    parser.add_argument("--backends", help="nnxp's, besides numpy; else all that the device has")
    parser.add_argument("--peers", default=",".join(PEERS), help="separated by commas; else all")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    parser.add_argument("--min-seconds", type=float, default=0.3, help="of training in a round")
    parser.add_argument("--quick", action="store_true", help="smoke size; needs --output")
    parser.add_argument("--output", type=Path, help="folder for results and README; else bench/")
    parser.add_argument("--from", dest="source", type=Path, help="do not measure: read this JSON")
    chosen = parser.parse_args()
    if chosen.quick and not chosen.output:
        parser.error("--quick needs --output DIR: its figures are none for bench/")

    if chosen.source:
        content = json.loads(chosen.source.read_text("utf-8"))
    else:
        content = compare(chosen)
        results = chosen.output or HERE / "results"
        results.mkdir(parents=True, exist_ok=True)
        name = f"{slug(content['machine'], chosen.device)}-{content['machine']['date'][:10]}.json"
        text = json.dumps(content, indent=1, allow_nan=False) + "\n"
        files.write(results / name, text.encode())
        print(f"saved {results / name}")
    generated = markdown(content)
    readme = HERE / "README.md"
    target = chosen.output / "README.md" if chosen.output else readme
    files.write(target, insert(readme.read_text("utf-8"), generated, BEGIN, END).encode())
    print(f"\n{generated}\n\nsaved {target}")
    return int(any(result["problem"] for result in content["results"]))


def compare(chosen: argparse.Namespace) -> dict[str, Any]:
    """Measure; what is written as JSON."""
    cuda = chosen.device.startswith("cuda")
    peers = chosen.peers.split(",") if chosen.peers else []
    for name in peers:
        if name not in PEERS:
            raise unknown_name("peer", name, PEERS)
    names = [each.name for each in WORKLOADS.values() if cuda or not each.gpu]
    names = chosen.workload.split(",") if chosen.workload else names
    workloads = [workload(name) for name in names]
    default = ["cupy", "torch", "jax"] if cuda else ["torch", "torch:compiled", "jax"]
    backends = chosen.backends.split(",") if chosen.backends else default
    options: dict[str, Any] = {"repeat": chosen.repeat, "min_seconds": chosen.min_seconds}
    if chosen.quick:
        options, workloads = _QUICK, [each.quick() for each in workloads]
    content: dict[str, Any] = {"machine": described(), "quick": chosen.quick, "options": options}
    content["workloads"] = [asdict(each) for each in workloads]
    content["results"] = []
    with Console(stderr=True).status("") as status:
        for each in workloads:
            found = measure(
                each,
                entries(each, backends, peers, chosen.device),
                progress=status.update,
                **options,
            )
            content["results"] += [result.to_dict() for result in found]
    return content


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NnxpError as error:
        sys.exit(f"compare: {error}")
