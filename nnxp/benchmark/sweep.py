"""Measures throughput against batch size, or against the hidden layers' width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from nnxp.benchmark.contender import Entry
from nnxp.benchmark.measure import Result, measure
from nnxp.benchmark.workloads import Workload
from nnxp.errors import InputError, unknown_name

BATCH_SIZES = tuple(2**k for k in range(13))
WIDTHS = tuple(2**k for k in range(4, 12))
AXES = {"batch-size": BATCH_SIZES, "width": WIDTHS}
"""The values of each axis."""
_CHUNK_SAMPLES = 16_384


def points(axis: str, workload: Workload) -> dict[int, Workload]:
    """Return the workload at every point of the axis.

    Args:
        axis: "batch-size", or "width", the width of all hidden layers.
        workload: what to vary.

    Raises:
        InputError: the axis is unknown, or the workload has no hidden layer.
    """
    if axis not in AXES:
        raise unknown_name("sweep", axis, AXES)
    if axis == "batch-size":
        return {
            size: replace(
                workload, batch_size=size, chunk=max(1, min(workload.chunk, _CHUNK_SAMPLES // size))
            )
            for size in BATCH_SIZES
        }
    first, *hidden, last = workload.sizes
    if not hidden:
        raise InputError(f"workload {workload.name} has no hidden layer to vary")
    return {
        width: replace(workload, sizes=(first, *(width for _ in hidden), last)) for width in WIDTHS
    }


def sweep(
    workloads: dict[int, Workload],
    entries: Sequence[Entry],
    *,
    progress: Callable[[str], Any] = lambda text: None,
    **options: Any,
) -> dict[int, list[Result]]:
    """Measure every point, without floors.

    A contender that has no time at a point is not started at later points, since a library that
    is missing is missing at all of them.

    Args:
        workloads: the workload of each point; see `points`.
        entries: see `measure`.
        progress: called with a description of each next step.
        options: more arguments of `measure`.
    """
    results = {}
    for point, workload in workloads.items():

        def say(text: str, point: int = point) -> None:
            progress(f"{point}, {text}")

        found = measure(workload, entries, floor=False, progress=say, **options)
        timed = {result.name for result in found if result.step_seconds}
        entries = [entry for entry in entries if entry.name in timed]
        results[point] = found
    return results
