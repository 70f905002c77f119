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


def test_every_file_that_the_readme_names_is_there():
    text = README.read_text()
    named = re.findall(r"\]\(([^):]+)\)", text) + re.findall(r"`(nnxp/[\w/]+\.py|ci/\w+)`", text)
    assert len(named) > 15
    for path in named:
        assert (README.parent / path).exists(), path
