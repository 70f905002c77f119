"""Formats a benchmark's results as lines of text, up to a hundred columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nnxp.benchmark.measure import Result, Spread
from nnxp.benchmark.workloads import Workload

WIDTH = 100
"""Columns of text, on a terminal or not."""
_HEADINGS = (
    "",
    "samples/s (min-max)",
    "step",
    "ratio",
    "floor",
    "/floor",
    "host",
    "device",
    "compile",
)
LEGEND = (
    "ratio: samples/s divided by the first backend's; floor: time of a step's bare matrix products",
    "in the same library; /floor: step divided by floor; host, device: peak memory beyond data,",
    "parameters and optimizer state, compilation included; compile: time of the first chunk minus",
    "that of a later one. Medians of the rounds.",
)


def title(workload: Workload, varied: str = "") -> str:
    """Describe the workload in one line; for a sweep, without the axis that is `varied`."""
    sizes = [str(size) for size in workload.sizes]
    if varied == "width":
        sizes[1:-1] = ["width"] * (len(sizes) - 2)
    batches = "" if varied == "batch-size" else f" in batches of {workload.batch_size}"
    data = "MNIST" if workload.source == "mnist" else "made data"
    return f"{workload.name}: {'-'.join(sizes)}{batches}, ReLU, cross-entropy, SGD, float32, {data}"


def settings(result: Result) -> str:
    """Describe the library and the settings that affect its speed, in one line."""
    known = result.describe
    parts = [str(known.get("dtype", ""))]
    if known.get("threads"):
        parts.append(f"{known['threads']} threads")
    if known.get("blas"):
        parts.append(str(known["blas"]))
    if "tf32" in known:
        parts.append(f"TF32 {'on' if known['tf32'] else 'off'}")
    parts += [f"{name} {known[name]}" for name in ("cuda", "driver", "gpu") if known.get(name)]
    library = f"{known.get('library', result.name)} {known.get('version', '')}".strip()
    if known.get("executor"):
        library += f" ({known['executor']})"
    return f"{library} on {known.get('device', 'cpu')}: {', '.join(filter(None, parts))}"


def lines(results: Sequence[Result]) -> list[str]:
    """Return a heading and a row per contender: the fastest first, those without times last."""
    timed = [result for result in results if result.step_seconds]
    timed.sort(key=lambda result: _median(result.step))
    table = [_HEADINGS, *map(_cells, timed)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    names = max(len(result.name) for result in results)
    widths[0] = max(widths[0], names)
    gap = "  " if sum(widths) + 2 * len(widths) - 2 <= WIDTH else " "
    found = [
        gap.join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in (table if timed else [])
    ]
    for result in results:
        remark = result.problem or result.note
        if remark:
            found += textwrap.wrap(
                f"{result.name.ljust(names)}  {remark}", WIDTH, subsequent_indent=" " * (names + 2)
            )
    return found


def sweep_lines(axis: str, points: dict[int, list[Result]]) -> list[str]:
    """Return a table of samples per second: a row per point, a column per contender."""
    names = list(dict.fromkeys(result.name for row in points.values() for result in row))
    width = max(9, *map(len, names))
    found = [f"{axis:>10}  " + "  ".join(name.rjust(width) for name in names)]
    for point, row in points.items():
        speeds = {result.name: result.samples_per_second for result in row}
        cells = [number(_median(speeds[n])) if speeds.get(n) else "-" for n in names]
        found.append(f"{point:>10}  " + "  ".join(cell.rjust(width) for cell in cells))
    for point, row in points.items():
        for result in row:
            if result.problem:
                remark = f"{result.name}, {axis} {point}: {result.problem}"
                found += textwrap.wrap(remark, WIDTH, subsequent_indent="  ")
    return found


def number(value: float) -> str:
    """Format with three digits: 937, 29.5k, 138k, 1.38M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return _digits(value / size) + unit
    return _digits(value)


def seconds(value: float) -> str:
    """Format with three digits: 68.5 us, 428 us, 63.1 ms, 1.20 s."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= 0.9995 * size:
            return f"{_digits(value / size)} {unit}"
    return f"{_digits(value * 1e6)} us"


def _cells(result: Result) -> tuple[str, ...]:
    speed, compiling = result.samples_per_second, result.compile_seconds
    return (
        result.name,
        f"{number(speed.median)} ({number(speed.low)}-{number(speed.high)})" if speed else "-",
        seconds(result.step.median) if result.step else "-",
        f"{result.ratio.median:.2f}" if result.ratio else "-",
        seconds(result.floor.median) if result.floor else "-",
        f"{result.step_to_floor.median:.2f}" if result.step_to_floor else "-",
        _megabytes(result.host_bytes),
        _megabytes(result.device_bytes),
        f"{compiling:.2f} s" if compiling is not None else "-",
    )


def _median(spread: Spread | None) -> float:
    return spread.median if spread else float("nan")


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{_digits(size / 1e6)} MB"


def _digits(value: float) -> str:
    """Format with three digits, at most two of them after the point."""
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"
