"""Every example runs on its own, and prints what it promises."""

import runpy
import sys
from pathlib import Path

import pytest
from processes import completed

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
SLOW = ("pictures", "regularization")
ON_ITS_OWN = ("grid_search_on_dask",)  # its workers import the script that was started
PROMISES = {
    "perceptron": ["AND         6", "XOR: the weights after epoch 3", "no hyperplane"],
    "gradient_descent": ["batch         1437", "stochastic       1   0.01    7,185"],
    "quadratic_and_cross_entropy": ["0.982  0.976", "0.015  0.012\n", "saved costs.png"],
    "pictures": ["saved pictures/activations.png", "saved pictures/weights.png"],
    "why_networks_fail": [
        "nothing is wrong",
        "relu units are dead",
        "gradients vanish",
        "the loss is nan in epoch 1",
    ],
    "gradient_check": [
        "layers.0.weight   48 compared, relative error 8.2e-01  WRONG",
        "e-09  passed",
    ],
    "regularization": [
        "nothing                 0.9",  # of the labels, wrong ones too
        *(f"{way}   with 3 of 3 seeds" for way in ("0.83", "0.79", "0.84")),
        "saved regularization.png",
    ],
    "faster_learning": ["normal weights                      19.6", "cosine,warmup=2"],
    "grid_search_on_dask": [
        "2 workers, ",
        "hidden_layer_sizes=(64,)     accuracy 0.9",
        "other digits: 0.9",
    ],
    "linear_algebra": ["order  8   rank  8", "PCA", "ZCA"],
}


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(path, marks=pytest.mark.slow) if path.stem in SLOW else path
        for path in EXAMPLES
        if path.stem not in ON_ITS_OWN
    ],
    ids=lambda path: path.stem,
)
def test_an_example_shows_what_it_promises(example, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(example), "numpy"])
    runpy.run_path(str(example), run_name="__main__")
    printed, errors = capsys.readouterr()
    assert errors == ""
    for promise in PROMISES[example.stem]:
        assert promise in printed
    assert 15 <= len(example.read_text().splitlines()) <= 60


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_on_its_own_and_on_another_backend(example, tmp_path):
    if example.stem == "grid_search_on_dask":
        pytest.importorskip("distributed")
    done = completed(
        [sys.executable, "-W", "error", example, "array-api-strict"],
        cwd=tmp_path,
        check=True,
        timeout=300,
    )
    assert done.stderr == ""
    for promise in PROMISES[example.stem]:
        assert promise in done.stdout
