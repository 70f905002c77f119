"""What the README shows works."""

import re
from pathlib import Path

import pytest
from conftest import require
from processes import python

from nnxp import backends, callbacks, datasets, executors
from nnxp.kernels import ACTIVATIONS
from nnxp.metrics import METRICS
from nnxp.objectives import LOSSES
from nnxp.optimizers import OPTIMIZERS

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README.read_text(), re.S))
def test_the_readmes_python_runs(block, tmp_path, monkeypatch, capsys):
    if "from sklearn" in block:
        pytest.importorskip("sklearn", minversion="1.9")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert "accuracy" in first
    predicted, targets = re.findall(r"\[([\d ]+)\]", second)
    assert predicted == targets


def test_the_readmes_own_piece_passes_the_checks():
    require("array-api-strict")
    (block,) = re.findall(r"```py\n(.*?)```", README.read_text(), re.S)
    done = python(block)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_readme_names_every_activation_backend_and_data_set():
    text = README.read_text()
    for name in (*ACTIVATIONS, *LOSSES, *backends.BACKENDS):
        assert f"`{name}`" in text
    for name in datasets.NAMES:
        assert name in text.lower()


def rows(heading, page=README):
    """The rows of a page's table whose first heading this is, as lists of cells."""
    lines = iter(page.read_text("utf-8").splitlines())
    next(line for line in lines if line.strip().startswith(f"| {heading} |"))
    next(lines)
    for line in lines:
        if not line.strip().startswith("|"):
            return
        yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def names(cell):
    return re.findall(r"`([\w-]+)`", cell)


def test_the_readme_has_the_executors_of_every_backend():
    """Cells read "`a`, `b`", or "on CUDA `a`, `b`; elsewhere `b`"."""
    found = {}
    for backend, _, devices, _, executors_ in rows("backend"):
        (name,), (*first, rest) = names(backend), executors_.split("; ")
        for device in names(devices.replace(":", "-")):
            on_cuda = device.startswith("cuda") and first
            found[name, device] = tuple(names(first[0] if on_cuda else rest))
    assert {name for name, _ in found} == set(backends.BACKENDS)
    for (name, device), told in found.items():
        assert told == executors.names(name, device), (name, device)


def test_the_readme_says_what_each_executor_does():
    told = {names(name)[0]: summary for name, summary in rows("executor")}
    assert told == {each.name: each.summary for each in executors.EXECUTORS}


@pytest.mark.parametrize(
    ("heading", "pieces"),
    [
        ("activation", ACTIVATIONS),
        ("loss", LOSSES),
        ("optimizer", OPTIMIZERS),
        ("metric", METRICS),
        ("callback", sorted(set(callbacks.__all__) - {"Callback", "running"})),
    ],
)
def test_the_reference_has_a_line_for_each_name(heading, pieces):
    found = list(rows(heading, README.parent / "docs" / "pages" / "reference" / "names.md"))
    assert [names(cells[0]) for cells in found] == [[name] for name in pieces]
    for cells in found:
        assert len(cells) == 3 or any("\\" in cell for cell in cells)  # | is written \\|
        assert cells[1]


def test_the_readme_has_no_figure_left_open():
    assert not re.findall(r"@[A-Z]", README.read_text())


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/pages/accuracy.md",
    "docs/pages/reference/names.md",
    "docs/pages/guides/exchange.md",
    "bench/README.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    root = README.parent
    text = (root / page).read_text("utf-8")
    linked = [link for link in re.findall(r"\]\(([^):#]+)\)", text) if "//" not in link]
    files = r"(?:nnxp|tests|bench)/[\w/]+(?:\.py|/)|ci/\w+(?:\.py)?"
    named = re.findall(rf"`(?:python )?({files})", text)
    assert len(linked) + len(named) >= (15 if page == "README.md" else 1)
    drawn = "".join(path.read_text("utf-8") for path in (root / "docs" / "pictures").glob("*.py"))
    for path in linked:
        picture = re.fullmatch(r"(?:\.\./)*pictures/(\w+)\.svg", path)  # made with the site
        there = (root / page).parent / path
        assert f"def {picture[1]}()" in drawn if picture else there.exists(), path
    for path in named:
        assert (root / path).exists(), path
