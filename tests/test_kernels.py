"""Every kernel, on every library, against formulas and derivatives that nobody here wrote."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import mpmath
import numpy as np
import pytest
from conftest import require
from hypothesis import given
from hypothesis import strategies as st

from nnxp import kernels
from nnxp.arrays import device, namespace, to_numpy
from nnxp.testing import central_differences

ACTIVATIONS = [name for name in kernels.ACTIVATIONS if name != "softmax"]
LOSSES = [
    "quadratic",
    "mae",
    "huber",
    "poisson",
    "poisson_with_log_rate",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "categorical_cross_entropy_with_logits",
]


@dataclass(frozen=True)
class Case:
    """A kernel and something to call it with."""

    name: str
    arguments: Callable[[np.random.Generator, str], tuple]

    @property
    def kernel(self):
        return getattr(kernels, self.name)


def normal(*shapes):
    return lambda rng, dtype: tuple(rng.standard_normal(shape).astype(dtype) for shape in shapes)


def probabilities(rng, dtype, shape=(5, 4)):
    p = rng.random(shape) + 0.1
    return (p / p.sum(axis=1, keepdims=True)).astype(dtype)


def kernel_saved(name, z):
    """What the backward of an activation takes after `dy`: (y,) or (y, z)."""
    return kernels.saved(getattr(kernels, f"{name}_backward"), getattr(kernels, name)(z), z)


def backward_of(name):
    def arguments(rng, dtype):
        z, dy = normal((5, 4), (5, 4))(rng, dtype)
        return dy, *kernel_saved(name, z)

    return arguments


def loss_arguments(name, classes=False, weighted=False):
    def arguments(rng, dtype):
        if name in ("quadratic", "mae", "huber") or "_with_" in name:
            y = 3 * rng.standard_normal((5, 4)).astype(dtype)
        else:
            y = probabilities(rng, dtype)
        if "poisson" in name:
            targets = rng.poisson(2, (5, 4)).astype(dtype)
        else:
            targets = rng.integers(0, 4, 5) if classes else probabilities(rng, dtype)
        return (y, targets, rng.random(5).astype(dtype)) if weighted else (y, targets)

    return arguments


CASES = {
    "affine": Case("affine", normal((5, 3), (3, 4), (4,))),
    "affine_backward": Case("affine_backward", normal((5, 4), (5, 3))),
    "affine_input_backward": Case("affine_input_backward", normal((5, 4), (3, 4))),
}
for name in [*ACTIVATIONS, "softmax", "log_softmax"]:
    CASES[name] = Case(name, normal((5, 4)))
    CASES[f"{name}_backward"] = Case(f"{name}_backward", backward_of(name))
for name in LOSSES:
    both = ["_value_and_gradient"] if name == "categorical_cross_entropy_with_logits" else []
    for suffix in ("", "_gradient", *both):
        full = name + suffix
        CASES[full] = Case(full, loss_arguments(name))
        CASES[f"{full}, weighted"] = Case(full, loss_arguments(name, weighted=True))
        if name.startswith("categorical"):
            CASES[f"{full}, classes"] = Case(full, loss_arguments(name, classes=True))

each_kernel = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.promise("any library")
def test_no_kernel_is_without_a_case():
    functions = {n for n in kernels.__all__ if inspect.isfunction(getattr(kernels, n))}
    # Those of dropout and of deformation take numbers too: test_regularization, test_deformation.
    others = {"dropout_mask", "random_bits", "random_uniform", "inverse_affine", "bilinear"}
    assert functions == {case.name for case in CASES.values()} | others


@pytest.mark.promise("any library")
@each_kernel
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_computes_what_numpy_does(library, case, dtype):
    arguments = case.arguments(np.random.default_rng(0), dtype)
    expected = outputs(case.kernel(*arguments))
    with library.backend.active():
        given_ = [library.asarray(argument) for argument in arguments]
        result = outputs(case.kernel(*given_))
    assert len(result) == len(expected)
    for array, reference in zip(result, expected, strict=True):
        assert namespace(array) is library.xp
        assert device(array) == device(given_[0])
        assert array.dtype == getattr(library.xp, dtype)
        assert tuple(array.shape) == reference.shape
        tolerance = 2e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(to_numpy(array), reference, rtol=tolerance, atol=tolerance)
    for argument, before in zip(given_, arguments, strict=True):
        np.testing.assert_array_equal(to_numpy(argument), before, err_msg="an argument changed")


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_value_and_the_gradient_together_are_each_of_them(classes, weighted):
    """The separate kernels are compared with mpmath and PyTorch below."""
    name = "categorical_cross_entropy_with_logits"
    arguments = loss_arguments(name, classes, weighted)(np.random.default_rng(0), "float64")
    for scale in (1, 1e3):  # at the larger, exp underflows
        arguments = (scale * arguments[0], *arguments[1:])
        value, dz = kernels.categorical_cross_entropy_with_logits_value_and_gradient(*arguments)
        expected = kernels.categorical_cross_entropy_with_logits(*arguments)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        expected = kernels.categorical_cross_entropy_with_logits_gradient(*arguments)
        np.testing.assert_allclose(dz, expected, rtol=1e-13, atol=1e-16)


@pytest.mark.promise("no wait")
@each_kernel
def test_no_kernel_waits_for_a_value(conversions, case):
    import array_api_strict

    gpu = array_api_strict.Device("device1")
    arguments = case.arguments(np.random.default_rng(0), "float32")
    case.kernel(*(array_api_strict.asarray(argument, device=gpu) for argument in arguments))
    assert conversions.count == 0


def test_the_stand_in_for_a_gpu_notices_what_waits(conversions):
    import array_api_strict

    x = array_api_strict.ones((), device=array_api_strict.Device("device1"))
    float(x)
    assert conversions.count == 1
    with pytest.raises(RuntimeError, match="exported to the host"):
        x.__dlpack__()
    with pytest.raises((RuntimeError, TypeError, BufferError)):
        np.asarray(x)


@pytest.mark.promise("any library")
@each_kernel
def test_kernels_trace_under_jit(case):
    require("jax")
    import jax

    jax.config.update("jax_enable_x64", True)
    arguments = case.arguments(np.random.default_rng(0), "float64")
    result = outputs(jax.jit(case.kernel)(*arguments))
    for array, reference in zip(result, outputs(case.kernel(*arguments)), strict=True):
        np.testing.assert_allclose(array, reference, rtol=1e-13, atol=1e-15)


@pytest.mark.promise("any library")
@each_kernel
def test_kernels_run_on_torch_meta_where_no_value_exists(case):
    require("torch")
    import torch

    arguments = case.arguments(np.random.default_rng(0), "float32")
    result = outputs(case.kernel(*(torch.asarray(a, device="meta") for a in arguments)))
    for array, reference in zip(result, outputs(case.kernel(*arguments)), strict=True):
        assert array.device.type == "meta"
        assert tuple(array.shape) == reference.shape


# Values, against mpmath at 50 digits.

FORMULAS = {
    "identity": lambda z: z,
    "step": lambda z: mpmath.mpf(z > 0),
    "sigmoid": lambda z: 1 / (1 + mpmath.exp(-z)),
    "tanh": mpmath.tanh,
    "relu": lambda z: max(z, mpmath.mpf(0)),
    "leaky_relu": lambda z: z if z > 0 else z * mpmath.mpf("0.01"),
    "leaky_tanh": lambda z: mpmath.tanh(z) * (1 if z > 0 else mpmath.mpf("0.25")),
    "elu": lambda z: z if z > 0 else mpmath.expm1(z),
    "gelu": lambda z: (
        z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + GELU_CUBIC * z**3)))
    ),
    "silu": lambda z: z / (1 + mpmath.exp(-z)),
    "softplus": lambda z: mpmath.log1p(mpmath.exp(z)),
    "softsign": lambda z: z / (1 + abs(z)),
}
GELU_CUBIC = mpmath.mpf("0.044715")
NOT_MONOTONIC = {"gelu", "silu"}
POINTS = [0.0, 1e-6, 0.1, 0.5, 1.0, 3.0, 5.0, 17.0, 30.0, 80.0, 1e4]
POINTS = sorted({sign * point for point in POINTS for sign in (-1.0, 1.0)})


def ulps(values, exact, dtype):
    """How many units in the last place of the exact result lie between; tiny numbers as zero."""
    tiny = np.finfo(dtype).smallest_normal
    return max(
        float(abs(mpmath.mpf(float(v)) - e) / max(np.spacing(dtype(abs(float(e)))), tiny))
        for v, e in zip(values, exact, strict=True)
    )


@pytest.mark.promise("stable")
@pytest.mark.parametrize("name", FORMULAS)
def test_slopes_are_those_of_the_ends_however_large_the_number(library, name):
    forward, backward = kernels.ACTIVATIONS[name]
    slopes = []
    for size in (1e4, 1e30):  # whose square overflows
        z = library.asarray(np.array([-size, size], dtype=np.float32))
        with np.errstate(over="ignore"):  # as in `NumPyBackend.context`
            y = forward(z)
            slopes.append(to_numpy(backward(z * 0 + 1, *kernels.saved(backward, y, z))))
    np.testing.assert_allclose(slopes[1], slopes[0], atol=1e-6)


@pytest.mark.promise("stable")
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_exact_to_four_ulp_and_finite_everywhere(library, name, dtype):
    formula = FORMULAS[name]
    z = np.array(POINTS, dtype=dtype)
    y = to_numpy(getattr(kernels, name)(library.asarray(z)))
    assert np.isfinite(y).all()
    with mpmath.workdps(250):
        for value, found in zip(z, y, strict=True):
            point = mpmath.mpf(float(value))
            exact, allowed = formula(point), 4.0
            if name == "gelu" and exact:  # its argument's rounding grows by the condition number
                allowed *= max(1.0, float(abs(point * mpmath.diff(formula, point) / exact)))
            assert ulps([found], [exact], dtype) <= allowed


ROWS = [[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [88.0, 89.0, 90.0]]


@pytest.mark.promise("stable")
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_is_exact_to_four_ulp_for_logits_that_overflow_exp(library, name, dtype):
    z = np.array(ROWS, dtype=dtype)
    y = to_numpy(getattr(kernels, name)(library.asarray(z)))
    with mpmath.workdps(50):
        for row, result in zip(z, y, strict=True):
            logits = [mpmath.mpf(float(v)) for v in row]
            total = mpmath.log(mpmath.fsum(mpmath.exp(v) for v in logits))
            exact = [v - total for v in logits]
            assert (
                ulps(result, exact if name == "log_softmax" else map(mpmath.exp, exact), dtype) <= 4
            )


LOGITS = [-1e4, -30.0, -2.0, 0.0, 0.5, 30.0, 1e4]


@cache
def exact_binary_cross_entropy(z, target):
    with mpmath.workdps(5000):  # the exact loss at 1e4 differs from it by 1e-4343
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(z)))
        return -mpmath.log(p if target else 1 - p)


@pytest.mark.promise("stable")
@pytest.mark.parametrize("target", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_from_logits_neither_overflows_nor_cancels(library, target, dtype):
    for z in LOGITS:
        batch = library.asarray(np.array([[z]], dtype=dtype))
        loss = kernels.binary_cross_entropy_with_logits(
            batch, library.asarray(np.array([[target]], dtype=dtype))
        )
        assert ulps([to_numpy(loss)], [exact_binary_cross_entropy(z, target)], dtype) <= 4


@pytest.mark.promise("stable")
def test_cross_entropy_of_certain_and_wrong_predictions_is_finite(library):
    y = library.asarray(np.array([[0.0, 1.0]], dtype=np.float32))
    wrong = library.asarray(np.array([[1.0, 0.0]], dtype=np.float32))
    for name in ("categorical_cross_entropy", "binary_cross_entropy"):
        for suffix in ("", "_gradient"):
            assert np.isfinite(to_numpy(getattr(kernels, name + suffix)(y, wrong))).all()


@pytest.mark.promise("stable")
@pytest.mark.parametrize(("dtype", "least"), [("float32", 2e-38), ("float64", 3e-308)])
def test_cross_entropy_takes_probabilities_as_they_are_down_to_the_least_normal_one(
    library, dtype, least
):
    rows = [[least, 1.0], [1e-20, 1.0], [0.25, 0.75]]
    y = library.asarray(np.array(rows, dtype=dtype))
    zero = library.asarray(np.array([[0.0, 1.0]], dtype=dtype))
    floor = float(np.finfo(dtype).smallest_normal)
    first = np.array([[1.0, 0.0]], dtype=dtype)
    of_first, only = (library.asarray(np.repeat(first, n, axis=0)) for n in (3, 1))
    p = to_numpy(y)[:, 0].astype(np.float64)
    with library.backend.active():
        for name in ("categorical_cross_entropy", "binary_cross_entropy"):
            gradient = getattr(kernels, f"{name}_gradient")
            np.testing.assert_allclose(to_numpy(gradient(y, of_first))[:, 0], -1 / p / 3, rtol=1e-6)
            np.testing.assert_allclose(to_numpy(gradient(zero, only))[:, 0], -1 / floor, rtol=1e-6)
        loss = to_numpy(kernels.categorical_cross_entropy(y, of_first))
        np.testing.assert_allclose(loss, -np.log(p).mean(), rtol=1e-6)
        loss = to_numpy(kernels.categorical_cross_entropy(zero, only))
        np.testing.assert_allclose(loss, -np.log(floor), rtol=1e-6)
        # Of the second output 1 - y is 0.
        gradient = to_numpy(kernels.binary_cross_entropy_gradient(zero, only))
        np.testing.assert_allclose(gradient, [[-1 / floor, 1 / floor]], rtol=1e-6)
        loss = to_numpy(kernels.binary_cross_entropy(zero, only))
        np.testing.assert_allclose(loss, -2 * np.log(floor), rtol=1e-6)


def exact_loss(name, y, targets, weight):
    """A loss in mpmath: the mean over the batch of each sample's, times its weight."""
    one = mpmath.mpf(1)
    total = mpmath.mpf(0)
    for row, t, w in zip(y.tolist(), targets.tolist(), weight.tolist(), strict=True):
        v = [mpmath.mpf(each) for each in row]
        if name.startswith("categorical") and isinstance(t, int):
            t = [float(t == column) for column in range(len(row))]
        if name == "categorical_cross_entropy_with_logits":
            v = [mpmath.exp(each) / mpmath.fsum(map(mpmath.exp, v)) for each in v]
        elif name == "binary_cross_entropy_with_logits":
            v = [1 / (1 + mpmath.exp(-each)) for each in v]
        for p, each in zip(v, t, strict=True):
            if name == "quadratic":
                part = (p - each) ** 2 / 2
            elif name == "mae":
                part = abs(p - each)
            elif name == "huber":
                size = abs(p - each)
                part = size**2 / 2 if size <= 1 else size - one / 2
            elif name == "poisson":
                part = p - each * mpmath.log(p)
            elif name == "poisson_with_log_rate":
                part = mpmath.exp(p) - each * p
            elif name.startswith("categorical"):
                part = -each * mpmath.log(p)
            else:
                part = -each * mpmath.log(p) - (one - each) * mpmath.log(one - p)
            total += w * part
    return total / len(y)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_formulas(name, classes, weighted):
    classes = classes and name.startswith("categorical")
    arguments = loss_arguments(name, classes, weighted)(np.random.default_rng(2), "float64")
    y, targets, weight = (*arguments, np.ones(5))[:3]
    with mpmath.workdps(50):
        exact = float(exact_loss(name, y, targets, weight))
    np.testing.assert_allclose(getattr(kernels, name)(*arguments), exact, rtol=1e-13)


