"""bench/fashion.py: scikit-learn beside nnxp."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

import nnxp

pytest.importorskip("sklearn")
ROOT = Path(__file__).parent.parent
sys.path.insert(1, str(ROOT / "bench"))  # after tests/: both have a conftest
spec = importlib.util.spec_from_file_location("fashion", ROOT / "bench" / "fashion.py")
fashion = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fashion)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # 30 epochs are few
def test_a_run_is_measured():
    found = fashion.measure("its defaults", 0, nnxp.datasets.load("digits"), max_iter=30)
    assert found["test"] > 0.8
    assert found["epochs"] <= 30


def test_the_table_has_the_median_the_least_and_the_best():
    runs = [
        {"settings": "its defaults", "seed": k, "seconds": 10.0 + k, "epochs": 20, "test": test}
        for k, test in enumerate((0.88, 0.87, 0.89))
    ]
    found = {"runs": runs, "version": "1.9", "processor": "a processor", "date": "2026-01-02"}
    lines = fashion.table(found).splitlines()
    assert lines[2] == "| its defaults | 3 | 0.8800 (0.8700 to 0.8900) | 20 | 11 |"
    assert lines[-1] == "scikit-learn 1.9 on a processor, 2026-01-02."


def test_the_pages_table_is_that_of_the_results():
    found = json.loads((ROOT / "bench" / "results" / "fashion.json").read_text())
    page = (ROOT / "docs" / "pages" / "accuracy.md").read_text()
    assert fashion.insert(page, fashion.table(found), fashion.BEGIN, fashion.END) == page
