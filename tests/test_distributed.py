"""Training in several processes, which mpiexec starts: the result of one; one line for errors."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import distributed_training
import numpy as np
import pytest
from command_line import MOON_CSV, environment, fail, run_process, succeed
from conftest import require
from processes import completed, started, until

import nnxp
from nnxp import resuming
from nnxp.arrays import to_numpy
from nnxp.data.feeds import Resident
from nnxp.distributed import BatchShare
from nnxp.kernels import dropout_mask

ENGINES = ["numpy", "array-api-strict", "torch", "jax", "cupy"]
WORKER = Path(__file__).with_name("distributed_training.py")


def mpiexec():
    """The launcher of the MPI that mpi4py uses."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    try:
        from mpi4py import MPI  # noqa: F401
    except ImportError:
        found = None
    if found is None:
        if "mpi" in os.environ.get("NNXP_REQUIRE", "").split(","):
            pytest.fail("NNXP_REQUIRE names mpi, and mpi4py or its mpiexec is missing")
        pytest.skip("mpi4py or its mpiexec is not installed")
    return found


def start(processes, *arguments, folder, timeout=120, **variables):
    """Run `python ARGUMENTS` in several processes."""
    command = [mpiexec(), "-n", str(processes), sys.executable, *map(str, arguments)]
    root = str(Path(nnxp.__file__).parents[1])
    return completed(
        command, cwd=folder, env=environment(folder, PYTHONPATH=root, **variables), timeout=timeout
    )


def launcher(processes):
    """A `run` for `succeed` and `fail`: the command line in several processes."""

    def run(folder, *arguments, **variables):
        return start(processes, "-m", "nnxp", *arguments, folder=folder, **variables)

    return run


@pytest.mark.promise("several processes")
@pytest.mark.parametrize(
    ("backend", "processes"),
    [("numpy", 2), pytest.param("numpy", 3, marks=pytest.mark.slow)]
    + [pytest.param(name, 2, marks=pytest.mark.slow) for name in ENGINES[1:]],
)
def test_several_processes_train_the_network_of_one(backend, processes, tmp_path, cases):
    require(backend)
    done = start(processes, WORKER, backend, folder=tmp_path, JAX_ENABLE_X64=1, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == {*distributed_training.cases(backend), "resumed in one process"}
    # The emulated CUDA has no NCCL.
    without_nccl = "steps run eagerly: gradients are added in the host's memory, without NCCL"
    for name, (distance, fallbacks) in found.items():
        with cases(name):
            assert distance <= (1e-4 if "float32" in name else 1e-10)
            assert fallbacks == [] or (backend == "cupy" and fallbacks == [without_nccl])


def test_the_command_says_which_processes_train(tmp_path):
    words = ["train", "moons", "--backend", "numpy", "--epochs", "2", "--batch-size", "9", "-v"]
    printed = succeed(tmp_path, *words, run=launcher(2))
    assert printed.count("2 processes on this machine, by ") == 1
    assert "each takes 5 of 9 rows of a step" in printed
    assert printed.count("saved model.safetensors") == 1
    one = succeed(tmp_path, *words, "--save", "one.safetensors", run=run_process)
    rows = [line.split()[:4] for line in printed.splitlines() if line.strip()[:1].isdigit()]
    assert [row for row in rows if len(row) == 4][-2:] == [
        line.split()[:4] for line in one.splitlines() if line.strip()[:1].isdigit()
    ][-2:]
    networks = [nnxp.MLP.load(tmp_path / name) for name in ("model.safetensors", "one.safetensors")]
    for ours, theirs in zip(networks[0].parameters, networks[1].parameters, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--batch-size", "1"], "batches of 1 rows are too small for 2 processes"),
        pytest.param(["--epochz", "1"], "No such option: --epochz", marks=pytest.mark.slow),
        pytest.param(["--find-rate"], "--find-rate tries rates in one", marks=pytest.mark.slow),
        pytest.param(["--learning-rate", "1e30"], "the loss is", marks=pytest.mark.slow),
        pytest.param(["--save", "no/folder/m"], "no/folder", marks=pytest.mark.slow),
    ],
)
def test_an_error_on_all_is_one_line(tmp_path, options, line):
    words = ["train", "moons", "--backend", "numpy", "--epochs", "2", *options]
    status = 1 if "1e30" in options else 2
    assert line in fail(tmp_path, *words, run=launcher(2), status=status)


