"""What `ci/fuzz` finds, and the same parsers on a few random changes of good files."""

from pathlib import Path

import numpy as np
import pytest
from fuzzing import targets
from fuzzing.targets import TARGETS, run

import nnxp

FOUND = Path(__file__).parent / "fuzzing" / "found"


@pytest.mark.promise("fuzzing")
@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_raise_nnxps_errors_only(name, cases):
    seeds = TARGETS[name][1]()
    run(name, seeds[0])  # imports take longer than a parser may
    rng = np.random.default_rng(0)
    for path in sorted((FOUND / name).glob("*")):
        with cases(path.name):
            run(name, path.read_bytes())
    for number in range(25):
        data = bytearray(seeds[number % len(seeds)])
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(0, 256)
        end = len(data) if number % 3 else int(rng.integers(0, len(data)))
        with cases(bytes(data[:end])):
            run(name, bytes(data[:end]))


def test_a_changed_description_passes_the_checksum(tmp_path):
    """Otherwise nothing behind it would be fuzzed."""
    description = targets._description(targets._model())
    path = tmp_path / "model.safetensors"
    path.write_bytes(targets._described(targets._model(), description + b" "))
    nnxp.MLP.load(path)
    path.write_bytes(targets._described(targets._model(), description.replace(b"3", b"4")))
    with pytest.raises(nnxp.ModelError, match="not a model that nnxp can use"):
        nnxp.MLP.load(path)
