import numpy as np
import pytest

from nnxp import MLP, InputError, initializers
from nnxp.arrays import to_numpy
from nnxp.initializers import he, normal, orthogonal, xavier

FAN_IN, FAN_OUT = 400, 300


@pytest.mark.parametrize(
    ("draw", "deviation"),
    [(normal, 1.0), (xavier, (2 / (FAN_IN + FAN_OUT)) ** 0.5), (he, (2 / FAN_IN) ** 0.5)],
)
def test_weights_have_the_deviation_of_the_paper(draw, deviation):
    weight, bias = draw(np.random.default_rng(0), FAN_IN, FAN_OUT)
    assert weight.shape == (FAN_IN, FAN_OUT)
    assert bias.shape == (FAN_OUT,)
    # 120,000 draws: the sample deviation is within 1 % by more than four of its own deviations.
    assert weight.std() == pytest.approx(deviation, rel=0.01)
    assert abs(weight.mean()) < 0.02 * deviation


@pytest.mark.parametrize(("fan_in", "fan_out"), [(40, 30), (30, 40), (20, 20), (7, 1)])
def test_orthogonal_columns_or_rows(fan_in, fan_out):
    weight, bias = orthogonal(np.random.default_rng(0), fan_in, fan_out)
    assert weight.shape == (fan_in, fan_out)
    assert not bias.any()
    gram = weight.T @ weight if fan_in >= fan_out else weight @ weight.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-13)


def test_only_normal_draws_biases():
    rng = np.random.default_rng(0)
    assert normal(rng, 3, 50)[1].std() > 0.5
    assert not xavier(rng, 3, 50)[1].any()
    assert not he(rng, 3, 50)[1].any()


def test_auto_fits_the_activation():
    assert {initializers.get("auto", name) for name in initializers.RECTIFIERS} == {he}
    assert initializers.get("auto", "tanh") is initializers.get("auto", "softmax") is xavier


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="unknown initializer 'xaver': did you mean 'xavier'"):
        initializers.get("xaver", "relu")


def test_the_same_seed_gives_the_same_parameters_on_every_backend(backend):
    reference = MLP([5, 7, 3], seed=11, backend="numpy")
    network = MLP([5, 7, 3], seed=11, backend=backend)
    for ours, theirs in zip(network.parameters, reference.parameters, strict=True):
        for array, expected in zip(ours, theirs, strict=True):
            assert array.dtype == backend.dtype("float32")
            np.testing.assert_array_equal(to_numpy(array), expected)


def test_another_seed_gives_others():
    first, second = (MLP([5, 3], seed=seed, backend="numpy").parameters[0][0] for seed in (0, 1))
    assert not np.array_equal(first, second)