# Derivatives, against central differences of the kernels above.


@pytest.mark.promise("gradients")
@pytest.mark.parametrize("name", [*ACTIVATIONS, "softmax", "log_softmax"])
def test_backward_kernels_are_central_differences(name):
    z, dy = 2 * np.random.default_rng(1).standard_normal((2, 7, 5))
    assert np.abs(z).min() > 1e-3  # no difference goes across a kink
    forward = getattr(kernels, name)
    dz = getattr(kernels, f"{name}_backward")(dy, *kernel_saved(name, z))
    expected = central_differences(lambda moved: np.sum(dy * forward(moved)), z)
    np.testing.assert_allclose(dz, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.promise("gradients")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_gradients_are_central_differences(name, classes, weighted):
    classes = classes and name.startswith("categorical")
    y, *others = loss_arguments(name, classes, weighted)(np.random.default_rng(2), "float64")
    expected = central_differences(lambda moved: getattr(kernels, name)(moved, *others), y)
    gradient = getattr(kernels, f"{name}_gradient")(y, *others)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9)


@pytest.mark.promise("gradients")
def test_the_affine_kernels_are_the_formula_and_central_differences():
    rng = np.random.default_rng(3)
    x, weight, bias, dz = (rng.standard_normal(s) for s in ((5, 3), (3, 4), (4,), (5, 4)))
    expected = np.einsum("bi,io->bo", x, weight) + bias
    np.testing.assert_allclose(kernels.affine(x, weight, bias), expected, rtol=1e-12)

    def summed(*arguments):
        return np.sum(dz * kernels.affine(*arguments))

    dweight, dbias = kernels.affine_backward(dz, x)
    dx = kernels.affine_input_backward(dz, weight)
    close = {"rtol": 1e-7, "atol": 1e-8}
    np.testing.assert_allclose(
        dx, central_differences(lambda m: summed(m, weight, bias), x), **close
    )
    np.testing.assert_allclose(
        dweight, central_differences(lambda m: summed(x, m, bias), weight), **close
    )
    np.testing.assert_allclose(
        dbias, central_differences(lambda m: summed(x, weight, m), bias), **close
    )


