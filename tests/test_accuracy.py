"""The table of bench/accuracy.py: its commands run, and making it anew changes nothing."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from test_datasets import write_mnist

ROOT = Path(__file__).parent.parent
sys.path.insert(1, str(ROOT / "bench"))  # after tests/: both have a conftest
spec = importlib.util.spec_from_file_location("accuracy", ROOT / "bench" / "accuracy.py")
accuracy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(accuracy)


def insert(text, generated):
    return accuracy.insert(text, generated, accuracy.BEGIN, accuracy.END)


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """200 images to train on and 20 to test on, all noise."""
    images = np.random.default_rng(0).integers(0, 256, (220, 28, 28), dtype=np.uint8)
    labels = np.arange(220) % 10
    write_mnist(tmp_path / "mnist", (images[:200], labels[:200], images[200:], labels[200:]))
    monkeypatch.setenv("NNXP_DATA_DIR", str(tmp_path))


def results(*seeds, name="a"):
    """Of one row, with a test accuracy of 0.96 at the first seed, and less at each one after."""
    runs = [
        {
            "row": name,
            "command": "nnxp train mnist --epochs 3",
            "seed": seed,
            "test_best": 0.96 - 0.01 * i,
            "test_at_best_validation": 0.9 - 0.01 * i,
            "test_last": 0.85 - 0.01 * i,
            "device": "cpu",
            "versions": {"nnxp": "1", "numpy": "2"},
        }
        for i, seed in enumerate(seeds)
    ]
    return {"date": "2026-01-02", "backend": "numpy", "runs": runs[::-1]}


@pytest.mark.slow
@pytest.mark.parametrize("name", accuracy.ROWS)
def test_a_rows_command_runs_and_its_accuracies_are_measured_after_each_epoch(small_mnist, name):
    run = accuracy.measure(name, 3, "numpy", ["--epochs=2"])
    assert len(run["test"]) == len(run["validation"]) == 2
    assert run["test_best"] == max(run["test"])
    assert run["test_last"] == run["test"][-1]
    best = run["validation"].index(max(run["validation"]))
    assert run["test_at_best_validation"] == run["test"][best]


def test_exactly_ten_thousand_digits_are_held_out_where_the_book_holds_them_out():
    for row in accuracy.ROWS.values():
        if row.book:
            assert round(60_000 * float(row.options.split("--validation ")[1].split()[0])) == 10_000


def test_the_books_rows_count_by_their_best_epoch_and_ours_by_the_last(monkeypatch):
    monkeypatch.setitem(accuracy.ROWS, "g", accuracy.ROWS["g"]._replace(goal=0.85))
    assert accuracy.reached("a", results(0, 1)["runs"]) == [0]
    assert accuracy.reached("g", results(0, 1)["runs"]) == [0]
    assert accuracy.reached("f", results(0, 1)["runs"]) == []


def test_the_table_shows_commands_figures_and_the_seeds_that_reached_the_goal():
    lines = accuracy.table(results(4, 5)).splitlines()
    assert lines[2] == (
        "| a | `nnxp train mnist --epochs 3` | 0.9542 | 0.9600, 0.9500 | 0.9000, 0.8900 | "
        "0.8500, 0.8400 | 4 |"
    )
    assert lines[-1] == (
        "Seeds 4, 5, in this order; backend numpy on cpu (nnxp 1, numpy 2), 2026-01-02."
    )
    assert "| goal 0.985 | 0.9600 | 0.9000 | 0.8500 | none |" in accuracy.table(
        results(4, name="g")
    )


def test_to_insert_the_table_twice_is_to_insert_it_once():
    text = f"before\n\n{accuracy.BEGIN}\nold\n{accuracy.END}\n\nafter\n"
    once = insert(text, accuracy.table(results(0)))
    assert insert(once, accuracy.table(results(0))) == once
    assert once.startswith("before\n\n<!--")
    assert once.endswith("-->\n\nafter\n")
    assert "old" not in once
    with pytest.raises(ValueError, match="found 0 places"):
        insert("no markers", "a table")


def test_the_pages_table_is_that_of_the_newest_results():
    newest = max((ROOT / "bench" / "results").glob("accuracy-*.json"))
    found = json.loads(newest.read_text())
    runs = accuracy.by_row(found["runs"])
    assert list(runs) == list(accuracy.ROWS)
    for name, row in accuracy.ROWS.items():
        assert {run["command"] for run in runs[name]} == {row.command}
        assert [run["seed"] for run in runs[name]] == [run["seed"] for run in runs["a"]]
    page = (ROOT / "docs" / "pages" / "accuracy.md").read_text()
    assert insert(page, accuracy.table(found)) == page


def test_quick_and_a_choice_of_rows_write_nothing(small_mnist, monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "ROOT", Path("no folder: to write there would fail"))
    for arguments in (["--quick", "--seeds", "1,2"], ["--rows", "h"]):
        monkeypatch.setattr(sys, "argv", ["accuracy.py", *arguments])
        accuracy.main()
    printed = capsys.readouterr().out
    assert "a, seed 2: test 0." in printed
    assert "h: 0.9750 missed" in printed


def test_all_rows_write_the_results_and_the_page(small_mnist, tmp_path, monkeypatch):
    (tmp_path / "bench" / "results").mkdir(parents=True)
    page = tmp_path / "docs" / "pages" / "accuracy.md"
    page.parent.mkdir(parents=True)
    page.write_text(f"{accuracy.BEGIN}\n{accuracy.END}\n")
    monkeypatch.setattr(accuracy, "ROOT", tmp_path)
    monkeypatch.setattr(accuracy, "ROWS", {"h": accuracy.ROWS["h"]})
    for seeds in ("0", "0,1", "1"):  # the second adds to the first, the third has nothing to do
        monkeypatch.setattr(sys, "argv", ["accuracy.py", "--seeds", seeds, "--resume"])
        accuracy.main()
    [path] = (tmp_path / "bench" / "results").iterdir()
    found = json.loads(path.read_text())
    assert [run["seed"] for run in found["runs"]] == [0, 1]
    assert accuracy.table(found) in page.read_text()
