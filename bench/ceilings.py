"""Measures the most that a device can do: bytes copied and multiply-adds per second.

    python bench/ceilings.py                                    # NumPy, on the CPU
    python bench/ceilings.py --device cuda --libraries cupy,torch,jax --output ceilings.json

One large array is copied to another; bytes read and bytes written both count. Two square matrices
of random numbers (zeros are faster) are multiplied, in float32 and, on CUDA, in TF32. Results are
medians of several turns, each long enough to be timed, after a first that is not timed. A missing
library gets a row that says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np
from arguments import parser, restart_with_free_kernels, run
from contenders import failures
from report.gpu import ceilings
from report.mdtable import table
from report.writing import write_json

from nnxp import backends
from nnxp.benchmark import Spread
from nnxp.errors import first_line


@dataclass(frozen=True)
class Size:
    """How much is copied and multiplied, and for how long."""

    megabytes: int
    """Size of the array that is copied: larger than any cache."""
    rows: int
    """Rows of a square matrix: its products occupy the whole device."""
    turns: int
    turn_seconds: float


QUICK = Size(megabytes=1, rows=64, turns=2, turn_seconds=0.0)
CPU = Size(megabytes=256, rows=2048, turns=5, turn_seconds=0.1)
GPU = Size(megabytes=1024, rows=8192, turns=7, turn_seconds=0.1)


def measure(library: str, device: str, size: Size) -> dict[str, Any]:
    """Measure one library; return its version and rates, or its problem."""
    row: dict[str, Any] = {"library": library, "device": device}
    try:
        backend = backends.get(library, device)
        row |= {"version": backend.version, "device": backend.device_name}
        row["copy"] = copy(backend, size)
        row["float32"] = product(backend, size)
        if backend.has_tf32():
            row["tf32"] = product(backends.get(library, device, tf32=True), size)
    except Exception as error:  # a library may raise anything: the others are still measured
        row["problem"] = first_line(error)
    return row


def copy(backend: backends.Backend, size: Size) -> dict[str, float]:
    """Measure copying in GB/s, read and written."""
    source = backend.asarray(np.resize(numbers(512), size.megabytes * 2**18))
    target = backend.asarray(source, copy=True)

    def run() -> Any:
        if backend.name == "jax":  # its arrays cannot be written to
            return backend.xp.array(source, copy=True)
        target[...] = source
        return target

    return rate(backend, size, run, 2e-9 * size.megabytes * 2**20)


def product(backend: backends.Backend, size: Size) -> dict[str, float]:
    """Measure a matrix product in TFLOP/s: a multiplication and an addition count as two."""
    x, y = (backend.asarray(numbers(size.rows), copy=True) for _ in range(2))
    return rate(backend, size, lambda: x @ y, 2e-12 * size.rows**3)


def rate(
    backend: backends.Backend, size: Size, run: Callable[[], Any], amount: float
) -> dict[str, float]:
    """Time `run`, which does `amount`; return amount per second, the turns' median and extremes."""

    def turn(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            result = run()
        backend.synchronize(result)
        return time.perf_counter() - start

    with backend.active():
        turn(1)  # allocates, loads and compiles
        times = 1 + int(size.turn_seconds / turn(1))
        found = Spread.of([amount * times / turn(times) for _ in range(size.turns)])
    assert found is not None
    return asdict(found)


@cache
def numbers(rows: int) -> np.ndarray:
    """Draw a square matrix, float32."""
    return np.random.default_rng(0).standard_normal((rows, rows), dtype=np.float32)


def main() -> int:
    """Measure, print and write; return 1 if a library could not be measured."""
    command = parser(__doc__, "device", "quick", "output")
    command.add_argument("--libraries", default="numpy", help="backends, separated by commas")
    chosen = command.parse_args()
    restart_with_free_kernels()
    size = QUICK if chosen.quick else CPU if chosen.device == "cpu" else GPU
    found = [measure(name, chosen.device, size) for name in chosen.libraries.split(",")]
    if chosen.output:
        write_json(found, chosen.output)
    print("\n".join(table(ceilings(found))))
    return failures([{"name": row["library"]} | row for row in found])


if __name__ == "__main__":
    run(main)