# And against torch's own.


def torch_reference(name):
    """The same function in torch, to differentiate."""
    import torch
    from torch.nn import functional as F

    return {
        "identity": lambda z: z * 1,
        "step": lambda z: (z > 0).to(z.dtype) + 0 * z,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "relu": torch.relu,
        "leaky_relu": F.leaky_relu,
        "leaky_tanh": lambda z: torch.where(z > 0, torch.tanh(z), 0.25 * torch.tanh(z)),
        "elu": F.elu,
        "gelu": lambda z: F.gelu(z, approximate="tanh"),
        "silu": F.silu,
        "softplus": F.softplus,
        "softsign": F.softsign,
        "softmax": lambda z: F.softmax(z, dim=-1),
        "log_softmax": lambda z: F.log_softmax(z, dim=-1),
    }[name]


@pytest.mark.promise("gradients")
@pytest.mark.parametrize("name", [*ACTIVATIONS, "softmax", "log_softmax"])
def test_backward_kernels_are_torchs_derivatives(name):
    require("torch")
    import torch

    rng = np.random.default_rng(1)
    z, dy = 2 * rng.standard_normal((2, 7, 5))
    x = torch.tensor(z, requires_grad=True)
    torch_reference(name)(x).backward(torch.tensor(dy))
    dz = getattr(kernels, f"{name}_backward")(dy, *kernel_saved(name, z))
    np.testing.assert_allclose(dz, x.grad.numpy(), rtol=1e-12, atol=1e-14)


