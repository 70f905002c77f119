"""Divergence: noticed within a chunk of steps and named; the last good state stays."""

import re

import numpy as np
import pytest
from command_line import fail, succeed

import nnxp
from nnxp import MLP, SGD, DivergenceError, Regularization, backends, divergence, resuming
from nnxp.arrays import to_numpy
from nnxp.nested import leaves

RNG = np.random.default_rng(0)
BATCH, STEPS = 10, 300
X = RNG.standard_normal((BATCH * STEPS, 6)).astype(np.float32)
X[BATCH * 20 :] *= 30  # where the trainings begin to diverge
T = RNG.standard_normal((BATCH * STEPS, 1)).astype(np.float32)
HOW = {
    "sgd": {"optimizer": SGD(0.1)},
    "momentum, dropout": {
        "optimizer": SGD(0.01, momentum=0.9),
        "regularization": Regularization(dropout=0.3),
    },
    "streamed": {"optimizer": SGD(0.1), "stream": True},
    "diagnosed": {"optimizer": SGD(0.1), "diagnose": True},
}


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    monkeypatch.setattr("nnxp.data.placement.NetworkSpec.chunk_steps", lambda *_: 16)


def diverge(backend, steps=STEPS, *, match="the loss is", **how):
    """Train on the first steps until it diverges. Return the error, network and chunks."""
    chunks = []
    network = MLP((6, 8, 5, 1), "leaky_relu", output="identity", backend=backend, seed=3)
    how = {"epochs": 1, "batch_size": BATCH, "shuffle": False, "progress": chunks.append} | how
    rows = slice(0, BATCH * steps)
    with pytest.raises(DivergenceError, match=match) as caught:
        nnxp.train(network, X[rows], T[rows], scale_targets=False, **how)
    return caught.value, network, len(chunks)


@pytest.mark.promise("honest")
@pytest.mark.parametrize("name", HOW)
def test_the_step_is_the_first_with_which_a_training_diverges(backend, name):
    how = HOW[name]
    error, _, chunks = diverge(backend, match=r"in epoch 1, step \d+: ", **how)
    assert 20 < error.step < 48
    # The chunk of that step was the last, or the one after it was queued already.
    assert chunks - (error.step - 1) // 16 == backend.runs_ahead
    # As an oracle, trainings on that many steps, and on one less.
    assert diverge(backend, error.step, **how)[0].step == error.step
    network = MLP((6, 8, 5, 1), "leaky_relu", output="identity", backend=backend, seed=3)
    rows = slice(0, BATCH * (error.step - 1))
    nnxp.train(
        network, X[rows], T[rows], epochs=1, batch_size=BATCH, shuffle=False,
        scale_targets=False, **how,
    )  # fmt: skip
    assert all(np.isfinite(to_numpy(each)).all() for each in leaves(network.parameters))


def parameters(*weights):
    return [(np.full(shape, value), np.zeros(shape[1])) for shape, value in weights]


LAYERS = {
    "outputs": (((6, 2), 1e30), ((2, 2), 1e30), ((2, 1), 1.0), 0.1, 2,
                "the outputs of layer 2 are not finite"),
    "loss": (((6, 2), 1e10), ((2, 2), 1e10), ((2, 1), 1.0), 0.1, 3,
             r"the outputs of layer 3 reach \d\.\de\+2\d"),
    "last update": (((6, 2), 1.0), ((2, 2), 1.0), ((2, 1), 1.0), 3e38, 3,
                    "its update of the weights of layer 3 is not finite"),
}  # fmt: skip


@pytest.mark.promise("honest")
@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_the_first_that_is_not_finite(backend, name):
    *weights, rate, layer, problem = LAYERS[name]
    network = MLP((6, 2, 2, 1), output="identity", backend=backend, parameters=parameters(*weights))
    kept = [to_numpy(each).copy() for each in leaves(network.parameters)]
    with pytest.raises(DivergenceError, match=rf"in epoch 1, step 1: {problem}: lower") as caught:
        nnxp.train(
            network, np.abs(X) + 1, T + 100, epochs=1, batch_size=BATCH, optimizer=SGD(rate),
            scale_targets=False,
        )  # fmt: skip
    error = caught.value
    assert (error.epoch, error.step, error.layer) == (1, 1, layer)
    for now, then in zip(leaves(network.parameters), kept, strict=True):
        np.testing.assert_array_equal(to_numpy(now), then)