@pytest.mark.parametrize(
    ("other", "line"),
    [
        (["b.csv"], "process 1 was given another x than process 0"),
        *(
            pytest.param(words, line, marks=pytest.mark.slow)
            for words, line in (
                (["missing.csv"], "missing.csv: No such file or directory"),
                (["a.csv", "--batch-size", "16"], "another batch size than process 0 (16, not 32)"),
                (["a.csv", "--hidden", "7"], "another network than process 0"),
                (["a.csv", "--optimizer", "adam"], "process 1 was given another"),
            )
        ),
    ],
)
def test_what_one_process_is_given_otherwise_ends_all(tmp_path, other, line):
    (tmp_path / "a.csv").write_text(MOON_CSV)
    (tmp_path / "b.csv").write_text(MOON_CSV.rpartition("\n0.")[0] + "\n")
    base = [sys.executable, "-m", "nnxp", "train"]
    ours, theirs = [*base, "a.csv", "--backend", "numpy"], [*base, *other, "--backend", "numpy"]
    started = time.monotonic()
    done = completed(
        [mpiexec(), "-n", "1", *ours, ":", "-n", "1", *theirs],
        cwd=tmp_path,
        env=environment(tmp_path, PYTHONPATH=Path(nnxp.__file__).parents[1]),
        timeout=60,
    )
    lines = [each for each in done.stderr.splitlines() if each.startswith("nnxp: ")]
    assert len(lines) == 1, done.stderr
    assert line in lines[0]
    assert "Traceback" not in done.stderr
    assert done.returncode != 0
    assert time.monotonic() - started < 30
    assert not (tmp_path / "model.safetensors").exists()


def test_a_launcher_without_mpi4py_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    line = fail(tmp_path, "train", "moons", PMI_SIZE=4, PMI_RANK=0)
    assert 'needs mpi4py: pip install "nnxp[mpi]"' in line
    assert "a training in 4 processes" in line


@pytest.mark.slow
def test_a_launcher_of_another_mpi_is_no_silent_training_for_each(tmp_path):
    mpiexec()
    line = fail(tmp_path, "train", "moons", run=run_process, OMPI_COMM_WORLD_SIZE=4)
    assert "Open MPI's mpiexec started 4 processes, and mpi4py sees 1" in line


def test_a_missing_launcher_is_named(tmp_path):
    assert "--distributed: this is one process; start several, mpiexec -n" in fail(
        tmp_path, "train", "moons", "--distributed"
    )


def test_without_a_launcher_a_world_is_one_process(caplog):
    caplog.set_level("INFO", "nnxp")
    assert nnxp.distributed.world() is nnxp.distributed.ALONE
    assert "no launcher started others" in caplog.text


KILLED = """
    import os, signal, sys
    import numpy as np
    import nnxp

    world = nnxp.distributed.world()
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2000, 8)), rng.integers(0, 3, 2000)

    class Dies(nnxp.Callback):
        def __call__(self, network, history):
            if len(history.epochs) == 3 and world.rank == 1:
                {what}

    network = nnxp.MLP([8, 16, 3], backend="numpy")
    nnxp.train(
        network, x, t, epochs=1000, batch_size=20, callbacks=[Dies()], distributed=world,
        checkpoint=nnxp.Checkpoints("saved", 7),
    )
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "KILLED BY SIGNAL: 9|Killed (signal 9)"),
        pytest.param('raise OSError("no more")', "OSError: no more", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_dies_ends_all_and_leaves_a_whole_checkpoint(tmp_path, what, told):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(KILLED).format(what=what))
    started = time.monotonic()
    done = start(2, script, folder=tmp_path)
    assert time.monotonic() - started < 30
    assert done.returncode != 0
    assert any(each in done.stderr + done.stdout for each in told.split("|")), done.stderr
    _, model, snapshot = resuming.load(tmp_path / "saved")
    assert snapshot.history.steps >= 7
    assert len(model.parameters) == 2


STUCK = """
    import time
    import numpy as np
    import nnxp
    from nnxp.distributed import mpi_world

    mpi_world.PATIENCE = 1.0
    world = nnxp.distributed.world()
    with world.together():
        if world.rank == 1:
            raise nnxp.InputError("rank 1 cannot go on")
        communicator = world.communicator(nnxp.backends.get("numpy"))
        communicator.all_reduce([[np.zeros(3)]])