def torch_loss(name, y, targets, weight):
    import torch
    from torch.nn import functional as F

    if name == "quadratic":
        per_sample = 0.5 * ((y - targets) ** 2).sum(1)
    elif name == "mae":
        per_sample = F.l1_loss(y, targets, reduction="none").sum(1)
    elif name == "huber":
        per_sample = F.huber_loss(y, targets, reduction="none").sum(1)
    elif name.startswith("poisson"):
        log = name.endswith("log_rate")
        per_sample = F.poisson_nll_loss(y, targets, log, eps=1e-30, reduction="none").sum(1)
    elif name == "binary_cross_entropy":
        per_sample = F.binary_cross_entropy(y, targets, reduction="none").sum(1)
    elif name == "binary_cross_entropy_with_logits":
        per_sample = F.binary_cross_entropy_with_logits(y, targets, reduction="none").sum(1)
    elif name == "categorical_cross_entropy":
        rows = F.one_hot(targets, y.shape[1]) if targets.ndim == 1 else targets
        per_sample = -(rows * torch.log(y)).sum(1)
    else:
        per_sample = F.cross_entropy(y, targets, reduction="none")
    return (per_sample * weight).mean()


@pytest.mark.promise("gradients")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients_are_torchs(name, classes, weighted):
    require("torch")
    import torch

    if classes and not name.startswith("categorical"):
        classes = False
    arguments = loss_arguments(name, classes, weighted)(np.random.default_rng(2), "float64")
    y = torch.tensor(arguments[0], requires_grad=True)
    weight = torch.tensor(arguments[2]) if weighted else torch.ones(5, dtype=torch.float64)
    loss = torch_loss(name, y, torch.tensor(arguments[1]), weight)
    loss.backward()
    np.testing.assert_allclose(getattr(kernels, name)(*arguments), loss.item(), rtol=1e-12)
    gradient = getattr(kernels, f"{name}_gradient")(*arguments)
    np.testing.assert_allclose(gradient, y.grad.numpy(), rtol=1e-12, atol=1e-15)


