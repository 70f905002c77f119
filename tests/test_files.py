"""Files that are read and written: devices, JSON of any content, names that are taken, locks."""

import copy
import json
import os
import subprocess
import sys
import warnings
from contextlib import ExitStack

import pytest
from command_line import environment, fail, run_process, succeed
from processes import completed

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
    for label, report in cases.drawn(damaged(training_report), 8):
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
    contents = {f"{end} bytes": text[:end] for end in range(0, len(text), 17)}
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


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="the system lists no open files")
def test_no_file_stays_open(tmp_path):
    """A handle that stays holds its lock, too."""
    before = os.listdir("/proc/self/fd")
    path = tmp_path / "file"
    (tmp_path / ".nnxp-abcd1234").touch()  # as a killed process leaves it
    files.write(path, b"")
    files.make_folder(tmp_path / "new" / "folder")
    with files.claimed(path, files.stamp(path)):
        pass
    taken = pytest.raises(InputError, match="another training")
    with files.held(tmp_path), taken, files.held(tmp_path):
        pass
    with files.open_log(path), pytest.raises(InputError, match="another process"):
        files.open_log(path)
    with pytest.raises(OSError, match="is a device"):
        files.read("/dev/null")
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert sorted(os.listdir(tmp_path)) == ["file", "new"]


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


# --- Windows and macOS, as far as this machine can stand for them


@pytest.fixture
def windows(monkeypatch):
    """No locks, no names for open files, no folders that open."""
    monkeypatch.setattr(files, "_WINDOWS", True)
    monkeypatch.setattr(files, "_fcntl", None)
    monkeypatch.setattr(files, "_FOLDS_CASE", True)
    monkeypatch.setattr(files, "_PAUSE", 0.0)
    monkeypatch.setattr("tempfile._O_TMPFILE_WORKS", False, raising=False)  # opens a folder
    opened, replace = os.open, os.replace

    def open_(path, flags, *mode, **options):
        assert not os.path.isdir(path), "Windows cannot open folders"
        return opened(path, flags, *mode, **options)

    def replace_(source, target):
        names = [os.path.realpath(f"/proc/self/fd/{i}") for i in os.listdir("/proc/self/fd")]
        assert os.path.realpath(source) not in names, "Windows cannot rename an open file"
        replace(source, target)

    monkeypatch.setattr(os, "open", open_)
    if os.path.isdir("/proc/self/fd"):
        monkeypatch.setattr(os, "replace", replace_)


def test_files_are_written_as_on_windows(tmp_path, windows):
    path = tmp_path / "file"
    for content in (b"first", b"second\n"):
        files.write(path, content)
        assert files.read(path) == content
        files.check_writable(path, "--save")
    with files.claimed(path, files.stamp(path)) as found:
        assert found == str(path)
    with files.claimed(path, None) as found:
        assert found == str(tmp_path / "file-2")
    with files.open_log(tmp_path / "log") as log:
        log.write("line\n")
    assert files.read(tmp_path / "log") == b"line\n"
    assert files.is_same(tmp_path / "NEW", tmp_path / "new")
    assert sorted(os.listdir(tmp_path)) == ["file", "log"]


@pytest.mark.promise("one place")
def test_a_folder_is_held_as_on_windows(tmp_path, windows):
    taken = pytest.raises(InputError, match="another training saves there now")
    with files.held(tmp_path), taken, files.held(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.promise("whole files")
@pytest.mark.parametrize("refusals", [2, 1000])
def test_a_file_that_is_open_elsewhere_on_windows_is_replaced_later(
    tmp_path, windows, monkeypatch, refusals
):
    path, replace, left = tmp_path / "file", os.replace, [refusals]
    files.write(path, b"old")

    def refuse(source, target):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(13, "Access is denied", source, 5, target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    if refusals < 20:
        files.write(path, b"new")
    else:
        with pytest.raises(PermissionError) as error:
            files.write(path, b"new")
        assert error.value.filename == str(path)
        assert left == [refusals - 20]
    assert files.read(path) == (b"new" if refusals < 20 else b"old")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.promise("whole files")
@pytest.mark.parametrize("refuses", [False, True])
def test_on_macos_the_disk_itself_is_asked_to_write(tmp_path, monkeypatch, refuses):
    calls = []

    class FullSync:
        F_FULLFSYNC = 51

        @staticmethod
        def fcntl(handle, number):
            calls.append(number)
            if refuses:
                raise OSError(45, "Operation not supported")

        def __getattr__(self, name):
            return getattr(fcntl, name)

    fcntl, sync = pytest.importorskip("fcntl"), os.fsync
    monkeypatch.setattr(files, "_fcntl", FullSync())
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), sync(handle)))
    files.write(tmp_path / "file", b"content")
    # The last is the folder's.
    assert calls == ([51, "fsync", "fsync"] if refuses else [51, "fsync"])
    assert files.read(tmp_path / "file") == b"content"


