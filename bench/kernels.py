"""How many kernels a GPU runs for a step of training, by contender.

    python bench/kernels.py --device cuda --output kernels.json

Each contender trains in a process of its own, all at once. PyTorch's profiler counts what the GPU
did during one chunk: it sees the work of every library in its process, and what a graph launches
node by node. Copies and fills of memory are counted apart. Where there is no GPU or no PyTorch,
nothing is known.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from compare import chosen_entries, options
from gpu_report import kernels
from mdtable import table

from nnxp import files
from nnxp.benchmark import Entry, Workload, workload
from nnxp.errors import first_line


def count(entry: Entry, each: Workload) -> dict[str, Any]:
    """Of one contender, here: kernels a step, and copies and fills."""
    module, _, name = entry.contender.partition(":")
    contender = getattr(import_module(module), name)(each, entry.device, **entry.options)
    orders = each.orders()

    def chunk() -> None:
        contender.train(next(orders))
        contender.wait()

    for _ in range(3):
        chunk()  # compiles, captures
    return per_step(gpu_work(chunk), each.chunk)


def gpu_work(action: Callable[[], Any]) -> list[str]:
    """The names of what the GPU did while `action` ran."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not torch.cuda.is_available():
        raise RuntimeError("no GPU that PyTorch's profiler could watch")
    torch.cuda.init()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        action()
        torch.cuda.synchronize()
    events = profiler.events()
    return [each.name for each in events if each.device_type == torch.autograd.DeviceType.CUDA]


def per_step(names: Iterable[str], steps: int) -> dict[str, Any]:
    """What was done, a step; copies and fills of memory apart from kernels."""
    names = list(names)
    if not names:
        return {"problem": "the profiler saw nothing"}
    copies = sum(name.startswith(("Memcpy", "Memset")) for name in names)
    return {"kernels": (len(names) - copies) / steps, "copies": copies / steps}


def count_all(entries: list[Entry], each: Workload, seconds: float) -> list[dict[str, Any]]:
    """Every contender's counts or problem, in `seconds` at most."""
    processes, deadline = [], time.monotonic() + seconds
    for entry in entries:
        spec = json.dumps({"entry": asdict(entry), "workload": asdict(each)})
        command = [sys.executable, __file__, "--one", spec]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        processes.append((entry, process))
    found = []
    try:
        for entry, process in processes:
            left = max(0.1, deadline - time.monotonic())
            found.append({"name": entry.name} | _answer(process, left))
    finally:
        for _, process in processes:
            process.kill()
            process.communicate()
    return found


def _answer(process: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
    try:
        said, chatter = process.communicate(timeout=seconds)
        return json.loads(said.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"problem": "did not answer in time"}
    except (ValueError, IndexError):
        lines = chatter.decode(errors="replace").strip().splitlines()
        return {"problem": lines[-1] if lines else f"died ({process.returncode})"}


def one(spec: str) -> None:
    """Count one contender's, and print it as the last line."""
    stored = json.loads(spec)
    fields = stored["workload"] | {"sizes": tuple(stored["workload"]["sizes"])}
    try:
        found = count(Entry(**stored["entry"]), Workload(**fields))
    except Exception as error:  # whatever a library raises is its row
        found = {"problem": first_line(error)}
    print(json.dumps(found))


def main() -> int:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options(parser)
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for all")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one)
        return 0
    each = workload(chosen.workload or "small")
    each, on_host = each.quick() if chosen.quick else each, chosen.device == "cpu"
    # NumPy's row would always be a dash; but where all are on the host, each may say so.
    entries = [one for one in chosen_entries(chosen, each) if one.device != "cpu" or on_host]
    found = {"workload": each.name, "contenders": count_all(entries, each, chosen.budget)}
    if chosen.output:
        files.write(chosen.output, (json.dumps(found, indent=1) + "\n").encode())
    print("\n".join(table(kernels(found))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
