import numpy as np
import pytest

import nnxp
from nnxp import MLP, DivergenceError, InputError, train
from nnxp.arrays import is_array, namespace
from nnxp.data import checks
from nnxp.data.prepare import prepare


@pytest.fixture
def network():
    return MLP([3, 2], backend="numpy")


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (np.ones((4, 5)), r"x has shape \(4, 5\), the network takes \(samples, 3\)"),
        (np.ones(3), r"one sample is a batch of one: x\[None, :\]"),
        (np.ones((0, 3)), "x has no rows"),
        ([[1, 2, 3], [4, 5]], "x is ragged"),
        ([["a", "b", "c"]], "x must be numbers, not str"),
        ([[1.0, np.nan, 3.0]], "x holds nan at row 0, column 1"),
        ([[1.0, 2.0, 3.0], [4.0, 5.0, -np.inf]], "x holds -inf at row 1, column 2"),
        (np.full((1, 3), 1e300), "x holds inf at row 0, column 0"),  # beyond float32
    ],
)
def test_features_are_checked(network, x, says):
    with pytest.raises(InputError, match=says):
        network.predict(x)


def test_nan_is_found_on_the_device(backend):
    x = np.zeros((4, 3), dtype=np.float32)
    x[2, 1] = np.nan
    with pytest.raises(InputError, match="x holds nan at row 2, column 1"):
        MLP([3, 2], backend=backend).predict(backend.asarray(x))


def test_large_finite_values_whose_sum_overflows_are_let_through(network):
    x = np.full((10, 3), 3e38, dtype=np.float32)
    x[5:] = -3e38
    x[:, 1:] = 0
    assert network.predict(np.full((2, 3), 2e38, dtype=np.float32)).shape == (2, 2)


def test_integers_and_booleans_are_numbers(backend):
    network = MLP([2, 2], backend=backend)
    y = network.forward(np.array([[1, 0]], dtype=np.uint8))
    assert namespace(y) is backend.xp
    np.testing.assert_array_equal(
        network.predict([[True, False]]), network.predict(np.array([[1.0, 0.0]]))
    )


def targets(t, loss, outputs=3):
    return checks.targets(t, loss, np.asarray(t).shape[0], outputs)


def test_classes_become_what_the_loss_takes():
    assert targets([0, 2], "categorical_cross_entropy").dtype == np.int64
    for loss in ("quadratic", "binary_cross_entropy"):
        np.testing.assert_array_equal(targets([0, 2], loss), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(targets([0.0, 2.0], "categorical_cross_entropy"), [0, 2])


def test_one_output_takes_a_flat_array():
    assert targets([0.5, 2], "quadratic", outputs=1).shape == (2, 1)


def test_targets_come_from_any_library(library):
    t = library.asarray(np.array([0, 2]))
    assert is_array(t)
    encoded = checks.targets(t, "categorical_cross_entropy", 2, 3)
    np.testing.assert_array_equal(encoded, [0, 2])


@pytest.mark.parametrize(
    ("t", "loss", "outputs", "says"),
    [
        ([0, 3], "categorical_cross_entropy", 3, r"targets\[1\] is 3: .* takes classes 0 to 2"),
        ([-1, 0], "categorical_cross_entropy", 3, r"targets\[0\] is -1"),
        ([0.5, 1], "categorical_cross_entropy", 3, r"targets\[0\] is 0.5"),
        (["cat", "dog"], "categorical_cross_entropy", 3, "encode text labels as classes 0, 1, 2"),
        ([np.nan, 1], "quadratic", 1, "targets holds nan at row 0"),
        (np.ones((2, 4)), "quadratic", 3, r"targets have shape \(2, 4\), the network's .*\(2, 3\)"),
        (np.ones((2, 1)), "quadratic", 3, r"integer classes are given as \(samples,\)"),
        (
            [[0, 2], [3, -1]],
            "poisson",
            2,
            r"targets\[1, 1\] is -1: poisson takes counts, 0 or more",
        ),
        ([[0, 2]], "binary_cross_entropy", 2, r"targets\[0, 1\] is 2: .* values from 0 to 1"),
        (
            [[1, 1]],
            "categorical_cross_entropy",
            2,
            r"targets\[0\] sums to 2: .* rows that sum to 1",
        ),
    ],
)
def test_targets_are_checked(t, loss, outputs, says):
    with pytest.raises(InputError, match=says):
        targets(t, loss, outputs)


def test_a_different_number_of_targets_names_both_shapes():
    with pytest.raises(InputError, match=r"targets have shape \(3,\), x has 2 rows"):
        checks.targets([0, 1, 1], "quadratic", 2, 2)


MASKED = np.ma.masked_greater(np.arange(6.0).reshape(3, 2), 4.5)


@pytest.mark.parametrize(
    ("x", "options", "says"),
    [
        (MASKED, {}, r"x is a masked array with 1 masked values.*x.filled\(value\)"),
        (np.ones((3, 2)), {"targets": np.ma.array([0, 1, 1], mask=[0, 0, 1])}, "targets is a mas"),
        (np.ones((3, 2)), {"sample_weight": np.ma.array([1, 1, 1.0], mask=True)}, "sample_weight "),
        (np.ones((3, 2)), {"validation": (MASKED, [0, 1, 1])}, "x is a masked array"),
        (list(MASKED), {}, "x is a masked array with 1 masked values"),
    ],
)
def test_a_masked_array_does_not_lose_its_mask(x, options, says):
    network = MLP([2, 2], backend="numpy")
    targets = options.pop("targets", [0, 1, 1])
    with pytest.raises(InputError, match=says):
        nnxp.train(network, x, targets, epochs=1, batch_size=2, **options)


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (np.ma.masked_less(np.arange(2.0), 1.0), "parameters is a masked array with 1 masked"),
        (np.array(["1", "2"]), "parameters must be numbers, not str"),
        (np.zeros(2, "M8[s]"), "parameters must be numbers, not datetime64"),
        (np.ones(2, complex), "parameters must be numbers, not complex128"),
        (np.ndarray, "parameters must be numbers, not object"),
    ],
    ids=["masked", "text", "dates", "complex", "class"],
)
def test_parameters_are_real_numbers(backend, odd, says):
    """Text and dates were converted without a word."""
    with pytest.raises(InputError, match=says):
        MLP([3, 2], backend=backend, parameters=[(np.ones((3, 2)), odd)])


