"""Formats a benchmark's results as tables, and what there is to say about them as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from nnxp.benchmark.measure import Result, Spread
from nnxp.benchmark.workloads import Workload
from nnxp.metrics import format_count, three_digits

LEGEND = (
    "Medians of the rounds. ratio: samples per second divided by the first backend's; floor: time "
    "of a step's bare matrix products in the same library; memory: the peak beyond data, "
    "parameters and optimizer state, compilation included; compile: time of the first chunk minus "
    "that of a later one; ?: something disturbed this row, do not trust it."
)
_HEADINGS = {
    "samples/s": "samples\nper s",
    "min-max": "slowest-\nfastest",
    "step/floor": "step/\nfloor",
    "host": "host\nmemory",
    "device": "device\nmemory",
}
"""Headings of two lines, for columns whose cells are narrow."""
_TEXTS = ("", "workload", "B is")
"""Columns that hold words and not figures; that of contenders has no heading."""
_EXPENDABLE = ("compile", "device", "host", "floor", "step", "min-max", "step/floor")
"""Columns that are left out where there is no room, the first first."""


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
        parts.append(f"{known['threads']} thread{'s' * (known['threads'] > 1)}")
    if known.get("blas"):
        kernels = f" with {known['kernels']} kernels" if known.get("kernels") else ""
        parts.append(f"{known['blas']}{kernels}")
    if "tf32" in known:
        parts.append(f"TF32 {'on' if known['tf32'] else 'off'}")
    parts += [f"{name} {known[name]}" for name in ("cuda", "driver", "gpu") if known.get(name)]
    library = f"{known.get('library', result.name)} {known.get('version', '')}".strip()
    if known.get("executor"):
        library += f" ({known['executor']})"
    return f"{library} on {known.get('device', 'cpu')}: {', '.join(filter(None, parts))}"


def comparison(results: Sequence[Result], width: int) -> tuple[Table | None, list[str]]:
    """Return a table with a row per contender that has times, the fastest first.

    Args:
        results: of one workload.
        width: columns of text that the table may take.

    Returns:
        The table, None if nothing was timed, and the columns that had no room in it.
    """
    timed = [result for result in results if result.step_seconds]
    timed.sort(key=lambda result: _median(result.step))
    cells = [_cells(result) for result in timed]
    if not cells:
        return None, []
    columns = {name: [row[name] for row in cells] for name in cells[0]}
    columns = {name: column for name, column in columns.items() if {*column} != {"-"}}
    return fitting(columns, width, _EXPENDABLE)


def fitting(
    columns: dict[str, list[str]], width: int, expendable: Sequence[str]
) -> tuple[Table, list[str]]:
    """Return a table that is as wide as its text, and the columns that had no room in it.

    Args:
        columns: the cells below each heading.
        width: columns of text that the table may take.
        expendable: headings that are left out where there is no room, the first first.
    """
    left_out: list[str] = []
    for name in expendable:
        if name in columns and _width(columns, 1) > width:
            del columns[name]
            left_out.append(name)
    return _table(columns, 2 if _width(columns, 2) <= width else 1), left_out


def remarks(results: Iterable[Result]) -> list[str]:
    """Return a line for each contender whose times are doubtful or missing, or that has a note.

    Libraries that are missing are not among them: they are missing for every workload.
    """
    lines = []
    for result in results:
        if result.missing:
            continue
        said = []
        if result.doubt:
            again = ", also when measured again" if result.repeated else ""
            said.append(f"? {result.doubt}{again}")
        elif result.repeated:
            said.append(f"measured again because of {result.repeated}")
        said += [text for text in (result.problem or result.note,) if text]
        if said:
            lines.append(f"{result.name}: {'; '.join(said)}")
    return lines


def sweep_tables(axis: str, points: dict[int, list[Result]], width: int) -> list[Table]:
    """Return a table of samples per second, a row per point and a column per contender.

    Args:
        axis: what was swept.
        points: by size.
        width: columns of text that a table may take: contenders without room go into another.
    """
    names = dict.fromkeys(
        result.name for row in points.values() for result in row if not result.missing
    )
    sizes = {axis: [str(point) for point in points]}
    tables = [dict(sizes)]
    for name in names:
        found = [next((each for each in row if each.name == name), None) for row in points.values()]
        column = {name: [_speed(each) if each else "-" for each in found]}
        if len(tables[-1]) > 1 and _width(tables[-1] | column, 2) > width:
            tables.append(dict(sizes))
        tables[-1] |= column
    return [_table(columns, 2) for columns in tables]


def sweep_remarks(axis: str, points: dict[int, list[Result]]) -> list[str]:
    """Return `remarks` on each point of a sweep."""
    return [f"{axis} {point}, {line}" for point, row in points.items() for line in remarks(row)]


def seconds(value: float) -> str:
    """Format with three digits: 68.5 us, 428 us, 63.1 ms, 1.20 s."""
    for size, unit in ((1.0, "s"), (1e-3, "ms")):
        if value >= 0.9995 * size:
            return f"{three_digits(value / size)} {unit}"
    return f"{three_digits(value * 1e6)} us"


def marked(text: str, doubt: object) -> str:
    """Put a question mark after a figure that is in doubt."""
    return f"{text}?" if doubt else text


def ratio(result: Result) -> str:
    """Format the ratio to the reference, marked if this row or the reference is in doubt."""
    found = result.ratio
    return marked(f"{found.median:.2f}", result.doubt or found.disturbed) if found else "-"


def _cells(result: Result) -> dict[str, str]:
    speed, compiling = result.samples_per_second, result.compile_seconds
    return {
        "": result.name,
        "samples/s": _speed(result),
        "min-max": f"{format_count(speed.low)}-{format_count(speed.high)}" if speed else "-",
        "step": seconds(result.step.median) if result.step else "-",
        "ratio": ratio(result),
        "floor": seconds(result.floor.median) if result.floor else "-",
        "step/floor": f"{result.step_to_floor.median:.2f}" if result.step_to_floor else "-",
        "host": _megabytes(result.host_bytes),
        "device": _megabytes(result.device_bytes),
        "compile": f"{compiling:.2f} s" if compiling is not None else "-",
    }


def _speed(result: Result) -> str:
    speed = result.samples_per_second
    return marked(format_count(speed.median), result.doubt) if speed else "-"


def _heading(name: str) -> str:
    return _HEADINGS.get(name, name)


def _table(columns: dict[str, list[str]], gap: int) -> Table:
    """Return a table that is as wide as its text."""
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0))
    for name in columns:
        table.add_column(
            _heading(name), justify="left" if name in _TEXTS else "right", no_wrap=True
        )
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _width(columns: dict[str, list[str]], gap: int) -> int:
    widths = [
        max(map(len, (*_heading(name).split("\n"), *texts))) for name, texts in columns.items()
    ]
    return sum(widths) + gap * (len(widths) - 1)


def _median(spread: Spread | None) -> float:
    return spread.median if spread else float("nan")


def _megabytes(size: int | None) -> str:
    return "-" if size is None else f"{three_digits(size / 1e6)} MB"
