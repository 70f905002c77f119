"""Counts the kernels that a GPU runs for a step of training, by contender.

    python bench/kernels.py --device cuda --output kernels.json

Each contender trains in a process of its own, all at once. PyTorch's profiler counts what the GPU
does during one chunk: it sees the work of every library in its process, and each node of a graph.
Copies and fills of memory are counted separately. Without a GPU or PyTorch nothing can be counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compare import chosen_entries, options
from report.gpu import kernels
from report.mdtable import table
from report.writing import write_json

from nnxp.benchmark import Entry, Workload, workload
from nnxp.benchmark.process import AnswerError, AnsweringProcess
from nnxp.benchmark.worker import serve


def count(entry: Entry, each: Workload) -> dict[str, Any]:
    """Count one contender's kernels per step, and its copies and fills, in this process."""
    contender = entry.make(each)
    orders = each.orders()

    def chunk() -> None:
        contender.train(next(orders))
        contender.wait()

    for _ in range(3):
        chunk()  # compiles, captures
    return per_step(gpu_work(chunk), each.chunk)


def gpu_work(action: Callable[[], Any]) -> list[str]:
    """Return the names of the GPU's operations while `action` runs."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU to profile")
    torch.cuda.init()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        action()
        torch.cuda.synchronize()
    events = profiler.events()
    return [each.name for each in events if each.device_type == torch.autograd.DeviceType.CUDA]


def per_step(names: Iterable[str], steps: int) -> dict[str, Any]:
    """Count operations per step; copies and fills of memory apart from kernels."""
    names = list(names)
    if not names:
        return {"problem": "the profiler saw nothing"}
    copies = sum(name.startswith(("Memcpy", "Memset")) for name in names)
    return {"kernels": (len(names) - copies) / steps, "copies": copies / steps}


def count_all(entries: list[Entry], each: Workload, seconds: float) -> list[dict[str, Any]]:
    """Return every contender's counts or problem, after `seconds` at most."""
    deadline = time.monotonic() + seconds
    processes: dict[str, AnsweringProcess] = {}
    found = []
    try:
        for entry in entries:
            spec = json.dumps({"entry": asdict(entry), "workload": asdict(each)})
            processes[entry.name] = AnsweringProcess([__file__, "--one", spec], seconds)
        for name, process in processes.items():
            try:
                answer = process.answer(max(0.1, deadline - time.monotonic()))
            except AnswerError as error:
                answer = {"problem": str(error)}
            found.append({"name": name} | answer)
    finally:
        for process in processes.values():
            process.stop()
    return found


def one(spec: str) -> int:
    """Count one contender's kernels and print them; return the exit status."""
    stored = json.loads(spec)
    return serve(lambda: [count(Entry(**stored["entry"]), Workload(**stored["workload"]))])


def main() -> int:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for all contenders")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        return one(chosen.one)
    each = workload(chosen.workload or "small")
    each, on_host = each.quick() if chosen.quick else each, chosen.device == "cpu"
    # A contender on the host runs no kernels on the GPU; without a GPU, each row says so.
    entries = [one for one in chosen_entries(chosen, each) if one.device != "cpu" or on_host]
    found = {"workload": each.name, "contenders": count_all(entries, each, chosen.budget)}
    if chosen.output:
        write_json(found, chosen.output)
    print("\n".join(table(kernels(found))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