# Properties.

rows = st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=5).map(
    np.array
)


@pytest.mark.promise("properties")
@given(rows, st.floats(-1e3, 1e3))
def test_softmax_does_not_notice_a_shift(z, shift):
    np.testing.assert_allclose(kernels.softmax(z + shift), kernels.softmax(z), rtol=1e-9)


@pytest.mark.promise("properties")
@given(rows)
def test_softmax_rows_are_distributions(z):
    y = kernels.softmax(z)
    assert (y >= 0).all()
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-12)


@pytest.mark.promise("properties")
@given(rows)
def test_log_softmax_is_the_logarithm_of_softmax(z):
    np.testing.assert_allclose(np.exp(kernels.log_softmax(z)), kernels.softmax(z), atol=1e-13)


@pytest.mark.promise("properties")
@given(rows)
def test_softmax_of_two_classes_is_the_sigmoid_of_their_difference(z):
    two = z[:, :2]
    expected = kernels.sigmoid(two[:, 0] - two[:, 1])
    np.testing.assert_allclose(kernels.softmax(two)[:, 0], expected, rtol=1e-12)


@pytest.mark.promise("properties")
@given(rows)
def test_sigmoid_is_antisymmetric_about_one_half(z):
    np.testing.assert_allclose(kernels.sigmoid(z) + kernels.sigmoid(-z), 1, rtol=1e-15)


