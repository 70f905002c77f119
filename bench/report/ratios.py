"""Computes how much faster contenders are than others, from the JSON of bench/compare.py."""

from collections.abc import Iterable
from statistics import median
from typing import Any

from nnxp.benchmark import Result, Spread
from nnxp.benchmark.table import marked

OURS = "nnxp["
"""Prefix of the names of nnxp's own backends: nnxp[numpy], nnxp[jax], ..."""


def by_workload(content: dict[str, Any]) -> dict[str, list[Result]]:
    """Group all results by the workload's name; `content` is the JSON of compare.py."""
    found: dict[str, list[Result]] = {each["name"]: [] for each in content["workloads"]}
    for stored in content["results"]:
        found[stored["workload"]].append(Result.from_dict(stored))
    return found


def timed(results: Iterable[Result]) -> dict[str, Result]:
    """Return the results that have times, by name."""
    return {each.name: each for each in results if each.step_seconds}


def step_seconds(each: Result) -> float:
    """Return the median over the rounds of a step's seconds."""
    return median(each.step_seconds)


def fastest(results: Iterable[Result], ours: bool) -> Result | None:
    """Return the fastest of nnxp's own backends, or of the peers."""
    group = [each for each in results if each.name.startswith(OURS) == ours]
    return min(group, key=step_seconds, default=None)


def quotient(first: Result | None, second: Result | None) -> Spread | None:
    """Divide samples per second, round by round: above 1, the first is faster.

    Both are divided by the reference's in the same round where there is one, since one of them may
    have been measured again.
    """
    if not first or not second:
        return None
    if first.ratios and second.ratios:
        return Spread.of([a / b for a, b in zip(first.ratios, second.ratios, strict=True)])
    pairs = zip(first.step_seconds, second.step_seconds, strict=True)
    return Spread.of([theirs / own for own, theirs in pairs])


def shown(spread: Spread | None) -> str:
    """Format the median, with a question mark if the rounds disagree."""
    return marked(f"{spread.median:.2f}", spread.disturbed) if spread else "-"
