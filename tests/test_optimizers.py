"""Optimizers against their formulas and against torch's, on every backend."""

import numpy as np
import pytest
from conftest import require

from nnxp import (
    MLP,
    SGD,
    Adam,
    AdamW,
    ClipNorm,
    DivergenceError,
    InputError,
    Regularization,
    RMSprop,
    backends,
    optimizers,
    train,
)
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
    "adamw by name": (optimizers.get("adamw", learning_rate=0.02), "AdamW", {"lr": 0.02}),
    "rmsprop": (RMSprop(0.01), "RMSprop", {"lr": 0.01, "alpha": 0.9}),
    "rmsprop with momentum": (
        RMSprop(0.02, rho=0.8, epsilon=1e-6, momentum=0.9, weight_decay=0.1),
        "RMSprop",
        {"lr": 0.02, "alpha": 0.8, "eps": 1e-6, "momentum": 0.9, "weight_decay": 0.1},
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
        elif isinstance(rule, RMSprop):
            g = g + decay * w
            v = rule.rho * v + (1 - rule.rho) * g**2
            m = rule.momentum * m + g / (np.sqrt(v) + rule.epsilon)
            w = w - rate * m
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
        (lambda: RMSprop(rho=1.0), r"rho must be a number in \[0, 1\), not 1"),
        (lambda: RMSprop(epsilon=0), "epsilon must be a finite number above 0"),
        (lambda: ClipNorm(SGD(), 0), "max_norm must be a finite number above 0, not 0"),
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


def norm(layers):
    return sum((to_numpy(array) ** 2).sum() for layer in layers for array in layer) ** 0.5


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
@each_rule
def test_clipping_is_torchs(backend, rule, max_norm):
    require("torch")
    import torch

    ours, *_ = RULES[rule]
    rng = np.random.default_rng(4)
    start, gradients = drawn(rng), [drawn(rng) for _ in range(3)]
    clipped = []
    for gradient in gradients:
        tensors = [torch.zeros(a.shape, dtype=torch.float64) for layer in gradient for a in layer]
        flat = [a for layer in gradient for a in layer]
        for tensor, array in zip(tensors, flat, strict=True):
            tensor.grad = torch.tensor(array)
        found = torch.nn.utils.clip_grad_norm_(tensors, max_norm)
        assert float(found) == pytest.approx(norm(gradient))
        arrays = iter([tensor.grad.numpy() for tensor in tensors])
        clipped.append([tuple(next(arrays) for _ in layer) for layer in gradient])
    expected = updated(ours, backend, start, clipped)
    result = updated(ClipNorm(ours, max_norm), backend, start, gradients)
    for layer, reference in zip(result, expected, strict=True):
        for array, other in zip(layer, reference, strict=True):
            # torch adds 1e-6 to the norm that it divides by.
            np.testing.assert_allclose(to_numpy(array), to_numpy(other), rtol=1e-5, atol=1e-6)


def test_a_clipped_step_is_as_long_as_it_may_be(backend):
    rng = np.random.default_rng(5)
    start, gradient = drawn(rng), drawn(rng)
    for max_norm in (0.25, 2 * norm(gradient)):
        after = updated(ClipNorm(SGD(1.0), max_norm), backend, start, [gradient])
        step = [
            tuple(to_numpy(new) - old for new, old in zip(*layers, strict=True))
            for layers in zip(after, start, strict=True)
        ]
        assert norm(step) == pytest.approx(min(max_norm, norm(gradient)), rel=1e-12)


@pytest.mark.parametrize("executor", ["eager", None])
def test_training_clips_by_its_option_whatever_the_optimizer(backend, executor):
    rng = np.random.default_rng(6)
    x, t = rng.standard_normal((12, 3)), 1e3 * rng.standard_normal((12, 1))
    if executor:
        backend = backends.get(backend.name, backend.device_name, executor)
    moved = []
    for options in ({}, {"clip_norm": 0.1}, {"optimizer": ClipNorm(SGD(1e-3), 0.1)}):
        network = MLP([3, 4, 1], "tanh", "identity", backend=backend)
        before = [[to_numpy(a).copy() for a in layer] for layer in network.parameters]
        history = train(
            network, x, t, scale_targets=False, epochs=1, batch_size=12,
            **{"optimizer": SGD(1e-3)} | options,
        )  # fmt: skip
        assert history.fallbacks == []
        after = [[to_numpy(a) for a in layer] for layer in network.parameters]
        moved.append(
            norm(
                [
                    [a - b for a, b in zip(*both, strict=True)]
                    for both in zip(after, before, strict=True)
                ]
            )
        )
    free, clipped, by_object = moved
    assert free > 1e-2
    assert clipped == pytest.approx(1e-4, rel=1e-3)
    assert by_object == clipped


def test_penalties_are_clipped_too():
    network = MLP([2, 1], output="identity", backend="numpy", dtype="float64")
    before = network.parameters[0][0].copy()
    train(
        network, np.zeros((4, 2)), np.zeros(4), optimizer=SGD(1.0), epochs=1, batch_size=4,
        regularization=Regularization(l2=50.0), clip_norm=0.5,
    )  # fmt: skip
    assert np.linalg.norm(network.parameters[0][0] - before) == pytest.approx(0.5)


def test_a_norm_that_overflows_ends_training():
    network = MLP([1, 1], output="identity", backend="numpy")
    with pytest.raises(DivergenceError, match="lower the learning rate"):
        train(
            network, [[1e18]], [[-1e18]], scale_targets=False, optimizer=SGD(0.1), epochs=1,
            batch_size=1, clip_norm=1.0,
        )  # fmt: skip


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimizer_learns_by_name(name):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((200, 4))
    t = (x[:, 0] + x[:, 1] > 0).astype(int)
    network = MLP([4, 8, 2], backend="numpy")
    history = train(network, x, t, optimizer=name, epochs=60, batch_size=10, schedule="cosine")
    assert history.epochs[-1].loss < 0.5 * history.epochs[0].loss
    assert network.evaluate(x, t)["accuracy"] > 0.9


def test_adamw_is_adam_with_decay():
    assert optimizers.get("adamw") == AdamW() != Adam()
    assert optimizers.get("adamw", weight_decay=0.2).weight_decay == 0.2


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