ELSEWHERE = """
import os, signal, sys, warnings
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "posix_ipc"):
    sys.modules[name] = None
for module, names in (
    (os, ("sched_getaffinity", "killpg", "getloadavg", "fork", "forkpty", "O_NOFOLLOW", "geteuid",
          "getuid", "mkfifo", "O_CLOEXEC")),
    (signal, ("SIGKILL", "SIGHUP", "SIGPIPE", "SIGXFSZ", "SIGALRM", "setitimer")),
):
    for name in names:
        vars(module).pop(name, None)
warnings.filterwarnings("ignore", category=EncodingWarning)  # of other packages
warnings.filterwarnings("ignore", "only soft file lock")  # filelock's, for JAX
warnings.filterwarnings("error", category=EncodingWarning, module="nnxp")
from nnxp import files
files._WINDOWS = True
from nnxp.cli import main
sys.argv[0] = "nnxp"
main()
"""

COMMANDS = (
    "train moons --epochs 2 --hidden 3 --report r.json --csv-log log.csv --checkpoint runs --plot "
    "p.png --tensorboard logs",
    "train moons --epochs 2 --hidden 3 --resume runs",
    "evaluate model.safetensors moons", "predict model.safetensors moons --output p.csv",
    "describe model.safetensors", "plot history r.json", "gradcheck", "backends", "export "
    "model.safetensors model.onnx", "bench --quick --workload small --backends numpy --json b.json",
)  # fmt: skip


@pytest.mark.slow
def test_commands_need_nothing_that_windows_has_not(tmp_path, cases):
    """Nor do they open text files in the encoding of the country."""
    pytest.importorskip("tensorboard")
    pytest.importorskip("ndonnx")
    for words in COMMANDS:
        with cases(words):
            done = completed(
                [sys.executable, "-X", "warn_default_encoding", "-c", ELSEWHERE, *words.split()],
                cwd=tmp_path,
                env=environment(tmp_path),
                timeout=120,
            )
            assert done.returncode == 0, done.stderr
            assert done.stderr == ""


TRAIN_IN_PROCESSES = """
import multiprocessing, sys
import numpy as np
import nnxp

def train(seed):
    network = nnxp.MLP([3, 4, 2], seed=seed)
    nnxp.train(network, np.eye(3), [0, 1, 0], epochs=2, batch_size=2, seed=seed)
    return network.parameters[0][0].tolist()

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert pool.map(train, range(4)) == list(map(train, range(4)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_train_that_are_started_as_on_windows_and_macos(tmp_path, method):
    (tmp_path / "main.py").write_text(TRAIN_IN_PROCESSES)
    done = completed(
        [sys.executable, "main.py", method], cwd=tmp_path, env=environment(tmp_path), timeout=120
    )
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.slow
@pytest.mark.promise("bad use")
def test_an_output_of_another_encoding_loses_no_training_and_changes_no_prediction(tmp_path):
    """Pipes have the country's encoding on Windows, without the letters of others."""
    (tmp_path / "data.csv").write_text("größe,y\n" + "1,д\n2,ж\n" * 20, encoding="utf-8")
    ascii_ = {"PYTHONIOENCODING": "ascii", "run": run_process}
    printed = succeed(tmp_path, "train", "data.csv", "--epochs", 1, "--save", "m", **ascii_)
    assert r"gr\xf6\xdfe" in printed
    line = fail(tmp_path, "predict", "m", "data.csv", **ascii_)
    assert "standard output takes ascii, which has no" in line
    assert "--output" in line
    printed = succeed(tmp_path, "predict", "m", "data.csv")
    assert printed.startswith("prediction,д,ж\n")
