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


def test_the_readme_has_no_figure_left_open():
    assert not re.findall(r"@[A-Z]", README.read_text())


PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/accuracy.md", "bench/README.md"]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    root = README.parent
    text = (root / page).read_text("utf-8")
    linked = [link for link in re.findall(r"\]\(([^):#]+)\)", text) if "//" not in link]
    named = re.findall(r"`(?:python )?((?:nnxp|tests|bench)/[\w/]+\.py|ci/\w+)", text)
    assert len(linked) + len(named) >= (15 if page == "README.md" else 1)
    for path in linked:
        assert ((root / page).parent / path).exists(), path
    for path in named:
        assert (root / path).exists(), path
