"""`nnxp plot`."""

import sys

import pytest
from command_line import environment, fail, succeed
from processes import completed


@pytest.mark.slow
def test_every_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    succeed(tmp_path, "train", "--epochs", 1, "--quiet", "--report", "report.json")
    succeed(tmp_path, "train", "moons", "--epochs", 1, "--quiet", "--save", "moons.safetensors")
    for arguments in (
        ["activations"],
        ["history", "report.json"],
        ["boundary", "moons.safetensors"],
        ["confusion", "model.safetensors", "digits"],
        ["digits", "model.safetensors", "digits"],
        ["deformations", "digits", "--augment", "elastic,sigma=1.5", "--augment", "rotate=9"],
        ["weights", "model.safetensors"],
    ):
        text = succeed(tmp_path, "plot", *arguments)
        assert text == f"saved {arguments[0]}.png\n"
        assert (tmp_path / f"{arguments[0]}.png").read_bytes().startswith(b"\x89PNG")


LITTLE_MEMORY = """
import resource, sys
from nnxp.__main__ import main

resource.setrlimit(resource.RLIMIT_DATA, (2**30, 2**30))
main()
"""


@pytest.mark.promise("memory")
@pytest.mark.skipif(sys.platform != "linux", reason="Linux's limit of memory")
@pytest.mark.parametrize(
    ("begins", "size", "says"),
    [
        ("", 2**40, "more than 100,000,000 bytes"),
        ("[" + "{}," * 2**20, 0, "more than 2,097,152 values"),
    ],
)
def test_a_report_that_claims_much_is_refused_in_little_memory(tmp_path, begins, size, says):
    """A terabyte that is not on the disk; a list of a million objects, which takes as much."""
    with open(tmp_path / "report.json", "w") as file:
        file.write(begins)
        file.truncate(size or None)
    command = [sys.executable, "-c", LITTLE_MEMORY, "plot", "history", "report.json"]
    done = completed(command, cwd=tmp_path, env=environment(tmp_path), timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"report.json: not JSON ({says}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["activations", "--save", "x.gif"], "x.gif: a picture is .png, .svg or .pdf"),
        (["activations", "--save", "nowhere/x.png"], "nowhere/x.png"),
        (["history", "nosuch.json"], "nosuch.json: No such file"),
        (["history", "broken.json"], "broken.json: not JSON"),
        (["history", "other.json"], "other.json: "),
        (["weights", "broken.json"], "broken.json: not an nnxp model"),
        (["weights", "broken.json", "--save", "broken.json"], "broken.json"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_one_line(tmp_path, arguments, says):
    pytest.importorskip("matplotlib")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    assert says in fail(tmp_path, "plot", *arguments)
