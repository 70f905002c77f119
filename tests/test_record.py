"""bench/record.py: a training that ends and goes on is one training, and its table."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest

import nnxp

ROOT = Path(__file__).parent.parent
sys.path.insert(1, str(ROOT / "bench"))  # after tests/: both have a conftest
spec = importlib.util.spec_from_file_location("record", ROOT / "bench" / "record.py")
record = importlib.util.module_from_spec(spec)
spec.loader.exec_module(record)


@pytest.fixture
def small(monkeypatch):
    """Small networks, for small digits."""
    monkeypatch.setitem(record.NETWORKS, 1, record.Published((16, 8), 5.0, 0.1))
    monkeypatch.setattr(record, "AUGMENT", ("rotate=5",))
    monkeypatch.setattr(record, "epochs_in", lambda *_: 4)
    return nnxp.datasets.load("digits"), nnxp.backends.get("numpy")


def test_a_training_that_was_stopped_goes_on_and_ends_as_one_that_was_not(small, tmp_path):
    data, backend = small
    whole = record.train(1, 0, 1.0, tmp_path / "whole", backend, data)
    assert len(whole["test_error"]) == len(whole["validation_error"]) == whole["epochs"] == 4
    for done in (1, 2):
        part = record.train(1, 0, 9.0, tmp_path / "parts", backend, data, time.monotonic())
        assert part["test_error"] == whole["test_error"][:done]
        assert f"| {done} of 4, not ended |" in record.table([part])
    rest = record.train(1, 0, 9.0, tmp_path / "parts", backend, data)
    same = ("test_error", "validation_error", "epochs", "sizes")
    assert [rest[name] for name in same] == [whole[name] for name in same]


def test_the_number_of_epochs_is_that_of_the_time(monkeypatch):
    data, backend = nnxp.datasets.load("digits"), nnxp.backends.get("numpy")
    monkeypatch.setattr(record, "AUGMENT", ("rotate=5",))
    few, many = (record.epochs_in(seconds, [64, 8, 10], backend, data) for seconds in (1e-9, 20))
    assert few == 1 < many


def run(number=1, seed=0, validation=(2.0, 1.0, 1.0), test=(1.5, 0.6, 0.7)):
    return {
        "network": number, "sizes": [784, 1000, 500, 10], "seed": seed, "backend": "numpy",
        "processor": "a processor", "augment": ["elastic", "rotate=9"],
        "epochs": 3, "minutes": 19.5,
        "validation_error": list(validation), "test_error": list(test),
    }  # fmt: skip


def test_the_table_chooses_the_epoch_by_validation_and_shows_the_others():
    lines = record.table([run(seed=1), run()]).splitlines()
    assert lines[2] == (
        "| 784-1000-500-10 | 0.49 %, 23.4 | `elastic rotate=9` | 0 | 3 | 19.5 | 0.70 % | "
        "0.70 % (epoch 3) | 0.60 % (epoch 2) |"
    )
    assert lines[-1] == (
        "On numpy, a processor. 784-1000-500-10 deformed by `elastic rotate=9`, last epoch: "
        "0.70 (0.70 to 0.70) % of 2 runs."
    )


def test_runs_with_other_deformations_do_not_share_a_median():
    other = {**run(test=(1.5, 0.6, 0.4)), "augment": ["elastic", "rotate=3"]}
    lines = record.table([run(seed=1), other, run()]).splitlines()
    assert ["`elastic rotate=3`" in line for line in lines[2:5]] == [True, False, False]
    assert lines[-1].endswith("by `elastic rotate=9`, last epoch: 0.70 (0.70 to 0.70) % of 2 runs.")


def test_the_pages_table_is_that_of_the_results():
    runs = json.loads((ROOT / "bench" / "results" / "record.json").read_text())
    page = (ROOT / "docs" / "pages" / "accuracy.md").read_text()
    assert record.insert(page, record.table(runs), record.BEGIN, record.END) == page
