"""Optimizers against their formulas and against torch's, on every backend."""

import numpy as np
import pytest
from conftest import require

from nnxp import SGD, Adam, InputError, optimizers
from nnxp.arrays import to_numpy

RULES = {
    "sgd": (SGD(0.1), "SGD", {"lr": 0.1}),
    "weight decay": (SGD(0.1, weight_decay=0.3), "SGD", {"lr": 0.1, "weight_decay": 0.3}),
    "momentum": (SGD(0.1, momentum=0.9), "SGD", {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (
        SGD(0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
        "SGD",
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ),
    "adam": (Adam(0.01), "Adam", {"lr": 0.01}),
    "adamw": (
        Adam(0.02, beta1=0.8, beta2=0.99, epsilon=1e-6, weight_decay=0.1),
        "AdamW",
        {"lr": 0.02, "betas": (0.8, 0.99), "eps": 1e-6, "weight_decay": 0.1},
    ),
}
each_rule = pytest.mark.parametrize("rule", RULES)
SHAPES = [((3, 4), (4,)), ((4, 2), (2,))]


def drawn(rng):
    return [tuple(rng.standard_normal(shape) for shape in layer) for layer in SHAPES]


def as_arrays(backend, layers):
    dtype = backend.dtype("float64")
    return [tuple(backend.asarray(a, dtype=dtype, copy=True) for a in layer) for layer in layers]


def by_hand(rule, w, gradients, rate, decays):
    """An optimizer's steps on one array as the papers have them; `decays` for weights."""
    decay = rule.weight_decay if decays else 0.0
    v, m = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients, 1):
        if isinstance(rule, Adam):
            m = rule.beta1 * m + (1 - rule.beta1) * g
            v = rule.beta2 * v + (1 - rule.beta2) * g**2
            mean, square = m / (1 - rule.beta1**t), v / (1 - rule.beta2**t)
            w = w - rate * decay * w - rate * mean / (np.sqrt(square) + rule.epsilon)
        else:
            g = g + decay * w
            v = rule.momentum * v + g
            w = w - rate * (g + rule.momentum * v if rule.nesterov else v)
    return w


def updated(ours, backend, start, gradients):
    """The parameters after a step of `ours` along each of the gradients."""
    parameters = as_arrays(backend, start)
    with backend.active():
        state = ours.init(parameters)
        for gradient in gradients:
            step = as_arrays(backend, gradient)
            parameters, state = ours.update(parameters, state, step, ours.learning_rate)
    return parameters


@each_rule
def test_steps_are_the_formulas(backend, rule):
    ours, *_ = RULES[rule]
    rng = np.random.default_rng(0)
    start, gradients = drawn(rng), [drawn(rng) for _ in range(5)]
    parameters = updated(ours, backend, start, gradients)
    for i, layer in enumerate(parameters):
        for j, array in enumerate(layer):
            own = [gradient[i][j] for gradient in gradients]
            expected = by_hand(ours, start[i][j], own, ours.learning_rate, decays=j == 0)
            np.testing.assert_allclose(to_numpy(array), expected, rtol=1e-11, atol=1e-13)


@each_rule
def test_steps_are_torchs(backend, rule):
    require("torch")
    import torch

    ours, name, options = RULES[rule]
    rng = np.random.default_rng(0)
    start, gradients = drawn(rng), [drawn(rng) for _ in range(5)]

    # Weight decay is for weights alone: torch is told so by a parameter group.
    tensors = [tuple(torch.tensor(a, requires_grad=True) for a in layer) for layer in start]
    theirs = getattr(torch.optim, name)(
        [
            {"params": [weight for weight, _ in tensors]},
            {"params": [bias for _, bias in tensors], "weight_decay": 0.0},
        ],
        **options,
    )
    parameters = updated(ours, backend, start, gradients)
    for gradient in gradients:
        for layer, layer_gradient in zip(tensors, gradient, strict=True):
            for tensor, array in zip(layer, layer_gradient, strict=True):
                tensor.grad = torch.tensor(array)
        theirs.step()
    for layer, reference in zip(parameters, tensors, strict=True):
        for array, tensor in zip(layer, reference, strict=True):
            np.testing.assert_allclose(to_numpy(array), tensor.detach(), rtol=1e-11, atol=1e-13)


@each_rule
def test_a_learning_rate_of_zero_changes_nothing(rule):
    ours, *_ = RULES[rule]
    rng = np.random.default_rng(1)
    start = drawn(rng)
    parameters = [tuple(a.copy() for a in layer) for layer in start]
    parameters, _ = ours.update(parameters, ours.init(parameters), drawn(rng), 0.0)
    for layer, before in zip(parameters, start, strict=True):
        for array, old in zip(layer, before, strict=True):
            np.testing.assert_array_equal(array, old)


@each_rule
def test_the_learning_rate_may_be_an_array(backend, rule):
    """So that a compiled step can follow a schedule."""
    ours, *_ = RULES[rule]
    rng = np.random.default_rng(2)
    start, gradient = drawn(rng), drawn(rng)
    results = []
    for rate in (0.05, backend.asarray(0.05, dtype=backend.dtype("float64"))):
        parameters = as_arrays(backend, start)
        with backend.active():
            state = ours.init(parameters)
            parameters, _ = ours.update(parameters, state, as_arrays(backend, gradient), rate)
        results.append([to_numpy(a) for layer in parameters for a in layer])
    for number, array in zip(*results, strict=True):
        np.testing.assert_allclose(array, number, rtol=1e-14)


@each_rule
def test_parameters_and_state_keep_their_dtype(backend, rule):
    """A float32 state that turns float64 would compile anew, or be refused by a scan."""
    ours, *_ = RULES[rule]
    dtype = backend.dtype("float32")
    rng = np.random.default_rng(3)
    parameters, gradients = (
        [tuple(backend.asarray(a, dtype=dtype, copy=True) for a in layer) for layer in drawn(rng)]
        for _ in range(2)
    )
    with backend.active():
        state = ours.init(parameters)
        parameters, state = ours.update(parameters, state, gradients, 0.1)

    def arrays(nested):
        for item in nested:
            if isinstance(item, (list, tuple)):
                yield from arrays(item)
            else:
                yield item

    assert all(array.dtype == dtype for array in arrays([parameters, state]))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: SGD(-0.1), "learning_rate must be a finite number, 0 or more, not -0.1"),
        (lambda: SGD(float("nan")), "not nan"),
        (lambda: SGD("fast"), "learning_rate must be a finite number, 0 or more, not 'fast'"),
        (lambda: SGD(0.1, momentum=1.0), r"momentum must be a number in \[0, 1\), not 1"),
        (lambda: SGD(0.1, weight_decay=-1), "weight_decay must be a finite number, 0 or more"),
        (lambda: SGD(float("inf")), "learning_rate must be a finite number, 0 or more, not inf"),
        (lambda: SGD(0.1, momentum=True), "momentum must be a number.* not True"),
        (lambda: SGD(0.1, 0.9, nesterov=1), "nesterov must be True or False, not 1"),
        (lambda: SGD(0.1, nesterov=True), "nesterov needs momentum"),
        (lambda: Adam(beta1=1.0), "beta1"),
        (lambda: Adam(beta2=-0.1), "beta2"),
        (lambda: Adam(epsilon=0), "epsilon must be a finite number above 0"),
        (lambda: optimizers.get("adma"), "did you mean 'adam'"),
        (
            lambda: optimizers.get("adam", momentum=0.9),
            "adam has no momentum; it takes learning_rate",
        ),
    ],
)
def test_hyper_parameters_are_checked(make, says):
    with pytest.raises(InputError, match=says):
        make()