def test_a_masked_array_without_a_masked_value_is_an_array():
    network = MLP([2, 2], backend="numpy")
    x = np.ma.masked_greater(np.ones((3, 2)), 5.0)
    np.testing.assert_array_equal(network.predict(x), network.predict(np.ones((3, 2))))
    with pytest.raises(InputError, match="x is a masked array"):
        network.predict(MASKED)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
def test_an_overflow_names_its_row(backend, output):
    """Finite features that overflow on their way were class 0 without a word."""
    network = MLP([2, 3, 3], output=output, backend=backend, seed=2)
    x = np.ones((5, 2), dtype=np.float32)
    x[3] = 3e38, -3e38
    x = backend.asarray(x)
    for call in (network.predict, network.predict_classes, network.forward):
        with pytest.raises(
            InputError, match=r"the output for row 3 of x \(from 0\) is -?(nan|inf)"
        ):
            call(x)
    with pytest.raises(InputError, match="the output for row 3 of x"):
        network.evaluate(x, np.eye(3)[[0, 1, 2, 0, 1]])


def test_an_overflow_in_the_targets_own_unit_names_its_row(backend):
    """The scaled outputs are finite."""
    network = MLP([1, 1], output="identity", backend=backend)
    x = np.linspace(-1, 1, 8)[:, None]
    nnxp.train(network, x, 1e36 * x, epochs=9, batch_size=4)
    x[6] = 1e4
    for call in (network.predict, network.forward):
        with pytest.raises(InputError, match=r"the output for row 6 of x \(from 0\) is inf"):
            call(x)


def test_an_overflow_in_a_later_block_names_its_row(monkeypatch):
    monkeypatch.setattr("nnxp.data.placement.BLOCK_ELEMENTS", 8)
    x = np.ones((9, 2))
    x[7] = 3e38
    with pytest.raises(InputError, match="the output for row 7 of x"):
        MLP([2, 4], output="identity", backend="numpy").predict(x)


def test_an_overflow_of_validation_data_ends_training(backend):
    x, t = np.eye(2), [0, 1]
    network = MLP([2, 3, 2], backend=backend, seed=2)
    held = np.array([[0.0, 1.0], [3e38, 3e38]]), [0, 1]
    with pytest.raises(
        nnxp.DivergenceError, match="epoch 1, validation data: the output for row 1"
    ):
        nnxp.train(network, x, t, epochs=1, batch_size=2, validation=held)


@pytest.mark.parametrize("stream", [None, True])
def test_an_overflow_in_the_validation_share_names_the_callers_row(stream):
    x, t = np.tile(np.eye(2), (6, 1)), np.arange(12) % 2
    probe = prepare(
        MLP([2, 3, 2], backend="numpy").spec, "categorical_cross_entropy", x, t,
        batch_size=2, seed=0, validation=0.5, choose_scaling=lambda *_: None,
    ).validation  # fmt: skip
    row = int(probe.numbers[-1])
    assert row != len(probe.numbers) - 1
    x[row] = 3e38
    network = MLP([2, 3, 2], backend="numpy", seed=2)
    with pytest.raises(nnxp.DivergenceError, match=f"validation data: the output for row {row} of"):
        nnxp.train(network, x, t, epochs=1, batch_size=2, validation=0.5, seed=0, stream=stream)


