"""Times training in several processes beside one process and beside PyTorch's DDP on gloo.

    python bench/scaling.py                     # all workloads for a CPU, five rounds
    python bench/scaling.py --quick             # that it runs and learns the same

In each round, in turn: one process with all cores; one process on one core; two processes with a
core each, by MPI; two processes of PyTorch's DistributedDataParallel with a core each. All take
the same steps on the same batches of `--batch-size` rows together, from the same weights. A ratio
is samples per second over those of one process with all cores in the same round. Of two processes,
the time of a step is given with and without the sum of gradients: the difference is communication
that no computation hides.

Four processes, on however many cores, must end with the parameters of one: that is checked, not
timed. For more processes there is a model, fitted to what was measured here, printed with its
formula and marked as a model. Needs torch and mpi4py with its mpiexec.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

MODEL_RANKS = (1, 2, 4, 8, 16, 32, 64)
NETWORKS = {"25 Gbit/s": (25e9 / 8, 20e-6), "400 Gbit/s": (400e9 / 8, 5e-6)}
"""Bytes per second and seconds of latency of a message: the latencies are assumed, not measured."""
SIZES = (2**12, 2**14, 2**16, 2**18, 2**20, 2**22, 2**23)
"""Bytes of the sums that the model's bandwidth and latency are fitted to."""


