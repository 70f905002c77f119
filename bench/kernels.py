"""Counts the kernels that a GPU runs for a step of training, by contender.

    python bench/kernels.py --device cuda --output kernels.json

Each contender trains in a process of its own, all at once. A chunk that CuPy launches as a CUDA
graph is counted by the graph's nodes (see graph_nodes.py). Of any other, PyTorch's profiler counts
what the GPU does: it sees the work of every library in its process. Copies and fills of memory are
counted separately. A contender that neither can count gets a row that says why.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any

import graph_nodes
from arguments import parser, run
from contenders import OPTIONS, chosen_entries, failures
from report.gpu import kernels
from report.mdtable import table
from report.writing import write_json

from nnxp.benchmark import Entry, Workload, workload
from nnxp.benchmark.process import AnswerError, AnsweringProcess
from nnxp.benchmark.worker import serve


def count(entry: Entry, each: Workload) -> dict[str, Any]:
    """Count one contender's kernels per step, and its copies and fills, in this process."""
    watch: AbstractContextManager[list[Any]] = (
        graph_nodes.launches() if find_spec("cupy") else nullcontext([])
    )
    with watch as launched:
        contender = entry.make(each)
        orders = each.orders()

        def chunk() -> None:
            contender.train(next(orders))
            contender.wait()

        for _ in range(3):
            chunk()  # compiles, captures
        launched.clear()
        chunk()
        graphs = list(launched)
    if graphs:
        return of_graphs(graphs, each.chunk)
    return per_step(gpu_work(chunk), each.chunk)


def of_graphs(graphs: Iterable[Any], steps: int) -> dict[str, Any]:
    """Count operations per step of graphs that were launched for `steps` steps."""
    nodes = sum(map(graph_nodes.count, graphs), Counter())
    kernels, copies = nodes.pop("kernel", 0), nodes.pop("memcpy", 0) + nodes.pop("memset", 0)
    others = "".join(f", besides {number} of type {name}" for name, number in nodes.items())
    counted = f"by the nodes of the CUDA graph of {steps} steps{others}"
    return {"kernels": kernels / steps, "copies": copies / steps, "counted": counted}


def gpu_work(action: Callable[[], Any]) -> list[str]:
    """Return the names of the GPU's operations while `action` runs."""
    try:
        import torch
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        raise RuntimeError("no CUDA graph was launched, and PyTorch, whose profiler counts other "
                           "work, is not installed") from None  # fmt: skip
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
    counted = "by PyTorch's profiler"
    return {"kernels": (len(names) - copies) / steps, "copies": copies / steps, "counted": counted}


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
    command = parser(__doc__, *OPTIONS, "output", budget=60.0)
    command.add_argument("--one", help=argparse.SUPPRESS)
    chosen = command.parse_args()
    if chosen.one:
        return one(chosen.one)
    each = workload(chosen.workload or "small")
    each, on_host = each.quick() if chosen.quick else each, chosen.device == "cpu"
    # A contender on the host runs no kernels on the GPU; without a GPU, each row says so.
    entries = [one for one in chosen_entries(chosen, each) if one.device != "cpu" or on_host]
    counted = count_all(entries, each, chosen.budget)
    found = {"workload": each.name, "contenders": counted}
    if chosen.output:
        write_json(found, chosen.output)
    print("\n".join(table(kernels(found))))
    return 0 if on_host else failures(counted)


if __name__ == "__main__":
    run(main)
