"""`nnxp plot`."""

import pytest
from command_line import fail, succeed


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
        ["weights", "model.safetensors"],
    ):
        text = succeed(tmp_path, "plot", *arguments)
        assert text == f"saved {arguments[0]}.png\n"
        assert (tmp_path / f"{arguments[0]}.png").read_bytes().startswith(b"\x89PNG")


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
