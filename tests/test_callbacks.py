import numpy as np
import pytest
from conftest import require

from nnxp import MLP, SGD, EarlyStopping, InputError, backends, train
from nnxp.arrays import to_numpy
from nnxp.history import Epoch, History


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 3)), rng.integers(0, 2, 40)


def stops_at(stopping, values, monitor):
    history = History("accuracy")
    network = MLP([1, 1], backend="numpy")
    for epoch, value in enumerate(values, 1):
        fields = {"loss": 0.0, "validation_loss": 0.0, "validation_metric": 0.0, monitor: value}
        history.epochs.append(Epoch(epoch, **fields, seconds=1, samples_per_second=1,
                                    learning_rate=1))  # fmt: skip
        if stopping(network, history):
            return epoch
    return None


@pytest.mark.parametrize(
    ("monitor", "values", "patience", "end", "best"),
    [
        ("validation_loss", [3, 2, 2.5, 2.1, 2], 3, 5, 2),
        ("validation_loss", [3, 2, 1, 0.5], 1, None, 4),
        ("loss", [1, 1, 1], 2, 3, 1),
        ("validation_metric", [0.5, 0.7, 0.6, 0.7], 2, 4, 2),
    ],
)
def test_it_stops_when_patience_runs_out(monitor, values, patience, end, best):
    stopping = EarlyStopping(monitor, patience)
    assert stops_at(stopping, values, monitor) == end
    assert stopping.best_epoch == best


def test_a_small_change_is_no_improvement():
    stopping = EarlyStopping("loss", 2, min_delta=0.1)
    assert stops_at(stopping, [1.0, 0.95, 0.91, 0.8], "loss") == 3


@pytest.mark.parametrize("patience", [2, 1000])
def test_the_best_parameters_come_back(backend, data, patience):
    """Whether it stops early or training runs to its end."""
    kept = []
    stopping = EarlyStopping(patience=patience)
    network = MLP([3, 16, 2], backend=backend)

    def keep(network, history):
        kept.append([to_numpy(a).copy() for layer in network.parameters for a in layer])

    history = train(
        network, *data, optimizer=SGD(1.0), epochs=30, batch_size=4, validation=0.3,
        callbacks=[keep, stopping],
    )  # fmt: skip
    losses = [epoch.validation_loss for epoch in history.epochs]
    best = int(np.argmin(losses))
    assert stopping.best_epoch == best + 1 < len(losses)
    assert (len(losses) == 30) == (patience == 1000)
    restored = [to_numpy(a) for layer in network.parameters for a in layer]
    for array, expected in zip(restored, kept[best], strict=True):
        np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_what_other_callbacks_write_into_the_network_is_not_kept(name, data):
    require(name)
    kept = []

    def keep(network, history):
        kept.append([to_numpy(a).copy() for layer in network.parameters for a in layer])

    def spoil(network, history):
        network.parameters[0][0][...] = 7.0

    stopping = EarlyStopping(patience=3)
    network = MLP([3, 16, 2], backend=backends.get(name, "cpu"))
    train(
        network, *data, optimizer=SGD(1.0), epochs=30, batch_size=4, validation=0.3,
        callbacks=[keep, stopping, spoil],
    )  # fmt: skip
    restored = [to_numpy(a) for layer in network.parameters for a in layer]
    for array, expected in zip(restored, kept[stopping.best_epoch - 1], strict=True):
        np.testing.assert_array_equal(array, expected)


def test_one_instance_serves_two_trainings(data):
    stopping = EarlyStopping("loss", patience=1)
    for _ in range(2):
        network = MLP([3, 2], backend="numpy")
        history = train(network, *data, epochs=3, batch_size=8, callbacks=[stopping])
        assert len(history.epochs) > 1


def test_a_training_without_epochs_gets_no_parameters_of_the_one_before(data):
    stopping, networks = (
        EarlyStopping("loss"),
        [MLP([3, 2], backend="numpy", seed=i) for i in (0, 1)],
    )
    before = to_numpy(networks[1].parameters[0][0]).copy()
    for network, epochs in zip(networks, (2, 0), strict=True):
        train(network, *data, epochs=epochs, batch_size=8, callbacks=[stopping])
    np.testing.assert_array_equal(to_numpy(networks[1].parameters[0][0]), before)


def test_what_it_needs_is_said(data):
    for watching in ({"callbacks": [EarlyStopping()]}, {"schedule": "plateau"}):
        network, trained = MLP([3, 2], backend="numpy"), []
        with pytest.raises(InputError, match="validation_loss needs validation data"):
            train(network, *data, epochs=2, batch_size=8, progress=trained.append, **watching)
        assert trained == []  # it is said before the first step
    for wrong in ({"monitor": "accuracy"}, {"patience": 0}, {"min_delta": -1.0}):
        with pytest.raises(InputError):
            EarlyStopping(**wrong)