@pytest.mark.promise("properties")
@given(rows)
def test_sigmoid_is_tanh_rescaled(z):
    np.testing.assert_allclose(kernels.sigmoid(z), (1 + np.tanh(z / 2)) / 2, atol=1e-15)


@pytest.mark.promise("properties")
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in NOT_MONOTONIC])
@given(a=st.floats(-1e6, 1e6), b=st.floats(-1e6, 1e6))
def test_activations_never_decrease(name, a, b):
    low, high = getattr(kernels, name)(np.array([min(a, b), max(a, b)]))
    assert low <= high


def test_gelu_is_the_exact_one_to_what_its_docstring_says():
    z = np.linspace(-12, 12, 1201)
    with mpmath.workdps(30):
        exact = [float(mpmath.mpf(v) * mpmath.ncdf(v)) for v in z]
        slopes = [float(mpmath.ncdf(v) + mpmath.mpf(v) * mpmath.npdf(v)) for v in z]
    assert 4.7e-4 < np.abs(kernels.gelu(z) - exact).max() < 4.8e-4
    dz = kernels.gelu_backward(np.ones_like(z), kernels.gelu(z), z)
    assert 8.6e-4 < np.abs(dz - slopes).max() < 8.7e-4


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_is_of_the_last_axis(name, shape):
    z, dy = np.random.default_rng(0).standard_normal((2, *shape))
    forward, backward = (getattr(kernels, name + suffix) for suffix in ("", "_backward"))
    flat, dflat = z.reshape(-1, 4), dy.reshape(-1, 4)
    np.testing.assert_allclose(forward(z), forward(flat).reshape(shape), rtol=1e-15)
    found = backward(dy, forward(z))
    np.testing.assert_allclose(found, backward(dflat, forward(flat)).reshape(shape), rtol=1e-12)


