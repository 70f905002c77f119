"""Benchmarks: workloads, whoever trains them, and how they are timed against each other.

`measure` starts a process for each contender, compares their losses, and times them in turn.
`nnxp bench` is `nnxp.cli.bench`; `bench/peers` brings other libraries' contenders.
"""

from nnxp.benchmark.contender import Contender
from nnxp.benchmark.measure import Entry, Result, Spread, measure
from nnxp.benchmark.workloads import WORKLOADS, Workload, workload

__all__ = [
    "WORKLOADS",
    "Contender",
    "Entry",
    "Result",
    "Spread",
    "Workload",
    "measure",
    "workload",
]
