"""Compares two benchmarks: how much faster each contender became, and what else differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from nnxp import files, options
from nnxp.benchmark.machine import BUSY
from nnxp.benchmark.measure import Result
from nnxp.benchmark.table import fitting, marked
from nnxp.errors import DataError, shown
from nnxp.metrics import format_count

LEGEND = (
    "ratio: samples per second of B divided by those of A, medians of the rounds; interval: where "
    "95 % of the ratios of {:,} resamplings of the rounds lie. Another run of the same may differ "
    "by more than its rounds do."
)
_RESAMPLINGS = 2000
_EXPENDABLE = ("A", "B", "B is", "interval")
_ALWAYS_OTHERS = ("date", "load", "busy_cores", "removed", "warning")
"""What `machine` says and this module says in other words, if at all."""


@dataclass
class Report:
    """A benchmark that was read from JSON."""

    name: str
    content: dict[str, Any]
    workloads: dict[str, dict[str, Any]]
    """By the name of a workload, or of a point of a sweep."""
    results: dict[tuple[str, str], Result]
    """By workload and contender."""


def read(path: str) -> Report:
    """Read what `nnxp bench --json` or bench/compare.py wrote.

    Raises:
        DataError: the file cannot be read, or is something else.
    """
    content = files.read_json(path, "'nnxp bench --json'")
    try:
        points = content.get("points") or [
            {
                "workload": workload,
                "results": [r for r in content["results"] if r["workload"] == workload["name"]],
            }
            for workload in content["workloads"]
        ]
        report = Report(path, content, {}, {})
        for point in points:
            name = f"{point['workload']['name']} {point.get('point', '')}".strip()
            report.workloads[name] = point["workload"]
            for stored in point["results"]:
                result = Result.from_dict(stored)
                # bench/compare.py calls nnxp's backends nnxp[numpy], nnxp[jax], ...
                contender = result.name.removeprefix("nnxp[").removesuffix("]")
                report.results[name, contender] = result
                times = [*result.step_seconds, *result.floor_seconds, result.batch_size]
                if not all(map(options.POSITIVE.accepts, times)):
                    raise ValueError
                result.describe.items()
        content["machine"].items()
        float(content["machine"].get("busy_cores") or 0)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: is not a report of 'nnxp bench --json'") from None
    return report


def ratios(a: Report, b: Report, width: int) -> tuple[Table | None, list[str]]:
    """Return a table of how much faster B is than A, and the columns that had no room in it.

    A row in doubt in either has a question mark.

    Args:
        a, b: the two benchmarks.
        width: columns of text that the table may take.
    """
    rows = []
    for key in _common(a, b):
        first, second = a.results[key], b.results[key]
        doubt = first.doubt or second.doubt
        ratio, low, high = interval(first, second)
        verdict = "faster" if low > 1 else "slower" if high < 1 else "unclear"
        rows.append(
            {
                "workload": key[0],
                "": key[1],
                "A": _speed(first),
                "B": _speed(second),
                "ratio": marked(f"{ratio:.2f}", doubt),
                "interval": f"{low:.2f}-{high:.2f}" if low < high else "-",
                "B is": "in doubt" if doubt else verdict if low < high else "-",
            }
        )
    if not rows:
        return None, []
    return fitting({name: [row[name] for row in rows] for name in rows[0]}, width, _EXPENDABLE)


def interval(a: Result, b: Result) -> tuple[float, float, float]:
    """Return the ratio of B's median speed to A's, and the ends of its 95 % bootstrap interval.

    Both ends are the ratio itself where either has one round.
    """
    times = [np.asarray(result.step_seconds) for result in (a, b)]
    ratio = float(np.median(times[0]) / np.median(times[1]))
    if min(map(len, times)) < 2:
        return ratio, ratio, ratio
    rng = np.random.default_rng(0)
    drawn = [rng.choice(each, (_RESAMPLINGS, len(each))) for each in times]
    medians = [np.median(each, axis=1) for each in drawn]
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    return ratio, float(low), float(high)


def differences(a: Report, b: Report) -> list[str]:
    """Return a line for each difference between the two besides their times."""
    lines = [*_machines(a, b), *_settings(a, b)]
    for key in a.workloads.keys() & b.workloads.keys():
        if a.workloads[key] != b.workloads[key]:
            lines += _unequal(f"{key}, ", a.workloads[key], b.workloads[key])
    for report, other, name in ((a, b, "A"), (b, a, "B")):
        if texts := _missing_in(other, report):
            lines.append(f"measured in {name} alone: {', '.join(texts)}")
    return lines


def legend() -> str:
    """Explain the columns of `ratios`."""
    return LEGEND.format(_RESAMPLINGS)


def _machines(a: Report, b: Report) -> Iterator[str]:
    first, second = a.content["machine"], b.content["machine"]
    for kind in ("quick", "data", "options"):
        yield from _unequal("", {kind: a.content.get(kind)}, {kind: b.content.get(kind)})
    kept = [
        {name: value for name, value in each.items() if name not in _ALWAYS_OTHERS}
        for each in (first, second)
    ]
    yield from _unequal("", *kept)
    for name, machine in (("A", first), ("B", second)):
        if (busy := float(machine.get("busy_cores") or 0)) >= BUSY:
            yield f"{name} was measured while other programs used {busy:.1f} cores"


def _settings(a: Report, b: Report) -> Iterator[str]:
    """Yield the differences between the libraries and settings of each contender, once each."""
    said = set()
    for key in _common(a, b):
        for line in _unequal(f"{key[1]}, ", a.results[key].describe, b.results[key].describe):
            if line not in said:
                said.add(line)
                yield line


def _unequal(place: str, a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    """Yield the entries of two dictionaries that differ, those of nested ones by themselves."""
    for name in dict.fromkeys([*a, *b]):
        first, second = a.get(name), b.get(name)
        if isinstance(first, dict) and isinstance(second, dict):
            yield from _unequal(f"{place}{name} ", first, second)
        elif _text(first) != _text(second):
            yield f"{place}{name}: {_text(first)} in A, {_text(second)} in B"


def _text(value: Any) -> str:
    return "not said" if value in (None, {}, [], "") else shown(value).strip("'")


def _timed(report: Report) -> list[tuple[str, str]]:
    return [key for key, result in report.results.items() if result.step_seconds]


def _missing_in(a: Report, b: Report) -> list[str]:
    """Name what only B has times of: whole workloads, whole contenders, then the rest."""
    ours, theirs = _timed(a), _timed(b)
    missing: dict[str, None] = {}
    for workload, contender in theirs:
        if workload not in {name for name, _ in ours}:
            missing[workload] = None
        elif contender not in {name for _, name in ours}:
            missing[contender] = None
        elif (workload, contender) not in ours:
            missing[f"{contender} on {workload}"] = None
    return list(missing)


def _common(a: Report, b: Report) -> list[tuple[str, str]]:
    """Return the workloads and contenders that both have times of, on equal workloads."""
    return [
        key for key in _timed(a) if key in _timed(b) and a.workloads[key[0]] == b.workloads[key[0]]
    ]


def _speed(result: Result) -> str:
    speed = result.samples_per_second
    assert speed is not None
    return format_count(speed.median)