@pytest.mark.promise("properties")
@given(rows)
def test_softmax_gradients_sum_to_zero_over_a_row(z):
    dz = kernels.softmax_backward(z[::-1].copy(), kernels.softmax(z))
    np.testing.assert_allclose(dz.sum(axis=1), 0, atol=1e-12)


@pytest.mark.promise("properties")
@pytest.mark.parametrize("name", [name for name in LOSSES if "poisson" not in name])
@given(seed=st.integers(0, 2**32 - 1))
def test_losses_are_not_negative(name, seed):
    assert (
        getattr(kernels, name)(*loss_arguments(name)(np.random.default_rng(seed), "float64")) >= 0
    )


@pytest.mark.promise("properties")
@pytest.mark.parametrize("name", ["quadratic", "mae", "huber"])
@given(rows)
def test_a_distance_is_zero_exactly_at_the_targets(name, z):
    assert getattr(kernels, name)(z, z) == 0
    assert (getattr(kernels, f"{name}_gradient")(z, z) == 0).all()


@pytest.mark.promise("properties")
@given(rows, rows)
def test_no_rate_fits_counts_better_than_themselves(z, logs):
    size = min(len(z), len(logs))
    counts, rates = np.abs(z[:size]), np.exp(logs[:size] / 10)
    assert kernels.poisson(counts, counts) <= kernels.poisson(rates, counts) + 1e-9
    assert np.abs(kernels.poisson_gradient(rates, rates)).max() <= 1e-15


@pytest.mark.promise("stable")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_rate_of_zero_has_a_finite_loss_and_gradient(library, dtype):
    zero, counts = (library.asarray(np.array([[v]], dtype=dtype)) for v in (0.0, 1e6))
    for kernel in (kernels.poisson, kernels.poisson_gradient):
        assert np.isfinite(to_numpy(kernel(zero, counts))).all()


@pytest.mark.promise("properties")
@given(rows, st.integers(0, 2))
def test_classes_and_one_hot_rows_mean_the_same(z, label):
    classes = np.full(len(z), label)
    one_hot = np.eye(3)[classes]
    for suffix in ("", "_gradient"):
        kernel = getattr(kernels, f"categorical_cross_entropy_with_logits{suffix}")
        np.testing.assert_allclose(kernel(z, classes), kernel(z, one_hot), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64"])
def test_classes_may_be_of_any_integer_dtype(library, dtype):
    """A flat index into 300 x 120 logits fits none of the small ones."""
    rng = np.random.default_rng(0)
    z, classes = rng.standard_normal((300, 120)), rng.integers(0, 120, 300)
    expected = kernels.categorical_cross_entropy_with_logits(z, np.eye(120)[classes])
    with library.backend.active():
        found = kernels.categorical_cross_entropy_with_logits(
            library.asarray(z), library.asarray(classes.astype(dtype))
        )
    np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "slope"), [("relu", 0.0), ("leaky_relu", 0.01), ("leaky_tanh", 0.25), ("step", 0.0)]
)
def test_at_a_kink_the_derivative_is_the_left_one(library, name, slope):
    zero, one = (library.asarray(np.full((1,), value)) for value in (0.0, 1.0))
    backward = getattr(kernels, f"{name}_backward")
    np.testing.assert_array_equal(to_numpy(backward(one, zero)), [slope])


def test_every_activation_has_a_formula_to_be_compared_with():
    assert {*FORMULAS, "softmax"} == set(kernels.ACTIVATIONS)