@pytest.mark.promise("honest")
def test_parameters_that_no_loss_shows_are_noticed_within_a_chunk(backend):
    """A unit whose bias is minus infinity is dead: the loss stays finite."""
    network = MLP((6, 2, 1), output="identity", backend=backend)
    chunks = []

    class Breaks(nnxp.SGD):
        def update(self, parameters, state, gradients, learning_rate):
            parameters, state = super().update(parameters, state, gradients, learning_rate)
            weight, bias = parameters[0]
            return [(weight, bias - np.inf), *parameters[1:]], state

    with pytest.raises(DivergenceError, match="step 1: its update of the biases of layer 1 is"):
        nnxp.train(
            network, X, T, epochs=1, batch_size=BATCH, optimizer=Breaks(0.01, momentum=0.5),
            progress=chunks.append,
        )  # fmt: skip
    assert len(chunks) <= 1


@pytest.fixture
def copies(monkeypatch):
    """The steps after which the state is copied."""
    found, keep = [], divergence.DivergenceWatch._keep

    def noted(self, state, done):
        found.append(done)
        keep(self, state, done)

    monkeypatch.setattr(divergence.DivergenceWatch, "_keep", noted)
    return found


@pytest.mark.parametrize(
    ("batch", "chunk", "steps", "expected"),
    [(1, 16, 2080, [0, 1024, 2048]), (2**17, 1, 10, [0, 8])],
)
def test_copies_are_a_thousand_steps_or_a_million_rows_apart(
    batch, chunk, steps, expected, copies, monkeypatch
):
    monkeypatch.setattr("nnxp.data.placement.NetworkSpec.chunk_steps", lambda *_: chunk)
    x = np.ones((batch * steps, 1), np.float32)
    network = MLP((1, 1), output="identity", backend="numpy")
    nnxp.train(network, x, x, epochs=1, batch_size=batch, scale_targets=False)
    assert copies == expected


@pytest.mark.parametrize("ahead", [False, True])
def test_a_device_that_runs_ahead_is_read_while_it_works_on_the_next_chunk(ahead, monkeypatch):
    monkeypatch.setattr(type(backends.get("numpy")), "runs_ahead", ahead)
    error, _, chunks = diverge("numpy", **HOW["sgd"])
    assert chunks == (error.step - 1) // 16 + ahead


