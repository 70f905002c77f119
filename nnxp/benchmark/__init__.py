"""Times training: workloads, the contenders that train them, and the comparison of both.

`measure` starts a process for each contender, compares their losses, and times them in turn.
`nnxp.cli.bench` is its command line; `bench/peers` adds contenders of other libraries.
"""

from nnxp.benchmark.contender import Contender, Entry
from nnxp.benchmark.measure import QUICK, Result, Spread, measure
from nnxp.benchmark.workloads import WORKLOADS, Workload, workload

__all__ = [
    "QUICK",
    "WORKLOADS",
    "Contender",
    "Entry",
    "Result",
    "Spread",
    "Workload",
    "measure",
    "workload",
]
