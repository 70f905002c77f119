"""What the README shows works."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README.read_text(), re.S))
def test_the_readmes_python_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert "accuracy" in first
    predicted, targets = re.findall(r"\[([\d ]+)\]", second)
    assert predicted == targets


def test_the_readme_names_every_activation_backend_and_data_set():
    from nnxp import backends, datasets
    from nnxp.kernels import ACTIVATIONS
    from nnxp.objectives import LOSSES

    text = README.read_text()
    for name in (*ACTIVATIONS, *LOSSES, *backends.BACKENDS):
        assert f"`{name}`" in text
    for name in datasets.NAMES:
        assert name in text.lower()


def test_the_executors_of_each_backend_and_device_are_those_of_the_registry():
    from nnxp import backends, executors

    text = README.read_text()
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (.+) \|.*\| (.+) \|$", text, re.MULTILINE)
    assert [backend for backend, _, _ in rows] == list(backends.BACKENDS)
    for backend, devices, cell in rows:
        on_cuda, _, elsewhere = cell.rpartition("; elsewhere ")
        for device in re.findall("`(.+?)`", devices):
            part = on_cuda if on_cuda and device.startswith("cuda") else elsewhere
            assert tuple(re.findall("`(.+?)`", part)) == executors.names(backend, device)
        assert on_cuda.startswith("on CUDA ") or not on_cuda


def test_the_readme_explains_each_executor_as_the_registry_does():
    from nnxp.executors import EXECUTORS

    _, _, text = README.read_text().partition("- `--executor` ")
    explained = re.findall(
        r"^  - `(\w+)`: ([^`]+?)\.$", text.partition("- `--tf32`")[0], re.MULTILINE
    )
    assert explained == [(each.name, each.summary) for each in EXECUTORS]


def test_the_readme_has_no_figure_left_open():
    assert not re.findall(r"@[A-Z]", README.read_text())


PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/accuracy.md", "bench/README.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    root = README.parent
    text = (root / page).read_text("utf-8")
    linked = [link for link in re.findall(r"\]\(([^):#]+)\)", text) if "//" not in link]
    named = re.findall(r"`(?:python )?((?:nnxp|tests|bench)/[\w/]+(?:\.py|/)|ci/\w+)", text)
    assert len(linked) + len(named) >= (15 if page == "README.md" else 1)
    for path in linked:
        assert ((root / page).parent / path).exists(), path
    for path in named:
        assert (root / path).exists(), path
