"""`nnxp bench`: the speed of each backend on this machine."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any

from nnxp import backends, datasets, files, plots
from nnxp import options as rules
from nnxp.benchmark import sweep, table
from nnxp.benchmark.backend import entry
from nnxp.benchmark.contender import Entry
from nnxp.benchmark.machine import headline, machine
from nnxp.benchmark.measure import QUICK, Result, measure
from nnxp.benchmark.plots import bars, curves
from nnxp.benchmark.workloads import WORKLOADS, Workload, select
from nnxp.cli.options import DEVICE, OUTPUT, either, flag, number, text, whole
from nnxp.cli.outputs import console
from nnxp.errors import InputError, unknown_name

_REFERENCE = "numpy"
_SMOKE = "smoke size: it shows that everything runs; the figures mean nothing"

MEASUREMENT = "Measurement"
"""A panel of `--help`."""


def bench(
    workload_names: Annotated[
        list[str] | None,
        text(
            MEASUREMENT,
            "NAME",
            f"Workload to train: {either(WORKLOADS)}; may be repeated. If not given: all but those "
            "for GPUs.",
            "--workload",
        ),
    ] = None,
    data: Annotated[
        str,
        text(
            MEASUREMENT,
            "NAME",
            "Data to train on: made (random) or mnist, which is read from $NNXP_DATA_DIR or "
            "downloaded.",
        ),
    ] = "made",
    repeat: Annotated[int, whole(MEASUREMENT, "Number of rounds; every backend runs in each.")] = 7,
    min_seconds: Annotated[
        float, number(MEASUREMENT, "Minimum seconds that a backend runs in a round.")
    ] = 0.3,
    axis: Annotated[
        str | None,
        text(
            MEASUREMENT,
            "NAME",
            "Size of one workload to vary: batch-size or width. Shows samples per second for each.",
            "--sweep",
        ),
    ] = None,
    quick: Annotated[
        bool,
        flag(
            MEASUREMENT,
            "Check in seconds that everything runs; the figures mean nothing.",
            "--quick",
        ),
    ] = False,
    backend_names: Annotated[
        str,
        text(
            DEVICE,
            "NAMES",
            "Backends to compare with numpy; torch:compiled names the executor too.",
            "--backends",
        ),
    ] = "numpy,cupy,torch,jax",
    device: Annotated[
        str | None,
        text(
            DEVICE,
            "NAME",
            "Device of all backends but numpy: cpu, cuda, cuda:1 or mps.",
            "--device",
            envvar="NNXP_DEVICE",
        ),
    ] = None,
    tf32: Annotated[
        bool,
        flag(
            DEVICE, "Compute float32 products in TF32 on backends that have it.", "--tf32/--no-tf32"
        ),
    ] = False,
    report: Annotated[
        str | None,
        text(OUTPUT, "FILE", "File for the figures of all rounds, as JSON.", "--json"),
    ] = None,
    plot: Annotated[
        str | None,
        text(
            OUTPUT,
            "FILE",
            "File for a picture. If not given: bench-SWEEP.png for a sweep, none otherwise.",
        ),
    ] = None,
) -> None:
    """Time training on every backend: nnxp bench --workload small --backends torch,jax."""
    rules.whole(1)("--repeat", repeat)
    rules.number(0.0, 3600.0, closed="both")("--min-seconds", min_seconds)
    names = _backends(backend_names)
    workloads = _workloads(workload_names, device, data, axis)
    points = sweep.points(axis, workloads[0]) if axis else {}
    entries = partial(_entries, names, device, tf32)
    plot = plot or (f"bench-{axis}.png" if axis else None)
    _check_outputs(report, plot)
    if data == "mnist":
        datasets.load("mnist")  # downloads now, once, or fails now
    options: dict[str, Any] = {"repeat": repeat, "min_seconds": min_seconds}
    if quick:
        options = QUICK
        workloads = [each.quick() for each in workloads]
        points = sweep.quick(points)
    found = machine()
    content: dict[str, Any] = {"machine": found, "quick": quick, "data": data, "options": options}
    _print(textwrap.fill(headline(found), table.WIDTH), *([_SMOKE] if quick else []))
    with console.status("") as status:
        options = options | {"progress": status.update}
        if axis:
            figure = _sweep(axis, points, entries, options, content)
        else:
            figure = _compare(workloads, entries, options, content)
    if report is not None:
        files.write(report, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
        _print(f"saved {report}")
    if plot is not None:
        plots.save(figure(), plot)
        _print(f"saved {plot}")


def _compare(
    workloads: list[Workload],
    entries: Callable[[Workload], list[Entry]],
    options: dict[str, Any],
    content: dict[str, Any],
) -> Callable[[], Any]:
    """Measure and print workload by workload; return a function that draws the picture."""
    results: list[Result] = []
    introduced: set[str] = set()
    for each in workloads:
        found = measure(each, entries(each), timeout=_timeout(each), **options)
        for result in found:
            if result.describe and result.name not in introduced:
                introduced.add(result.name)
                _print(table.settings(result))
        _print(f"\n{table.title(each)}", *table.lines(found))
        results += found
    _print("", *table.LEGEND)
    content["workloads"] = [asdict(each) for each in workloads]
    content["results"] = [result.to_dict() for result in results]
    return lambda: bars(results, _caption("Training, by backend", content))


def _sweep(
    axis: str,
    points: dict[int, Workload],
    entries: Callable[[Workload], list[Entry]],
    options: dict[str, Any],
    content: dict[str, Any],
) -> Callable[[], Any]:
    """Measure and print all points; return a function that draws the picture."""
    first = next(iter(points.values()))
    found = sweep.sweep(points, entries(first), timeout=_timeout(first), **options)
    for result in found[next(iter(points))]:
        if result.describe:
            _print(table.settings(result))
    title = table.title(first, varied=axis)
    _print("", textwrap.fill(f"{title}: samples per second", table.WIDTH))
    _print(*table.sweep_lines(axis, found))
    content["sweep"] = axis
    content["points"] = sweep.to_list(points, found)
    return lambda: curves(axis, found, _caption(title, content))


def _caption(title: str, content: dict[str, Any]) -> str:
    return f"{title}; {headline(content['machine'])}" + (f"; {_SMOKE}" if content["quick"] else "")


def _print(*lines: str) -> None:
    console.print("\n".join(lines))


def _backends(asked: str) -> list[str]:
    names = [name.strip().lower().replace("_", "-") for name in asked.split(",") if name.strip()]
    for name in names:
        library, _ = backends.parse(name)
        if library not in backends.BACKENDS:
            raise unknown_name("backend", library, backends.BACKENDS)
    if not names:
        raise InputError(f"--backends {asked!r}: names none of {', '.join(backends.BACKENDS)}")
    return list(dict.fromkeys(names))


def _entries(names: list[str], device: str | None, tf32: bool, workload: Workload) -> list[Entry]:
    """Put NumPy first, as the reference, unless it was not asked for and would take hours."""
    others = [name for name in names if name != _REFERENCE]
    wanted = _REFERENCE in names if workload.gpu and others else True
    return [entry(name, device, tf32) for name in ([_REFERENCE] if wanted else []) + others]


def _workloads(
    asked: list[str] | None, device: str | None, data: str, axis: str | None
) -> list[Workload]:
    names = [name.strip() for each in asked or [] for name in each.split(",") if name.strip()]
    cuda = device is not None and device.startswith("cuda")
    if axis and len(names) > 1:
        raise InputError(f"--sweep takes one --workload, not {', '.join(names)}")
    if not names and axis:
        names = ["small"]
    return [replace(each, source=data) for each in select(names, gpu=cuda)]


def _timeout(workload: Workload) -> float:
    """Return the seconds after which a backend is considered hung."""
    return 3600.0 if workload.gpu else 600.0


def _check_outputs(report: str | None, plot: str | None) -> None:
    for option, path in (("--json", report), ("--plot", plot)):
        if path is not None:
            files.check_writable(path, option)
    if plot is not None:
        plots.check(plot)
    if report and plot and os.path.realpath(report) == os.path.realpath(plot):
        raise InputError(f"--json {report}: --plot goes there too; name another file")
