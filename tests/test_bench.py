"""bench/: the peers' names, and the tables made from what was measured."""

import importlib.util
import json
import re
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from nnxp.benchmark import WORKLOADS, Result

BENCH = Path(__file__).parent.parent / "bench"
MACHINE = {
    "date": "2026-01-31T12:00:00+00:00",
    "cpu": "A CPU",
    "cores": 2,
    "load": [0.5, 0.5, 0.5],
    "system": "Linux",
    "python": "3.11",
    "nnxp": "1.0",
    "gpus": [],
}


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, BENCH / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


markers = load("bench_markers", "markers.py")
report = load("bench_report", "report.py")
PEERS = load("bench_peers", "peers/__init__.py").PEERS


def result(name, *seconds, **more):
    ratios = [1e-4 / each for each in seconds]
    return Result(name, "tiny", 10, step_seconds=list(seconds), ratios=ratios, **more)


@pytest.fixture
def content():
    """Of one workload, as JSON gives it back."""
    results = [
        result("nnxp[numpy]", 1e-4, 1e-4, 1e-4, floor_seconds=[5e-5, 5e-5, 4e-5]),
        result("nnxp[jax]", 5e-5, 4e-5, 5e-5, describe={"library": "jax", "version": "1.2"}),
        result("PyTorch", 3e-4, 2e-4, 3e-4, note="eager"),
        result("JAX jit + scan", 1e-4, 1e-4, 8e-5, verdict="not comparable"),
        result("Thinc", problem="ModuleNotFoundError: No module named 'thinc' | or so"),
    ]
    content = {
        "machine": MACHINE,
        "quick": False,
        "options": {"repeat": 3},
        "workloads": [asdict(WORKLOADS["tiny"])],
        "results": [each.to_dict() for each in results],
    }
    return json.loads(json.dumps(content))


def rows(text):
    """The cells of every row of every table, by the first cell."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {first: rest for first, *rest in cells}


def test_ratios_are_medians_of_what_was_measured_in_the_same_round(content):
    # By hand, nnxp[jax] and JAX jit + scan: 2, 2.5 and 1.6.
    best = "2.00 (nnxp[jax] / JAX jit + scan)"
    assert rows(report.markdown(content))["tiny"] == [best, "3.00", "2.00", "-", "-", "2.00"]


def test_contenders_come_fastest_first_and_the_missing_last(content):
    found = rows(report.markdown(content))
    assert list(found)[3:] == ["nnxp[jax]", "nnxp[numpy]", "JAX jit + scan", "PyTorch", "Thinc"]
    assert found["nnxp[jax]"] == ["200k (200k to 250k)", "50.0 us", "2.00", ""]
    assert found["PyTorch"] == ["33.3k (33.3k to 50.0k)", "300 us", "0.33", "eager"]
    assert found["JAX jit + scan"][-1] == "loss not compared"
    problem = r"ModuleNotFoundError: No module named 'thinc' \| or so"
    assert found["Thinc"] == ["-", "-", "-", problem]


def test_what_was_disturbed_is_marked(content):
    results = [result("nnxp[numpy]", *[1e-4] * 3), result("PyTorch", 2e-4, 3e-2, 2e-4)]
    found = rows(report.markdown(content | {"results": [each.to_dict() for each in results]}))
    assert found["tiny"][1] == "2.00?"
    assert found["PyTorch"][2:] == ["0.50?", "disturbed: its rounds differ more than twofold"]
    assert found["nnxp[numpy]"][-1] == ""


def test_machine_libraries_and_a_trial_are_said(content):
    text = report.markdown(content)
    assert text.startswith("A CPU, 2 cores, load 0.5, Linux, Python 3.11, nnxp 1.0, 2026-01-31;")
    assert "- nnxp[jax]: jax 1.2 on cpu" in text
    assert "mean nothing" not in text
    assert "mean nothing" in report.markdown(content | {"quick": True})


def test_the_tables_take_the_place_of_the_old_and_nothing_else(content):
    readme = (BENCH / "README.md").read_text("utf-8")
    once = markers.insert(readme, report.markdown(content), report.BEGIN, report.END)
    assert markers.insert(once, report.markdown(content), report.BEGIN, report.END) == once
    before, after = readme.split(report.BEGIN)[0], readme.split(report.END)[1]
    assert once.startswith(before)
    assert once.endswith(after)
    with pytest.raises(ValueError, match="found 0 places"):
        markers.insert("no markers", "", report.BEGIN, report.END)


def test_the_readme_has_the_tables_of_a_report_that_is_kept():
    generated = (BENCH / "README.md").read_text("utf-8").split(report.BEGIN)[1]
    generated = generated.split(report.END)[0].strip()
    paths = [path for path in (BENCH / "results").glob("*.json") if "accuracy" not in path.name]
    kept = [json.loads(path.read_text("utf-8")) for path in paths]
    assert generated in ([report.markdown(each) for each in kept] or [""])


def test_every_peer_is_listed_by_its_file_and_has_one_name():
    files = {path.stem for path in (BENCH / "peers").glob("*.py")} - {"__init__"}
    assert set(PEERS) == files
    for file, peer in PEERS.items():
        module, _, kind = peer.contender.partition(":")
        assert module == f"peers.{file}"
        source = (BENCH / "peers" / f"{file}.py").read_text("utf-8")
        assert f"class {kind}" in source
        assert f'    name = "{peer.name}"\n' in source
