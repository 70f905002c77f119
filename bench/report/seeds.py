"""How a figure differs between trainings with several seeds."""

import statistics
from collections.abc import Iterable


def spread(values: Iterable[float], form: str = ".4f") -> str:
    """Return "median (least to most)" of the values, each in the format `form`."""
    values = sorted(values)
    median = statistics.median(values)
    return f"{median:{form}} ({values[0]:{form}} to {values[-1]:{form}})"
