"""Files that are read and written: devices, JSON of any content, names that are taken, locks."""

import copy
import json
import os
import subprocess
import sys
import warnings
from contextlib import ExitStack

import pytest
from command_line import succeed

from nnxp import files, plots
from nnxp.benchmark import compare
from nnxp.errors import DataError, InputError, NnxpError

# --- reading


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/full"])
def test_a_device_is_no_file_to_read(device, tmp_path):
    if not os.path.exists(device):
        pytest.skip(f"there is no {device}")
    (tmp_path / "data.csv").symlink_to(device)
    for path in (device, tmp_path / "data.csv"):
        with pytest.raises(OSError, match="is a device, not a file"):
            files.read(path)


def test_a_pipe_may_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["bash", "-c", "echo hello > pipe"], cwd=tmp_path):
        assert files.read(tmp_path / "pipe") == b"hello\n"


STRANGE = (
    None, "x", [], {}, float("nan"), -1, 1e300, True, [[1]], {"a": 1}, 0, 10**400, "\x1b", "1",
)  # fmt: skip


def places(value, place=()):
    """The place of each value in nested ones; of a list, the first two."""
    yield place
    if isinstance(value, dict):
        for name in value:
            yield from places(value[name], (*place, name))
    elif isinstance(value, list):
        for i in range(min(2, len(value))):
            yield from places(value[i], (*place, i))


def changed(content, place, value):
    """A copy with another value at a place."""
    if not place:
        return value
    content = inner = copy.deepcopy(content)
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return content


def damaged(content):
    """A description, and the content with each value of it replaced by each strange one."""
    for place in places(content):
        for value in STRANGE:
            yield f"{place} {value!r:.20}", changed(content, place, value)


@pytest.fixture
def training_report(trained_digits):
    """The report of a training, with two epochs."""
    report = json.loads((trained_digits / "report.json").read_text())
    return report | {"history": report["history"][:2]}


@pytest.mark.slow
@pytest.mark.promise("bad data")
def test_a_report_of_any_content_is_drawn_or_refused(training_report, cases):
    pytest.importorskip("matplotlib")
    for label, report in damaged(training_report):
        with cases(label), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a loss of 1e300, drawn
            try:
                plots.history(report)
            except NnxpError as error:
                assert str(error).isprintable()  # noqa: PT017


@pytest.mark.slow
@pytest.mark.promise("bad data")
def test_a_benchmark_of_any_content_is_compared_or_refused(tmp_path, cases):
    options = ["--quick", "--backends", "numpy", "--workload", "small", "--json", "a.json"]
    succeed(tmp_path, "bench", *options)
    good, path = str(tmp_path / "a.json"), tmp_path / "b.json"
    for label, content in damaged(json.loads(files.read(good))):
        path.write_text(json.dumps(content))
        with cases(label):
            try:
                pair = compare.read(good), compare.read(str(path))
            except DataError as error:
                assert str(error).isprintable()  # noqa: PT017
                continue
            for a, b in (pair, pair[::-1]):
                compare.ratios(a, b, 80)
                list(compare.differences(a, b))


@pytest.mark.promise("bad data")
def test_json_that_is_cut_or_too_deep_is_refused(tmp_path, training_report, cases):
    path = tmp_path / "report.json"
    text = json.dumps(training_report)
    contents = {f"{end} bytes": text[:end] for end in range(len(text))}
    contents |= {"deep": "[" * 100_000, "not UTF-8": "\udcff", "words": "history"}
    for label, content in contents.items():
        path.write_bytes(content.encode(errors="surrogateescape"))
        with cases(label), pytest.raises(DataError, match=r"report\.json: not JSON \(.*'train'"):
            files.read_json(path, "'train'")


# --- places to write to


def test_a_free_name_has_the_first_number_that_is_free(tmp_path):
    path = tmp_path / "model.safetensors"
    assert files.free_name(path) == str(path)
    path.touch()
    (tmp_path / "model-2.safetensors").symlink_to("nowhere")
    assert files.free_name(path) == str(tmp_path / "model-3.safetensors")


@pytest.mark.promise("one place")
def test_a_file_is_claimed_if_it_is_as_it_was(tmp_path, cases):
    path = tmp_path / "file"
    for before in (None, b"first"):
        if before:
            path.write_bytes(before)
        since = files.stamp(path)
        with cases(f"{before} unchanged"), files.claimed(path, since) as found:
            assert found == str(path)
        files.write(path, b"first")  # the same content, of another run
        with cases(f"{before} replaced"), files.claimed(path, since) as found:
            assert found == str(tmp_path / "file-2")
        path.unlink()
    with cases("removed"), files.claimed(path, since) as found:
        assert found == str(path)
    assert os.listdir(tmp_path) == []


CLAIM = """
import sys, time
from nnxp import files
since = files.stamp(sys.argv[1])
print(flush=True)
sys.stdin.readline()
for i in range(20):
    with files.claimed(sys.argv[1], since) as path:
        open(path, "x").write("of one process")
"""


@pytest.mark.slow
@pytest.mark.promise("one place")
def test_processes_that_claim_a_name_at_once_get_one_each(tmp_path):
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", CLAIM, tmp_path / "file"], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, text=True,
                )
            )
            for _ in range(4)
        ]  # fmt: skip
        for process in processes:
            process.stdout.readline()
        for process in processes:
            process.stdin.write("\n")
            process.stdin.flush()
        assert [process.wait(30) for process in processes] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 80


def test_a_log_is_opened_by_one_process(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("before")
    with files.open_log(path) as log:
        with pytest.raises(InputError, match="another process writes to it"):
            files.open_log(path)
        log.write("line\n")
        assert path.read_text() == "line\n"
    files.open_log(path).close()


@pytest.mark.promise("bad use")
def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    files.check_folder(tmp_path / "new" / "folder", "--checkpoint")
    for folder, says in (
        ("", "--checkpoint '': name a folder"),
        (tmp_path / "file", "file: is no folder; name another"),
        (tmp_path / "file" / "in", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(InputError, match=says):
            files.check_folder(folder, "--checkpoint")
    assert os.listdir(tmp_path) == ["file"]
