"""Computes how much faster contenders are than others, from the JSON of bench/compare.py."""

from collections.abc import Iterable
from dataclasses import fields
from statistics import median
from typing import Any

from nnxp.benchmark import Result, Spread

OURS = "nnxp["
"""Prefix of the names of nnxp's own backends: nnxp[numpy], nnxp[jax], ..."""


def by_workload(content: dict[str, Any]) -> dict[str, list[Result]]:
    """Group all results by the workload's name; `content` is the JSON of compare.py."""
    found: dict[str, list[Result]] = {each["name"]: [] for each in content["workloads"]}
    for stored in content["results"]:
        found[stored["workload"]].append(result(stored))
    return found


def result(stored: dict[str, Any]) -> Result:
    """Make a `Result` from its JSON; the spreads are computed again."""
    return Result(**{field.name: stored[field.name] for field in fields(Result)})


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
    """Divide samples per second, round by round: above 1, the first is faster."""
    if not first or not second:
        return None
    pairs = zip(first.step_seconds, second.step_seconds, strict=True)
    return Spread.of([theirs / own for own, theirs in pairs])


def shown(spread: Spread | None) -> str:
    """Format the median, with a question mark if the rounds disagree."""
    return f"{spread.median:.2f}{'?' if disturbed(spread) else ''}" if spread else "-"


def disturbed(spread: Spread) -> bool:
    """Return whether the rounds differ more than twofold: another process took the processor."""
    return spread.high > 2 * spread.low
