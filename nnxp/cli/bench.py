"""`nnxp bench`: the speed of each backend on this machine."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Any

import typer

from nnxp import backends, datasets, files, plots
from nnxp import options as rules
from nnxp.benchmark import compare, sweep, table
from nnxp.benchmark.backend import entry
from nnxp.benchmark.contender import Entry
from nnxp.benchmark.machine import disturbance, headline, kernels, machine
from nnxp.benchmark.measure import QUICK, Result, expected_seconds, measure
from nnxp.benchmark.plots import curves, dots
from nnxp.benchmark.workloads import WORKLOADS, Workload, select
from nnxp.cli import outputs
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
    compared: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare",
            metavar="A.json B.json",
            rich_help_panel=MEASUREMENT,
            help="Measure nothing, and say how much faster B is than A, two files of --json.",
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
    if compared:
        measuring = {
            "--workload": workload_names, "--sweep": axis, "--quick": quick, "--tf32": tf32,
            "--json": report, "--plot": plot,
        }  # fmt: skip
        _show_differences(*compared, [name for name, value in measuring.items() if value])
        return
    rules.whole(1)("--repeat", repeat)
    rules.number(0.0, 3600.0, closed="both")("--min-seconds", min_seconds)
    names = _backends(backend_names)
    workloads = _workloads(workload_names, device, data, axis)
    points = {} if axis is None else sweep.points(axis, workloads[0])
    entries = partial(_entries, names, device, tf32)
    plot = plot or (f"bench-{axis}.png" if axis else None)
    written = outputs.check({"--json": report, "--plot": plot}, [])
    if plot is not None:
        plots.check(plot)
    if data == "mnist":
        datasets.load("mnist")  # downloads now, once, or fails now
    options: dict[str, Any] = {"repeat": repeat, "min_seconds": min_seconds}
    if quick:
        options = QUICK
        workloads = [each.quick() for each in workloads]
        points = sweep.quick(points)
    with console.status("looking at the machine"):
        found = machine()
    content: dict[str, Any] = {"machine": found, "quick": quick, "data": data, "options": options}
    _say(disturbance(found), headline(found), *kernels(found), _SMOKE if quick else None)
    if not quick:
        _say(_duration(list(points.values()) or workloads, entries, options, device))
    with console.status("") as status:
        options = options | {"progress": status.update}
        if axis:
            figure = _sweep(axis, points, entries, options, content)
        else:
            figure = _compare(workloads, entries, options, content)
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    for path in (
        written.write("--json", lambda path: files.write(path, text.encode())),
        written.write("--plot", lambda path: plots.save(figure(), path)),
    ):
        if path is not None:
            console.print(f"saved {path}")
    written.end()


def _show_differences(first: str, second: str, measuring: list[str]) -> None:
    """Print how much faster the second report is than the first, and what else differs.

    Raises:
        InputError: other options are given, which say what to measure.
        DataError: a file is not a report.
    """
    if measuring:
        raise InputError(f"--compare measures nothing: leave out {', '.join(measuring)}")
    a, b = compare.read(first), compare.read(second)
    for name, each in (("A", a), ("B", b)):
        found = each.content["machine"]
        _say(f"{name}: {each.name}, {found.get('date', 'without a date')}")
    rows, left_out = compare.ratios(a, b, console.width)
    _say("")
    if rows:
        console.print(rows, soft_wrap=False)
        _say("", compare.legend())
    else:
        _say("no workload was measured in both on the same backend")
    lines = compare.differences(a, b)
    _say("", "what else differs:" if lines else "nothing else differs")
    _say(*(f"- {line}" for line in lines), _no_room(left_out))


def _duration(
    workloads: list[Workload],
    entries: Callable[[Workload], list[Entry]],
    options: dict[str, Any],
    device: str | None,
) -> str:
    """Say how long the measurement will take, in whole minutes."""
    flops = 2e11 if device in (None, "cpu") else 1e13
    seconds = 0.0
    for each in workloads:
        present = [one for one in entries(each) if _is_installed(one.name)]
        seconds += expected_seconds(each, len(present), flops=flops, **options)
    minutes = math.ceil(seconds / 60)
    return (
        f"This takes about {minutes} minute{'s' * (minutes > 1)} on an idle machine; --workload "
        "and --backends choose less."
    )


def _is_installed(backend: str) -> bool:
    """Return whether a backend's library can be found, without importing it."""
    library, _ = backends.parse(backend)
    return importlib.util.find_spec(library.replace("-", "_")) is not None


def _compare(
    workloads: list[Workload],
    entries: Callable[[Workload], list[Entry]],
    options: dict[str, Any],
    content: dict[str, Any],
) -> Callable[[], Any]:
    """Measure and print workload by workload; return a function that draws the picture."""
    results: list[Result] = []
    told = _Told()
    for each in workloads:
        present = [entry for entry in entries(each) if entry.name not in told.missing]
        found = measure(each, present, timeout=_timeout(each), **options) if present else []
        told.settings(found)
        rows, left_out = table.comparison(found, console.width)
        _say("", table.title(each))
        if rows:
            console.print(rows, soft_wrap=False)
        _say(*table.remarks(found))
        told.left_out |= dict.fromkeys(left_out)
        results += found
    _say("", table.LEGEND, told.end())
    content["workloads"] = [asdict(each) for each in workloads]
    content["results"] = [result.to_dict() for result in results]
    return lambda: dots(results, "Training, by backend", _caption(content))


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
    told = _Told()
    told.settings(found[next(iter(points))])
    title = table.title(first, varied=axis)
    _say("", f"{title}: samples per second")
    for rows in table.sweep_tables(axis, found, console.width):
        console.print(rows, soft_wrap=False)
    _say(*table.sweep_remarks(axis, found), told.end())
    content["sweep"] = axis
    content["points"] = sweep.to_list(points, found)
    return lambda: curves(axis, found, title, _caption(content))


class _Told:
    """What a run of the command has to say once: settings, warnings, libraries that are missing."""

    def __init__(self) -> None:
        self.lines: set[str] = set()
        self.missing: dict[str, str] = {}
        """By backend: what to do."""
        self.left_out: dict[str, None] = {}
        """The columns for which the terminal is too narrow."""

    def settings(self, results: list[Result]) -> None:
        """Print what affects the speed of each backend, where it differs from what was printed."""
        for result in results:
            if result.missing:
                self.missing[result.name] = result.problem or ""
            known = result.describe
            warning = known.get("warning") and f"warning: {result.name}: {known['warning']}"
            for line in (known and table.settings(result), warning):
                if line and line not in self.lines:
                    self.lines.add(line)
                    _say(line)

    def end(self) -> str | None:
        """Return what is said at the end, or None."""
        lines = [f"not measured: {problem}" for problem in self.missing.values()]
        lines += filter(None, [_no_room(self.left_out)])
        return "\n".join(lines) or None


def _no_room(columns: Iterable[str]) -> str | None:
    names = ", ".join(columns)
    return f"no room for: {names}; a wider terminal shows more" if names else None


def _caption(content: dict[str, Any]) -> str:
    return headline(content["machine"]) + (f"; {_SMOKE}" if content["quick"] else "")


def _say(*lines: str | None) -> None:
    """Print lines, broken between words at the terminal's width."""
    for line in lines:
        if line is not None:
            console.print(line, soft_wrap=False)


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