def bind(core: int) -> None:
    """Run this process on one core, before libraries count the cores."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def _work(workload: Any, quick: bool) -> Any:
    """Return the workload on less data, which is made faster and takes the same steps."""
    if quick:
        return workload.quick()
    samples = max(16_384, workload.chunk * workload.batch_size)
    return dataclasses.replace(workload, samples=min(samples, workload.samples))


def timed(run: Any, seconds: float) -> float:
    """Return the seconds of a step: `run()` returns how many it took, and is repeated."""
    run()
    start, steps = time.perf_counter(), 0
    while True:
        steps += run()
        if (elapsed := time.perf_counter() - start) >= seconds:
            return elapsed / steps


class NnxpSteps:
    """The steps of `nnxp.train` for a workload, in one process of a world."""

    def __init__(
        self, workload: Any, world: Any, communicator: Any, rows: int | None = None
    ) -> None:
        from nnxp import MLP, SGD, Regularization, backends, objectives
        from nnxp.arrays import index_dtype
        from nnxp.benchmark.workloads import LEARNING_RATE
        from nnxp.data import checks
        from nnxp.data.prepare import device_targets
        from nnxp.distributed import BatchShare
        from nnxp.state import first_state, with_batch_size
        from nnxp.step import step_runner

        self.rate, self.orders = LEARNING_RATE, workload.orders()
        self.backend = backends.get("numpy")
        network = MLP(workload.sizes, backend=self.backend, parameters=workload.parameters)
        objective, rule = objectives.get("auto", network.output), SGD(LEARNING_RATE)
        x, classes = workload.data
        targets = checks.targets(classes, objective.loss, len(x), workload.sizes[-1])
        self.data = network.spec.on_device(x), device_targets(network.spec, targets)
        is_uneven = workload.batch_size % world.size > 0
        self.share = BatchShare(world.rank, world.size, is_uneven)
        self.run = step_runner(
            network, objective, rule, Regularization(), 0, None, self.share, communicator
        )
        self.state = first_state(network, rule)
        if is_uneven:
            self.state = self.state._replace(batch_size=[self.state.step])
            self.state = with_batch_size(self.state, workload.batch_size, self.backend)
        self.index_dtype, self.rows = index_dtype(self.backend.xp), rows
        self.steps = network.spec.chunk_steps(workload.batch_size)

    def chunk(self) -> int:
        """Run one chunk of steps; return their number."""
        order = self.share.of(next(self.orders))[:, : self.rows]
        for start in range(0, len(order), self.steps):
            part = self.backend.asarray(order[start : start + self.steps], dtype=self.index_dtype)
            self.state, self.loss = self.run(self.state, self.data, part, self.rate)
        return len(order)


class Local:
    """A communicator that adds nothing: the work of a rank alone."""

    def all_reduce(self, groups: Any) -> list[Any]:
        return [list(group) for group in groups]

    def refuses(self, executor: str) -> None:
        return None

    def across(self, run: Any) -> Any:
        return run


def nnxp_worker(name: str, seconds: float, quick: bool, kind: str) -> None:
    """Measure in this process; rank 0 prints the result as JSON."""
    import numpy as np

    from nnxp import backends
    from nnxp.arrays import to_numpy
    from nnxp.benchmark.workloads import workload as find
    from nnxp.distributed import ALONE, world

    work = _work(find(name), quick)
    here = ALONE if kind in ("one", "rows") else world()
    with here.together():
        communicator = here.communicator(backends.get("numpy"))
        if kind == "rows":
            found = []
            for ranks in MODEL_RANKS:
                rows = math.ceil(work.batch_size / ranks)
                steps = NnxpSteps(work, here, None, rows)
                found.append((rows, timed(steps.chunk, seconds / 4)))
            print(json.dumps(found))
            return
        if kind == "sums":
            print_sums(here, communicator, seconds)
            return
        steps = NnxpSteps(work, here, communicator)
        for _ in range(3):
            steps.chunk()
        parameters = [
            to_numpy(each).astype("float64") for layer in steps.state[0] for each in layer
        ]
        total = float(sum(np.abs(each).sum() for each in parameters))

        def together() -> int:
            """A chunk; all processes end after the same one."""
            return steps.chunk()

        chunks = max(here.exchange(round(seconds / (timed(together, 0.0) * work.chunk)) or 1))
        start = time.perf_counter()
        done = sum(steps.chunk() for _ in range(chunks))
        step = (time.perf_counter() - start) / done
        alone = None
        if here.size > 1:
            local = NnxpSteps(work, here, Local())
            local.chunk()
            start = time.perf_counter()
            done = sum(local.chunk() for _ in range(chunks))
            alone = (time.perf_counter() - start) / done
        if here.rank == 0:
            print(json.dumps({"step": step, "alone": alone, "parameters": total}))


def print_sums(here: Any, communicator: Any, seconds: float) -> None:
    """Time the sums of arrays alone."""
    import numpy as np

    found = []
    for size in SIZES:
        array = np.zeros(size // 4, np.float32)
        times = max(5, round(seconds / 20 / (1e-5 + size * 1e-9)))
        here.vote(0)
        start = time.perf_counter()
        for _ in range(times):
            communicator.all_reduce([[array]])
        found.append((size, (time.perf_counter() - start) / times))
        communicator._sums.clear()
    if here.rank == 0:
        print(json.dumps(found))


def ddp_worker(name: str, seconds: float, quick: bool, rank: int, size: int, file: str) -> None:
    """Train by DistributedDataParallel on gloo, as its users write it."""
    import numpy as np
    import torch
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from nnxp.benchmark.workloads import LEARNING_RATE
    from nnxp.benchmark.workloads import workload as find

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=size
    )
    work = _work(find(name), quick)
    layers: list[Any] = []
    for weight, bias in work.parameters:
        layer = nn.Linear(*weight.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weight.T.copy()))
            layer.bias.copy_(torch.from_numpy(bias))
        layers += [layer, nn.ReLU()]
    model = DistributedDataParallel(nn.Sequential(*layers[:-1]), gradient_as_bucket_view=True)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    loss_of = nn.CrossEntropyLoss()
    x, classes = map(torch.from_numpy, work.data)
    orders: Iterator[Any] = work.orders()

    def chunk() -> int:
        order = next(orders)
        rows = order.shape[1] // size
        for batch in torch.from_numpy(order[:, rank * rows : (rank + 1) * rows].copy()):
            optimizer.zero_grad()
            loss_of(model(x[batch]), classes[batch]).backward()
            optimizer.step()
        return len(order)

    for _ in range(3):
        chunk()
    total = float(sum(np.abs(each.detach().double().numpy()).sum() for each in model.parameters()))
    seconds_of = torch.tensor([timed(chunk, 0.0)])
    torch.distributed.broadcast(seconds_of, 0)
    chunks = round(seconds / (float(seconds_of) * work.chunk)) or 1
    start = time.perf_counter()
    done = sum(chunk() for _ in range(chunks))
    if rank == 0:
        step = (time.perf_counter() - start) / done
        print(json.dumps({"step": step, "alone": None, "parameters": total}))
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # now and then a thread of gloo's aborts the process as it ends


def start(arguments: list[str], ranks: int, mpi: str | None, bound: bool) -> Any:
    """Run workers; return what the first printed."""
    from nnxp.benchmark import process

    environment = process.environment()
    environment["NNXP_BIND"] = "1" if bound else ""
    command = [sys.executable, __file__, "--worker", *arguments]
    if mpi:
        command = [mpi, "-n", str(ranks), *command]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        output, status, errors = done.stdout, done.returncode, done.stderr
    else:
        folder = tempfile.mkdtemp()
        processes = [
            subprocess.Popen(
                [*command, str(rank), str(ranks), f"{folder}/store"], env=environment,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for rank in range(ranks)
        ]  # fmt: skip
        outputs = [each.communicate() for each in processes]
        output, errors = outputs[0]
        status = max(abs(each.returncode) for each in processes)
    if status:
        sys.exit(f"scaling: a worker ended with {status}: {errors.strip().splitlines()[-1:]}")
    return json.loads(output.strip().splitlines()[-1])


def sum_seconds(size: float, ranks: int, bandwidth: float, latency: float) -> float:
    """The model of a ring: 2 (R - 1) messages of size / R bytes, one after the other."""
    return 2 * (ranks - 1) * (latency + size / ranks / bandwidth) if ranks > 1 else 0.0


def fit(points: list[tuple[float, float]]) -> tuple[float, float]:
    """Return (a, b) of y = a + b x with the least sum of squares of relative errors, a, b >= 0."""
    weights = [1 / y**2 for _, y in points]
    s = sum(weights)
    mx = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / s
    my = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / s
    over = sum(w * (x - mx) * (y - my) for w, (x, y) in zip(weights, points, strict=True))
    under = sum(w * (x - mx) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = max(0.0, over / under)
    return max(0.0, my - slope * mx), slope


def spread(values: list[float]) -> str:
    """Format a median and its extremes."""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> int:
    import arguments

    from nnxp import reports
    from nnxp.benchmark.workloads import select

    parser = arguments.parser(__doc__, "quick", "output", workload="", repeat=5, min_seconds=2.0)
    given = parser.parse_args()
    names = [each.name for each in select(filter(None, given.workload.split(",")), gpu=False)]
    rounds, seconds = (1, 0.05) if given.quick else (given.repeat, given.min_seconds)
    quick = ["quick"] if given.quick else ["full"]
    beside = Path(sys.executable).with_name("mpiexec")
    mpi = str(beside) if beside.exists() else "mpiexec"
    contenders = {
        "one process, all cores": ("one", 1, None, False),
        "one process, one core": ("one", 1, None, True),
        "two processes": ("many", 2, mpi, True),
        "two processes, DDP": ("ddp", 2, None, True),
    }
    found: dict[str, dict[str, list[Any]]] = {n: {c: [] for c in contenders} for n in names}
    for _ in range(rounds):
        for name in names:
            for contender, (kind, ranks, launcher, bound) in contenders.items():
                words = [kind, name, str(seconds), *quick]
                found[name][contender].append(start(words, ranks, launcher, bound))
    print(f"{reports.processor()}, {os.cpu_count()} cores, {rounds} rounds\n")
    print("| workload | contender | samples/s | over one process, all cores | step | alone | sum |")
    print("|---|---|--:|--:|--:|--:|--:|")
    for work in select(names, gpu=False):
        base = found[work.name]["one process, all cores"]
        for contender, results in found[work.name].items():
            ratios = [b["step"] / r["step"] for b, r in zip(base, results, strict=True)]
            step = median(each["step"] for each in results)
            alone = [each["alone"] for each in results if each["alone"]]
            told = ("", "")
            if alone:
                told = f"{1e6 * median(alone):.0f} us", f"{1e6 * (step - median(alone)):.0f} us"
            print(
                f"| {work.name} | {contender} | {work.batch_size / step:,.0f} | {spread(ratios)} "
                f"| {1e6 * step:.0f} us | {told[0]} | {told[1]} |"
            )
            for result, like in zip(results, base, strict=True):
                far = abs(result["parameters"] / like["parameters"] - 1)
                if far > 1e-5:
                    sys.exit(f"scaling: {contender} learns something else on {work.name}: {far:g}")
    for name in names:
        four = start(["many", name, "0.05", *quick], 4, mpi, False)
        far = abs(four["parameters"] / found[name]["one process, all cores"][0]["parameters"] - 1)
        if far > 1e-5:
            sys.exit(f"scaling: four processes learn something else on {name}: {far:g}")
    print(
        "\nFour processes end with the parameters of one (sum of |w| within 1e-5), all workloads."
    )
    model = print_model(names, seconds, quick, mpi)
    if given.output:
        given.output.write_text(json.dumps({"measured": found, "model": model}, indent=1))
    return 0


def print_model(names: list[str], seconds: float, quick: list[str], mpi: str) -> dict[str, Any]:
    """Fit and print the model; return what it was fitted to."""
    from nnxp.benchmark.workloads import select

    sums = [tuple(each) for each in start(["sums", "tiny", str(seconds), *quick], 2, mpi, True)]
    latency, slope = fit(sums)
    print(
        "\n**A model, not a measurement.** A step of R processes takes a + b B/R + "
        "2 (R - 1) (l + s/(R w)): a + b n is fitted to steps of n rows on one core here, s are the "
        "bytes of the gradients, l a message's latency and w the bandwidth. Nothing is hidden.\n"
    )
    print(
        f"Between two processes here, fitted to sums of {SIZES[0]} to {SIZES[-1]} bytes: "
        f"l = {1e6 * latency / 2:.1f} us, w = {1 / slope / 1e9:.2f} GB/s."
    )
    fitted: dict[str, Any] = {"sums": sums}
    for network, (bandwidth, wait) in NETWORKS.items():
        print(
            f"\nSpeed over one process of one core, {network}, l = {1e6 * wait:.0f} us (assumed):\n"
        )
        print("| workload | " + " | ".join(f"{ranks}" for ranks in MODEL_RANKS) + " |")
        print("|---|" + "--:|" * len(MODEL_RANKS))
        for work in select(names, gpu=False):
            if work.name not in fitted:
                fitted[work.name] = start(["rows", work.name, str(seconds), *quick], 1, None, True)
            a, b = fit([tuple(each) for each in fitted[work.name]])
            size = 4 * sum(weight.size + bias.size for weight, bias in work.parameters)
            one = a + b * work.batch_size
            row = []
            for ranks in MODEL_RANKS:
                if ranks > work.batch_size:
                    row.append("-")
                    continue
                step = a + b * work.batch_size / ranks + sum_seconds(size, ranks, bandwidth, wait)
                row.append(f"{one / step:.1f}")
            print(f"| {work.name} | " + " | ".join(row) + " |")
    return fitted


def worker(words: list[str]) -> None:
    """Run one worker in this process."""
    kind, name, seconds, size, *rest = words
    if kind == "ddp":
        if os.environ.get("NNXP_BIND"):
            bind(int(rest[0]))
        ddp_worker(name, float(seconds), size == "quick", int(rest[0]), int(rest[1]), rest[2])
        return
    if os.environ.get("NNXP_BIND"):
        bind(int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0"))))
    nnxp_worker(name, float(seconds), size == "quick", kind)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2:])
    else:
        import arguments

        arguments.run(main)