@pytest.mark.promise("honest")
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("limit", "most", "every"),
    [
        ("STEPS", 8, 8),
        ("STEPS", 9, 16),
        ("ROWS", 8 * BATCH, 8),
        ("ROWS", 8 * BATCH + 1, 16),
        ("STEPS", 17, 24),
    ],
)
def test_only_the_steps_since_the_last_copy_run_again(
    limit, most, every, ahead, copies, monkeypatch
):
    monkeypatch.setattr(type(backends.get("numpy")), "runs_ahead", ahead)
    monkeypatch.setattr("nnxp.data.placement.NetworkSpec.chunk_steps", lambda *_: 8)
    monkeypatch.setattr(divergence, f"KEPT_{limit}", most)
    again, error_of = [], divergence.DivergenceWatch.error

    def counted(self, *about):
        run = self.run
        self.run = lambda *step: again.append(step[2].shape[0]) or run(*step)
        return error_of(self, *about)

    monkeypatch.setattr(divergence.DivergenceWatch, "error", counted)
    error, *_ = diverge("numpy", **HOW["sgd"])
    step, whole = error.step, (error.step - 1) // 8
    assert step > 16
    assert copies == list(range(0, step, every))
    # The whole chunks since the copy, the one with the step, and its steps one by one.
    assert again == [8] * (whole + 1 - copies[-1] // 8) + [1] * (step - 8 * whole)
    assert diverge("numpy", step, **HOW["sgd"])[0].step == step


@pytest.mark.promise("honest")
def test_the_steps_since_the_last_copy_may_be_of_several_epochs(backend, monkeypatch):
    how = {
        "epochs": 9,
        "shuffle": True,
        "schedule": lambda rate, epoch, *_: rate if epoch < 5 else 300 * rate,
        **HOW["momentum, dropout"],
    }
    lines = []
    for kept in (1, 50, 10_000):
        monkeypatch.setattr(divergence, "KEPT_STEPS", kept)
        error, network, _ = diverge(backend, 18, **how)
        assert (error.epoch, len(network.history.epochs)) == (5, 4)
        assert error.step > 1
        lines.append(str(error))
    assert len(set(lines)) == 1, lines


@pytest.mark.promise("honest")
def test_a_training_that_goes_on_within_an_epoch_names_the_same_step(tmp_path):
    how = {**HOW["momentum, dropout"], "checkpoint": nnxp.Checkpoints(tmp_path, 16)}
    error, *_ = diverge("numpy", **how)
    _, _, snapshot = resuming.load(tmp_path)
    assert 0 < snapshot.progress.steps < error.step
    again, *_ = diverge("numpy", **HOW["momentum, dropout"], resume=tmp_path)
    assert str(again) == str(error)


def test_a_device_without_memory_for_the_search_says_so(monkeypatch, caplog):
    caplog.set_level("INFO", "nnxp")

    def search(self):
        raise nnxp.BackendError("out of memory")

    monkeypatch.setattr(divergence.DivergenceWatch, "_origin", search)
    error, *_ = diverge("numpy", match="the loss is inf in epoch 1: lower", **HOW["sgd"])
    assert (error.epoch, error.step, error.layer) == (1, None, None)
    assert "the step and the layer are not known: out of memory" in caplog.text


def test_a_sum_that_overflows_is_of_no_step():
    """Each loss is finite in float32; their sum over a chunk is not."""
    network = MLP((6, 1), output="identity", backend="numpy")
    with pytest.raises(DivergenceError, match="the loss is inf in epoch 1: lower") as caught:
        nnxp.train(
            network, X, np.full_like(T, 1e19), epochs=1, batch_size=2, optimizer=SGD(1e-9),
            scale_targets=False,
        )  # fmt: skip
    assert (caught.value.epoch, caught.value.step, caught.value.layer) == (1, None, None)


def test_a_reading_has_the_values_of_when_it_began(backend):
    first = backend.asarray(np.float32(1.5), copy=True)
    second = backend.asarray(np.float32(np.inf), copy=True)
    read = backend.reading([first, second])
    with backend.active():
        first += 1
    assert read().tolist() == [1.5, np.inf]
    assert read().dtype == np.float64


@pytest.mark.promise("honest")
def test_the_command_line_names_step_and_layer_and_keeps_the_last_good_epoch(tmp_path):
    how = ["train", "--activation", "identity", "--hidden", "20,20", "--momentum", 0.99]
    how += ["--learning-rate", 0.1, "--checkpoint", "runs", "--every", 1]
    line = fail(tmp_path, *how, status=1)
    assert re.search(r"in epoch 2, step \d+: the outputs of layer \d .*: lower the", line)
    assert line.endswith("; saved model.safetensors, the network of epoch 1\n")
    good = nnxp.MLP.load(tmp_path / "model.safetensors", "numpy")
    _, newest, snapshot = resuming.load(tmp_path / "runs")
    assert len(snapshot.history.epochs) == 1
    for one, two in zip(leaves(good.parameters), leaves(newest.parameters), strict=True):
        np.testing.assert_array_equal(one, two)
    # A training that diverges does not replace one that ended.
    succeed(tmp_path, "train", "--hidden", "20,20", "--activation", "identity", "--epochs", 1)
    before = (tmp_path / "model.safetensors").read_bytes()
    assert "; saved model.diverged.safetensors, " in fail(tmp_path, *how, status=1)
    assert (tmp_path / "model.safetensors").read_bytes() == before
