"""Compares the time to read tables with that of pandas' read_csv.

    python bench/tables.py                      # 100,000 rows of 20 columns, seven rounds
    python bench/tables.py --quick              # 2,000 rows, one round: that it runs

In each round, in turn: `pandas.read_csv`; the columns of the same file read by nnxp, with pyarrow
and line by line; and `nnxp.datasets.load`, which also splits, hashes, encodes and standardises. A
ratio is a time over that of pandas in the same round, its median and its extremes. The machine
should do nothing else.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import arguments
import numpy as np
import pandas as pd

from nnxp import datasets
from nnxp.datasets import csv_arrow
from nnxp.datasets.csv_files import CsvFile

COLUMNS = 20
CITIES = ("Amsterdam", "Berlin", "Oslo", "Paris")


def frames(rows: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield tables by name: of numbers alone, and of numbers, text and missing values."""
    rng = np.random.default_rng(0)
    numbers = pd.DataFrame(rng.standard_normal((rows, COLUMNS))).add_prefix("c")
    yield "numbers", numbers
    mixed = numbers.round(3)
    for i in range(5):
        mixed[f"c{i}"] = rng.choice(CITIES, rows)
        mixed.loc[rng.random(rows) < 0.1, f"c{i + 5}"] = np.nan
    yield "mixed", mixed


def read_columns(path: Path) -> Any:
    """Read the columns of a csv as `nnxp.datasets.load` does."""
    table = CsvFile(path)
    return table.read(table.header, ())


def read_by_lines(path: Path) -> Any:
    """Read the columns of a csv without pyarrow."""
    with mock.patch.object(csv_arrow, "available", return_value=False):
        return read_columns(path)


def load(path: Path) -> Any:
    """Load a csv, ready to train on."""
    mixed: dict[str, Any] = {"one_hot": True, "impute": "median"}
    return datasets.load(path, **(mixed if path.stem == "mixed" else {}))


CONTENDERS: dict[str, Callable[[Path], Any]] = {
    "pandas.read_csv": pd.read_csv,
    "columns, pyarrow": read_columns,
    "columns, by lines": read_by_lines,
    "datasets.load": load,
}


def measure(path: Path, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round, after one that is not counted."""
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for counted in range(rounds + 1):
        for name, read in CONTENDERS.items():
            start = time.perf_counter()
            read(path)
            if counted:
                found[name].append(time.perf_counter() - start)
    return found


def lines(table: str, found: dict[str, list[float]]) -> Iterator[str]:
    """Yield a line of Markdown for each contender."""
    pandas = found["pandas.read_csv"]
    for name, seconds in found.items():
        ratios = [mine / its for mine, its in zip(seconds, pandas, strict=True)]
        yield (
            f"| {table} | {name} | {1e3 * statistics.median(seconds):.0f} | "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |"
        )


def main() -> int:
    """Print the table; write the seconds as JSON where `--output` says."""
    chosen = arguments.parser(__doc__, "output", "quick", repeat=7).parse_args()
    rows, rounds = (2_000, 1) if chosen.quick else (100_000, chosen.repeat)
    print("| table | read by | ms | times pandas |\n|---|---|---|---|")
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for table, frame in frames(rows):
            path = Path(folder) / f"{table}.csv"
            frame.to_csv(path, index=False)
            results[table] = measure(path, rounds)
            print("\n".join(lines(table, results[table])))
    if chosen.output:
        chosen.output.write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    arguments.run(main)
