"""The checks of `nnxp.testing`: nnxp's own pieces pass them, and each mistake fails one."""

from dataclasses import dataclass

import numpy as np
import pytest
from conftest import require
from test_kernels import FORMULAS

import nnxp
from nnxp import SGD, InputError, kernels, testing
from nnxp.arrays import namespace
from nnxp.kernels import ACTIVATIONS
from nnxp.objectives import LOSSES
from nnxp.optimizers import OPTIMIZERS, apply_updates


@pytest.fixture(autouse=True)
def _strict():
    require("array-api-strict")


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_our_own_activations_pass(name):
    formula = FORMULAS.get(name) if name != "gelu" else None
    assert testing.check_activation(name, formula)[:2] == ["numpy", "strict-2023.12"]


@pytest.mark.parametrize("name", LOSSES)
def test_our_own_losses_pass(name):
    assert "strict-device1" in testing.check_loss(name)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_our_own_optimizers_pass(name):
    assert "numpy" in testing.check_optimizer(name)


@pytest.mark.promise("any library")
@pytest.mark.parametrize("name", ["numpy", "array-api-strict"])
def test_our_own_backends_pass(name):
    assert "eager" in testing.check_backend(name)


def square(z):
    return z * z


def square_backward(dy, y, z):
    return 2.0 * dy * z


def test_a_sound_activation_passes():
    assert testing.check_activation((square, square_backward), lambda z: z * z, kinks=())


def changes_argument(z):
    z *= 1.0 + (1 - z.shape[0] * 0) * 0.5
    return z


def reads_a_value(z):
    return z * z if namespace(z).max(z) < 1e9 else z


def leaves_the_dtype(z):
    return namespace(z).astype(z, namespace(z).float32) ** 2


@pytest.mark.parametrize(
    ("forward", "backward", "says"),
    [
        (square, lambda dy, y, z: dy * z, "backward of square.* and central differences differ"),
        (lambda z: np.asarray(z) ** 2, square_backward, "on strict-2023.12 in float32"),
        (lambda z: z.dot(z.T).diagonal(), square_backward, "returns shape|fails"),
        (changes_argument, lambda dy, y: dy * 1.5, "changes its argument 0"),
        (reads_a_value, square_backward, "a value is read|does not compile"),
        (leaves_the_dtype, square_backward, "in float64 gives float32"),
        (lambda z: namespace(z).exp(z), lambda dy, y: dy * y, "is inf at 80.0|inf at 10000.0"),
        (lambda z: z + 0.0 * namespace(z).cumulative_prod(z, axis=0), lambda dy, y: dy,
         "on strict-2023.12 in float32 fails"),
        (lambda z: namespace(z).atan(z),
         lambda dy, y, z: dy / (1.0 + z * namespace(z).sort(z, axis=0)), "differ"),
    ],
)  # fmt: skip
def test_a_mistake_in_an_activation_is_found(forward, backward, says):
    with pytest.raises(AssertionError, match=says) as caught:
        testing.check_activation((forward, backward))
    assert "\n" not in str(caught.value).splitlines()[0]


def test_what_cannot_be_recorded_is_found():
    def forward(z):
        return namespace(z).sort(z, axis=-1) * 0.0 + z

    with pytest.raises(AssertionError, match="steps run eagerly: they cannot be recorded"):
        testing.check_activation((forward, kernels.identity_backward))


def test_an_imprecise_activation_is_found():
    def expm1(z):
        return namespace(z).exp(z) - 1.0

    with pytest.raises(AssertionError, match=r"in float32 is .* 4.07e\+05 units in the last place"):
        testing._check_formula(
            "expm1", FORMULAS["elu"], np.float32([-1e-6]), expm1(np.float32([-1e-6])), 4
        )


def unshaped(y, t, w=None):
    """The weights of rows are taken for those of columns."""
    error = (y - t) * (y - t) if w is None else (y - t) * (y - t) * w[: y.shape[1]]
    return namespace(y).sum(error) / y.shape[0]


def slope(y, t, w=None):
    slope = 2.0 * (y - t) / y.shape[0]
    return slope if w is None else slope * namespace(y).expand_dims(w, axis=1)


def sum_of_squares(y, t, w=None):
    return namespace(y).sum((y - t) * (y - t))


def unweighted(y, t, w=None):
    return sum_of_squares(y, t) / y.shape[0]


@pytest.mark.parametrize(
    ("value", "gradient", "says"),
    [
        (unshaped, slope, "weighted unshaped and the mean of its samples' losses differ"),
        (sum_of_squares, slope, "and the mean of its samples' losses differ"),
        (unweighted, slope, "weighted unweighted and the mean"),
        (kernels.quadratic, slope, "gradient of quadratic.* and central differences differ"),
        (lambda y, t, w=None: (y - t) ** 2, slope, r"returns shape \(6, 4\), not a 0-d array"),
    ],
)
def test_a_mistake_in_a_loss_is_found(value, gradient, says):
    with pytest.raises(AssertionError, match=says):
        testing.check_loss((value, gradient))


@dataclass(frozen=True)
class Plain:
    """Gradient descent, with a mistake on demand."""

    learning_rate: float = 0.1
    mistake: str = ""
    is_plain = False

    def init(self, parameters):
        return []

    def update(self, parameters, state, gradients, learning_rate):
        if self.mistake == "own rate":
            learning_rate = self.learning_rate
        if self.mistake == "uphill":
            learning_rate = -learning_rate
        rate = float(learning_rate) if self.mistake == "reads" else learning_rate
        steps = [(rate * dweight, rate * dbias) for dweight, dbias in gradients]
        return apply_updates(parameters, steps), state


def test_a_sound_optimizer_passes():
    assert "numpy" in testing.check_optimizer(Plain)
    assert "numpy" in testing.check_optimizer(nnxp.ClipNorm(SGD(0.1), 1.0))


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("own rate", "changes parameters at learning rate 0"),
        ("uphill", "does not lower the loss"),
        ("reads", "a value is read"),
    ],
)
def test_a_mistake_in_an_optimizer_is_found(mistake, says):
    with pytest.raises(AssertionError, match=says):
        testing.check_optimizer(Plain(mistake=mistake))


def test_a_mistake_in_a_backend_is_found():
    class Rounding(nnxp.backends.backend_class("numpy")):
        name = "rounding"

        def asarray(self, x, dtype=None, copy=None):
            return super().asarray(np.round(x, 1), dtype, copy)

    with pytest.raises(AssertionError, match=r"a network on .* and on NumPy differ"):
        testing.check_backend(Rounding)


def test_an_unknown_name_is_an_error():
    for check in (testing.check_activation, testing.check_loss, testing.check_optimizer,
                  testing.check_backend):  # fmt: skip
        with pytest.raises(InputError, match=r"unknown .* 'nowhere'"):
            check("nowhere")