"""


@pytest.mark.slow
def test_a_process_that_fails_within_a_step_of_others_ends_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(STUCK))
    done = start(2, script, folder=tmp_path, timeout=30)
    assert done.returncode != 0
    assert done.stderr.count("nnxp: process 1: rank 1 cannot go on") == 1


@pytest.mark.skipif(os.name == "nt", reason="no program sends SIGTERM there")
@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_a_signal_to_one_process_ends_all_after_the_same_step(tmp_path, number):
    words = ["train", "moons", "--backend", "numpy", "--epochs", "100000", "--checkpoint", "saved"]
    command = [mpiexec(), "-n", "2", sys.executable, "-m", "nnxp", *words, "--quiet"]
    with started(
        command, cwd=tmp_path, env=environment(tmp_path, PYTHONPATH=Path(nnxp.__file__).parents[1]),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        until(lambda: any((tmp_path / "saved").glob("*.safetensors")), process)
        os.kill(second_rank(tmp_path), number)
        _, errors = process.communicate(timeout=30)
    lines = [line for line in errors.splitlines() if line.startswith("nnxp: ")]
    assert len(lines) == 1, errors
    assert "to go on, give the same command with --resume saved" in lines[0]
    assert process.returncode == 128 + number
    _, _, snapshot = resuming.load(tmp_path / "saved")
    assert snapshot.history.epochs


def second_rank(folder):
    """The number of the process of rank 1 that works in a folder."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            if b"PMI_RANK=1" in variables and os.readlink(entry / "cwd") == str(folder):
                return int(entry.name)
        except OSError:
            continue
    pytest.skip("the processes cannot be listed here")


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8, 13])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_parts_of_all_ranks_are_the_batch(batch_size, size):
    rows = np.arange(100, 100 + 2 * batch_size).reshape(2, batch_size)
    found = []
    for rank in range(size):
        share = BatchShare(rank, size, is_uneven=True)
        part = share.of(rows)
        assert part.shape == (2, share.rows(batch_size))
        weights = share.weights(np.zeros((part.shape[1], 3)), np.asarray(float(batch_size)))
        found.append(part[:, weights[:, 0] == 1])
        fraction = share.fraction(part.shape[1], [np.asarray(float(batch_size))])
        assert fraction == part.shape[1] / batch_size
    np.testing.assert_array_equal(np.concatenate(found, axis=1), rows)


def test_a_part_of_a_mask_is_a_part_of_the_whole(library):
    step = library.asarray(np.asarray(5, dtype=np.int32))
    whole = dropout_mask(library.asarray(np.ones((7, 3))), 0.4, 1, step, 2)
    part = dropout_mask(library.asarray(np.ones((3, 3))), 0.4, 1, step, 2, first=4)
    np.testing.assert_array_equal(to_numpy(part), to_numpy(whole)[4:])


def test_a_feed_takes_only_the_rows_of_its_part():
    x = np.arange(40.0).reshape(20, 2)
    feed = Resident(nnxp.backends.get("numpy"), [x], 6)
    feed.share = BatchShare(1, 2)
    rows = [rows for _, rows in feed.chunks(np.arange(20))]
    assert [each.tolist() for each in rows] == [[[3, 4, 5], [9, 10, 11], [15, 16, 17]], [[19]]]
    assert [feed.batch_size_after(done) for done in range(4)] == [6, 6, 6, 2]
