"""`--help`, completion and the version."""

import re
import sys
from itertools import pairwise

import pytest
import typer.main
from command_line import environment, succeed
from processes import completed

import nnxp
from nnxp import backends, datasets, optimizers, schedules
from nnxp.cli import COMMANDS, app
from nnxp.executors import EXECUTORS
from nnxp.history import MONITORS
from nnxp.initializers import INITIALIZERS
from nnxp.kernels import ACTIVATIONS
from nnxp.metrics import METRICS
from nnxp.objectives import LOSSES

PLOTS = ["activations", "history", "boundary", "confusion", "digits", "deformations", "weights"]
HELP = [*([name] for name in COMMANDS), *(["plot", name] for name in PLOTS), []]


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_every_command_has_help(tmp_path, words):
    text = succeed(tmp_path, *words, "--help", COLUMNS=200)
    assert " ".join(["nnxp", *words, "[OPTIONS]"]) in text
    assert text == succeed(tmp_path, *words, "-h", COLUMNS=200)
    assert "<bool>" not in text
    assert "<str>" not in text


def test_a_paragraph_of_help_fills_its_lines(tmp_path):
    """And does not keep those of the docstring, which is wider than a terminal."""
    lines = succeed(tmp_path, "evaluate", "--help", COLUMNS=80).split("╭")[0].splitlines()
    paragraph = [line.strip() for line in lines if line.strip()][2:]
    assert len(paragraph) > 2
    assert min(map(len, paragraph[:-1])) > 60


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_fills_the_width_and_shows_no_types(tmp_path, words, width):
    text = succeed(tmp_path, *words, "--help", COLUMNS=width)
    assert not re.search(r"<\w+>|…|TEXT", text)
    lines = [line.strip() for line in text.partition("\n╭")[0].splitlines()]
    for line, following in pairwise(lines):
        if line and following:  # of one paragraph
            assert len(line) + 1 + len(following.split()[0]) > width - 3, line
    assert max(map(len, text.splitlines())) <= width


def test_what_helps_with_an_option_is_a_phrase():
    commands = [typer.main.get_command(app())]
    for command in commands:  # which grows
        commands += getattr(command, "commands", {}).values()
        assert command.help.endswith((".", "torch", "torch,jax", "disagree"))
        for parameter in command.params:
            assert re.fullmatch(r"[A-Z].*[\w)}]\.", parameter.help, re.DOTALL), parameter.name
    assert len(commands) == 1 + len(COMMANDS) + len(PLOTS)


def test_the_options_of_training_are_in_panels(tmp_path):
    text = succeed(tmp_path, "train", "--help", COLUMNS=80)
    panels = re.findall(r"^╭─ (\w+) ─", text, re.MULTILINE)
    assert panels == [
        "Arguments", "Data", "Network", "Training", "Regularisation", "Device", "Output",
    ]  # fmt: skip
    assert max(map(len, text.splitlines())) <= 80


def test_help_names_all_that_can_be_chosen(tmp_path):
    text = succeed(tmp_path, "train", "--help", COLUMNS=1000)
    told = {line.split()[1]: line for line in text.splitlines() if line.startswith("│ --")}
    for option, names in {
        "--activation": ACTIVATIONS,
        "--output-activation": ACTIVATIONS,
        "--initializer": INITIALIZERS,
        "--loss": LOSSES,
        "--optimizer": optimizers.OPTIMIZERS,
        "--schedule": schedules.SCHEDULES,
        "--monitor": MONITORS,
        "--metric": METRICS,
        "--backend": backends.BACKENDS,
        "--preprocess": datasets.PREPROCESS,
        "--executor": [text for each in EXECUTORS for text in (each.name, each.summary)],
    }.items():
        for name in names:
            assert name in told[option]
    assert all(name in text for name in datasets.NAMES)


def test_a_command_imports_no_other_commands_files(tmp_path):
    code = "import sys; from nnxp import cli; cli.run(sys.argv[1:]); print(*sys.modules)"
    done = completed(
        [sys.executable, "-c", code, "train", "--epochs", "0"],
        cwd=tmp_path,
        env=environment(tmp_path),
        check=True,
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "nnxp.cli.train" in loaded
    assert not {"nnxp.cli.models", "nnxp.cli.bench", "nnxp.benchmark", "nnxp.plots"} & loaded


def test_the_version_is_printed(tmp_path):
    assert nnxp.__version__ in succeed(tmp_path, "--version")


@pytest.mark.parametrize(
    ("words", "offered"), [("nnxp tra", "train"), ("nnxp train --lear", "--learning-rate")]
)
def test_the_shell_completes_commands_and_options(tmp_path, words, offered):
    asked = {"_NNXP_COMPLETE": "complete_bash", "COMP_WORDS": words}
    done = completed(
        [sys.executable, "-c", "import sys; sys.argv = ['nnxp']; from nnxp import cli; cli.main()"],
        env=environment(tmp_path, COMP_CWORD=words.count(" "), **asked),
        cwd=tmp_path,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == ([offered], "")
    assert "--install-completion" in succeed(tmp_path, "--help")
