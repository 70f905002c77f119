import numpy as np
import pytest
from conftest import require

from nnxp import MLP, SGD, InputError, Regularization, objectives, train
from nnxp.arrays import to_numpy
from nnxp.kernels import dropout_mask
from nnxp.network import backpropagate
from nnxp.regularization import dropout
from nnxp.state import first_state
from nnxp.step import training_step


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((30, 4)), rng.integers(0, 3, 30)


def arrays(network):
    return [to_numpy(array) for layer in network.parameters for array in layer]


def test_penalties_and_their_gradients_are_torchs(backend, data):
    require("torch")
    import torch

    l1, l2 = 0.03, 0.2
    network = MLP([4, 5, 3], "tanh", backend=backend, dtype="float64")
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays(network)]
    w1, b1, w2, b2 = tensors
    x, t = (torch.tensor(array) for array in data)
    loss = torch.nn.functional.cross_entropy(torch.tanh(x @ w1 + b1) @ w2 + b2, t)
    for w in (w1, w2):
        loss = loss + l1 * w.abs().sum() + 0.5 * l2 * (w**2).sum()
    loss.backward()

    history = train(network, *data, optimizer=SGD(1.0), epochs=1, batch_size=None,
                    regularization=Regularization(l1, l2))  # fmt: skip
    assert history.epochs[0].loss == pytest.approx(loss.item(), rel=1e-12)
    for now, tensor in zip(arrays(network), tensors, strict=True):
        expected = (tensor - tensor.grad).detach().numpy()
        np.testing.assert_allclose(now, expected, rtol=1e-11, atol=1e-13)


def test_l2_is_plain_sgds_weight_decay(data):
    penalized, decayed = (MLP([4, 5, 3], dtype="float64", backend="numpy") for _ in range(2))
    train(penalized, *data, epochs=3, batch_size=8, regularization=Regularization(l2=0.1))
    train(decayed, *data, epochs=3, batch_size=8, optimizer=SGD(0.1, weight_decay=0.1))
    for first, second in zip(arrays(penalized), arrays(decayed), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


def test_l1_makes_weights_sparse(data):
    network = MLP([4, 8, 3], backend="numpy")
    train(network, *data, epochs=200, batch_size=None, regularization=Regularization(l1=0.05))
    weight = arrays(network)[0]
    assert np.mean(np.abs(weight) < 0.02) > 0.3


def test_max_norm_bounds_the_weights_into_every_unit(backend, data):
    network = MLP([4, 8, 3], initializer="normal", backend=backend, dtype="float64")
    free = MLP([4, 8, 3], initializer="normal", backend=backend, dtype="float64")
    train(network, *data, epochs=2, batch_size=8, regularization=Regularization(max_norm=1.5))
    train(free, *data, epochs=2, batch_size=8)
    for bounded, unbounded in zip(arrays(network)[::2], arrays(free)[::2], strict=True):
        norms = np.linalg.norm(bounded, axis=0)
        assert norms.max() <= 1.5 * (1 + 1e-12)
        assert np.linalg.norm(unbounded, axis=0).max() > 1.5


def test_max_norm_leaves_what_is_within_bounds_alone():
    network = MLP([2, 2], backend="numpy", dtype="float64",
                  parameters=[([[0.3, 0.0], [0.4, 0.0]], [9.0, 9.0])])  # fmt: skip
    (weight, bias), *_ = Regularization(max_norm=0.5).constrain(network.parameters)
    np.testing.assert_array_equal(weight, [[0.3, 0.0], [0.4, 0.0]])
    np.testing.assert_array_equal(bias, [9.0, 9.0])


def mask(library, shape=(64, 100), rate=0.3, seed=5, step=0, layer=0):
    y = library.asarray(np.ones(shape, dtype=np.float32))
    with library.backend.active():
        number = library.asarray(np.array(step, dtype=np.int32))
        return to_numpy(dropout_mask(y, rate, seed, number, layer))


def test_masks_are_equal_bit_for_bit_on_every_library(library):
    """Against the hash written out in Python's integers."""

    def mix(x):
        x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
        x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
        return x ^ (x >> 16)

    seed, step, layer = 2**40 + 12345, 1_000_003, 2
    key = mix(step ^ mix((seed + 0x9E3779B9 * (layer + 1)) % 2**32))
    bits = np.array([mix(i ^ key) & 0x7FFFFFFF for i in range(15)])
    for rate in (0.4, float(sorted(bits)[7] / 2**31)):  # with the second, a unit is on the border
        expected = np.where(bits >= round(rate * 2**31), 1 / (1 - rate), 0).astype(np.float32)
        found = mask(library, (3, 5), rate, seed, step, layer)
        np.testing.assert_array_equal(found.ravel(), expected)


def test_masks_drop_the_share_they_should_and_keep_the_mean(library):
    masks = np.stack([mask(library, step=step) for step in range(20)])
    draws = masks.size
    assert np.mean(masks == 0) == pytest.approx(0.3, abs=5 * (0.3 * 0.7 / draws) ** 0.5)
    assert set(np.unique(masks)) == {np.float32(0), np.float32(1 / 0.7)}


def test_masks_differ_by_seed_step_layer_and_row(library):
    base = mask(library) == 0
    others = [mask(library, seed=6), mask(library, step=1), mask(library, layer=1)]
    for other in (*others, np.roll(mask(library), 1, axis=0)):
        agreement = np.mean(base == (other == 0))
        assert agreement == pytest.approx(0.3**2 + 0.7**2, abs=0.03)  # as if independent


def test_a_rate_of_zero_drops_nothing(library):
    np.testing.assert_array_equal(mask(library, rate=0.0), 1)


@pytest.mark.promise("no wait")
def test_masks_do_not_wait_for_the_device(conversions):
    import array_api_strict as xp

    gpu = xp.Device("device1")
    step = xp.zeros((), dtype=xp.int32, device=gpu)
    dropout_mask(xp.ones((3, 4), dtype=xp.float32, device=gpu), 0.5, 0, step, 0)
    assert conversions.count == 0


@pytest.mark.parametrize("hidden", ["relu", "sigmoid", "tanh", "leaky_tanh"])
def test_the_gradient_goes_through_the_mask(hidden):
    """Central differences of the very loss that the mask leaves."""
    rng = np.random.default_rng(1)
    network = MLP([3, 6, 5, 2], hidden, initializer="normal", dtype="float64", backend="numpy")
    objective = objectives.get("auto", "softmax")
    x, t = rng.standard_normal((7, 3)), rng.integers(0, 2, 7)
    drop = dropout((0.4, 0.0), 3, np.array(2, dtype=np.int32))

    def value():
        return float(
            backpropagate(network.parameters, network.hidden, objective, x, t, None, drop)[0]
        )

    _, gradients = backpropagate(network.parameters, network.hidden, objective, x, t, None, drop)
    for layer, layer_gradients in zip(network.parameters, gradients, strict=True):
        for array, gradient in zip(layer, layer_gradients, strict=True):
            for i in np.ndindex(array.shape):
                before = array[i]
                array[i] = before + 1e-6
                above = value()
                array[i] = before - 1e-6
                assert gradient[i] == pytest.approx((above - value()) / 2e-6, abs=1e-8)
                array[i] = before


def test_dropout_trains_alike_on_every_backend(backend, data):
    halved = Regularization(dropout=0.5)
    reference, network = (
        MLP([4, 16, 3], backend=each, dtype="float64") for each in ("numpy", backend)
    )
    for each in (reference, network):
        train(each, *data, epochs=3, batch_size=8, seed=7, regularization=halved)
    for first, second in zip(arrays(reference), arrays(network), strict=True):
        np.testing.assert_allclose(second, first, rtol=1e-9, atol=1e-12)


def test_every_step_drops_other_units(data):
    """The step's number is part of the state, and chunks go on where the last one ended."""
    rule = SGD(0.0)
    step = training_step(
        ("relu",), objectives.get("auto", "softmax"), rule, Regularization(dropout=0.5)
    )
    state, losses = first_state(MLP([4, 16, 3], backend="numpy"), rule), []
    for _ in range(3):
        state, loss = step(state, data, 0.0)
        losses.append(float(loss))
    assert len(set(losses)) == 3
    assert int(state.step) == 3


def test_prediction_drops_nothing(data):
    network = MLP([4, 16, 3], backend="numpy")
    before = network.predict(data[0])
    train(network, *data, optimizer=SGD(0.0), epochs=1, batch_size=8,
          regularization=Regularization(dropout=0.9))  # fmt: skip
    np.testing.assert_array_equal(network.predict(data[0]), before)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"l1": -1}, "l1 must be a finite number, 0 or more, not -1"),
        ({"l2": float("inf")}, "l2 must be a finite number"),
        ({"max_norm": 0}, "max_norm must be a finite number above 0, or None, not 0"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), or a list of such, not 1"),
        ({"dropout": (0.5, -0.1)}, "not \\(0.5, -0.1\\)"),
    ],
)
def test_values_out_of_range_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        Regularization(**options)