def test_a_perceptron_does_not_answer_for_an_overflow(backend):
    neuron = nnxp.Perceptron(2, backend=backend)
    neuron.train([[0, 0], [1, 1]], [1, 0])
    with pytest.raises(InputError, match="the output for row 1 of x"):
        neuron.predict([[1.0, 1.0], [3e38, 3e38]])


def _torch(make):
    torch = pytest.importorskip("torch")
    return make(torch, torch.ones(3, 2))


def _ml_dtype(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return np.ones((3, 2), dtype=getattr(ml_dtypes, name))


def _jax_keys():
    jax = pytest.importorskip("jax")
    return jax.random.split(jax.random.key(0), 3)


ODD = {
    "bfloat16": lambda: _torch(lambda torch, x: x.bfloat16()),
    "float8": lambda: _torch(lambda torch, x: x.to(torch.float8_e5m2)),
    "sparse": lambda: _torch(lambda torch, x: x.to_sparse()),
    "meta": lambda: _torch(lambda torch, x: x.to("meta")),
    "complex": lambda: _torch(lambda torch, x: x.to(torch.complex64)),
    "NumPy's bfloat16": lambda: _ml_dtype("bfloat16"),
    "NumPy's int4": lambda: _ml_dtype("int4"),
    "NumPy's long double": lambda: np.ones((3, 2), dtype=np.longdouble),
    "a long double's own": lambda: np.full((3, 2), np.longdouble("1e4000")),
    "larger than int64": lambda: np.full(3, 1e300),
    "negated": lambda: _torch(lambda torch, x: torch._neg_view(x)),
    "nested": lambda: _torch(lambda torch, x: torch.nested.nested_tensor([x[0], x[1], x[2]])),
    "random keys": lambda: _jax_keys(),
    "ragged": lambda: [[1, 2], [1]],
    "a class": lambda: np.ndarray,
    "over 2^63": lambda: [[2**63, 2**63]] * 3,
    "over 2^64": lambda: [[2**64, 2**64]] * 3,
    "objects": lambda: [[None, 1.0]] * 3,
    "dates": lambda: np.zeros((3, 2), "M8[s]"),
    "nothing": lambda: None,
    "a dictionary": lambda: {"x": 1},
}


@pytest.mark.promise("bad use")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ODD)
def test_an_x_of_any_kind_works_or_is_one_line(backend, kind):
    network = MLP([2, 3, 2], backend=backend)
    for call in (
        lambda: network.predict(ODD[kind]()),
        lambda: network.evaluate(ODD[kind](), [0, 1, 0]),
        lambda: nnxp.train(network, ODD[kind](), [0, 1, 0], epochs=1, batch_size=2),
        lambda: nnxp.train(network, np.ones((3, 2)), ODD[kind](), epochs=1, batch_size=2),
        lambda: nnxp.train(
            network, np.eye(3)[:, :2], [0, 1, 0], epochs=1, batch_size=2,
            validation=(np.eye(3)[:, :2], ODD[kind]()),
        ),
        lambda: nnxp.train(
            network, np.eye(3)[:, :2], [0, 1, 0], epochs=1, batch_size=2, sample_weight=ODD[kind]()
        ),
    ):  # fmt: skip
        said = _said(call)
        assert "\n" not in said
        assert said.startswith(("x", "targets", "sample_weight"))


def _said(call):
    """What an InputError says; of a call that works, "x"."""
    try:
        call()
    except InputError as error:
        return str(error)
    return "x"


def test_what_is_assumed_to_be_finite_is_not_checked_in_training(backend):
    x = np.array([[0.0, 1.0], [np.nan, 2.0]], dtype=np.float32)
    network = MLP([2, 2], backend=backend)
    with pytest.raises(InputError, match="x holds nan at row 1"):
        train(network, x, [0, 1], epochs=1, batch_size=1)
    with pytest.raises(DivergenceError):
        train(network, x, [0, 1], epochs=1, batch_size=1, assume_finite=True)
    large = np.array([[1e300, 1.0], [0.0, 2.0]])
    with pytest.raises(InputError, match="x holds inf at row 0"):  # where it is converted
        train(network, large, [0, 1], epochs=1, batch_size=1, assume_finite=True)
