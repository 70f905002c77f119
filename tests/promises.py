"""What nnxp promises, each by a short name, and what counts how often the tests try it.

A test shows a promise by `@pytest.mark.promise(name)`. It is one case, or as many as it runs in
`with cases(description):`, of which all run although some fail. `ci/reliability` makes the table in
`docs/pages/reliability.md` of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PROMISES = {
    "estimators": "The estimators pass scikit-learn's own checks.",
    "any library": "Every kernel runs on every array library and every strictness of the standard.",
    "no wait": "No step reads a value back from the device.",
    "gradients": "Gradients are those of central differences and of PyTorch's autograd.",
    "same result": "All backends compute the same, except for rounding.",
    "several processes": "Several processes train the network of one.",
    "stable": "Extreme numbers give finite results; what is not finite is named.",
    "honest": "A training that diverges ends within a chunk of steps, and names layer and step.",
    "resume": "A training that goes on from a checkpoint has the bits of one that never ended.",
    "whole files": "A file is its old content or its new content, never a part of it.",
    "one place": "Two runs that save to one place lose nothing.",
    "damage": "A damaged file is noticed.",
    "nothing runs": "Loading a file runs nothing that is in it.",
    "memory": "A small file cannot claim much memory.",
    "bad data": "A bad data file is an error of one line that names file and place.",
    "bad use": "A bad option, argument or place to write is an error of one line.",
    "fuzzing": "Random bytes raise the errors of nnxp, and no others.",
    "teeth": "The tests fail where the code is changed.",
    "properties": "Laws hold for inputs that are drawn at random.",
    "threads": "Trainings in several threads at once have the results of one after the other.",
}


class Cases:
    """Runs the cases of a test, and counts them."""

    def __init__(self) -> None:
        self.tried = 0
        self.failed: list[str] = []

    @contextmanager
    def __call__(self, description: object = "") -> Iterator[None]:
        """One case; if it fails, those after it run nevertheless, and the test fails at its end."""
        self.tried += 1
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:  # also of `pytest.raises`
            self.failed.append(f"{description}: {type(error).__name__}: {error}")