def test_dropout_shares_fit_the_hidden_layers(data):
    with pytest.raises(InputError, match="2 dropout shares for 1 hidden layers"):
        train(MLP([4, 5, 3], backend="numpy"), *data, epochs=1, batch_size=8,
              regularization=Regularization(dropout=(0.5, 0.5)))  # fmt: skip


@pytest.mark.parametrize("rate", [1 - 2**-30, 1 - 2**-33, 1 - 2**-53])
def test_a_rate_that_rounds_to_one_still_fits_the_hash(library, rate):
    """The hash has 31 bits: a threshold of 2^31 is no int32."""
    y = library.asarray(np.ones((200, 50)))
    with library.backend.active():
        mask = dropout_mask(y, rate, 1, library.asarray(np.array(0, dtype=np.int32)), 0)
    assert to_numpy(mask).shape == (200, 50)
    assert not to_numpy(mask).any()


def test_training_with_a_rate_that_rounds_to_one_is_replayed(data):
    network = MLP([4, 5, 3], backend="numpy")
    history = train(network, *data, epochs=1, batch_size=8,
                    regularization=Regularization(dropout=1 - 2**-40))  # fmt: skip
    assert history.fallbacks == []


def test_a_penalty_per_batch_is_divided_by_the_samples_of_each_batch(data):
    """One full batch of 16 and one of 8: two trainings with the penalty of each, step by step."""
    x, t = data[0][:24], data[1][:24]
    steps, batches = (MLP([4, 4, 3], dtype="float64") for _ in range(2))
    for rows, samples in ((slice(0, 16), 16), (slice(16, 24), 8)):
        own = Regularization(l1=0.1 / samples, l2=0.5 / samples)
        train(steps, x[rows], t[rows], epochs=1, batch_size=None, regularization=own, shuffle=False)
    both = Regularization(l1=0.1, l2=0.5, per_batch=True)
    train(batches, x, t, epochs=1, batch_size=16, regularization=both, shuffle=False)
    for ours, theirs in zip(arrays(batches), arrays(steps), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