def test_numpy_scalars_become_python_numbers():
    """A float64 scalar would upcast float32 parameters on NumPy and is refused elsewhere."""
    assert type(SGD(np.float64(0.1)).learning_rate) is float
    assert SGD(np.float64(0.1)) == SGD(0.1)


def test_a_rate_in_the_velocity_stays_with_the_steps_that_had_it(backend):
    """v <- m v + rate g, as Keras and scikit-learn: the rate falls from 0.1 to 0.01."""
    rng = np.random.default_rng(0)
    start, gradients, rates = drawn(rng), [drawn(rng) for _ in range(3)], [0.1, 0.1, 0.01]
    for nesterov in (False, True):
        ours = SGD(0.1, momentum=0.9, nesterov=nesterov, rate_in_velocity=True)
        parameters = as_arrays(backend, start)
        with backend.active():
            state = ours.init(parameters)
            for gradient, rate in zip(gradients, rates, strict=True):
                step = as_arrays(backend, gradient)
                parameters, state = ours.update(parameters, state, step, rate)
        w, v = start[0][0], 0.0
        for gradient, rate in zip(gradients, rates, strict=True):
            v = 0.9 * v + rate * gradient[0][0]
            w = w - (0.9 * v + rate * gradient[0][0] if nesterov else v)
        np.testing.assert_allclose(to_numpy(parameters[0][0]), w, rtol=1e-12)


def test_a_rate_in_the_velocity_is_the_same_at_a_constant_rate(backend):
    rng = np.random.default_rng(0)
    start, gradients = drawn(rng), [drawn(rng) for _ in range(4)]
    for options in (
        {},
        {"momentum": 0.9, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True},
    ):
        outside, inside = (
            updated(SGD(0.1, **options, rate_in_velocity=where), backend, start, gradients)
            for where in (False, True)
        )
        for first, second in zip(outside, inside, strict=True):
            for one, other in zip(first, second, strict=True):
                np.testing.assert_allclose(to_numpy(one), to_numpy(other), rtol=1e-12)


def test_a_raw_epsilon_is_that_before_section_2_1(backend):
    """So large an epsilon that it matters."""
    rng = np.random.default_rng(0)
    start, gradients = drawn(rng), [drawn(rng) for _ in range(4)]
    ours = Adam(0.01, epsilon=0.5, raw_epsilon=True)
    parameters = updated(ours, backend, start, gradients)
    w, m, v = start[0][0], 0.0, 0.0
    for t, (layer, _) in enumerate(gradients, 1):
        m, v = 0.9 * m + 0.1 * layer[0], 0.999 * v + 0.001 * layer[0] ** 2
        w = w - 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 0.5)
    np.testing.assert_allclose(to_numpy(parameters[0][0]), w, rtol=1e-12)
