"""Who is how much faster than whom, of what bench/compare.py measured."""

from collections.abc import Iterable
from dataclasses import fields
from statistics import median
from typing import Any

from nnxp.benchmark import Result, Spread

OURS = "nnxp["
"""What the names of nnxp's own backends begin with: nnxp[numpy], nnxp[jax], ..."""


def by_workload(content: dict[str, Any]) -> dict[str, list[Result]]:
    """Everybody's results, by the workload's name; `content` is compare.py's JSON."""
    found: dict[str, list[Result]] = {each["name"]: [] for each in content["workloads"]}
    for stored in content["results"]:
        found[stored["workload"]].append(result(stored))
    return found


def result(stored: dict[str, Any]) -> Result:
    """As JSON has it: what can be computed of it is."""
    return Result(**{field.name: stored[field.name] for field in fields(Result)})


def timed(results: Iterable[Result]) -> dict[str, Result]:
    """By name, those that have times."""
    return {each.name: each for each in results if each.step_seconds}


def step_seconds(each: Result) -> float:
    """Of a step, the rounds' median."""
    return median(each.step_seconds)


def fastest(results: Iterable[Result], ours: bool) -> Result | None:
    """Among nnxp's own backends, or among the peers."""
    group = [each for each in results if each.name.startswith(OURS) == ours]
    return min(group, key=step_seconds, default=None)


def quotient(first: Result | None, second: Result | None) -> Spread | None:
    """Of samples per second, round by round: above 1, the first is faster."""
    if not first or not second:
        return None
    pairs = zip(first.step_seconds, second.step_seconds, strict=True)
    return Spread.of([theirs / own for own, theirs in pairs])


def shown(spread: Spread | None) -> str:
    """The median, with a question mark where the rounds disagree."""
    return f"{spread.median:.2f}{'?' if disturbed(spread) else ''}" if spread else "-"


def disturbed(spread: Spread) -> bool:
    """Whether something else took the processor: threads that spin then stand still for long."""
    return spread.high > 2 * spread.low
