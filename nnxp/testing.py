"""Checks of your own activations, losses, optimizers and backends: those that nnxp's own pass.

Each raises AssertionError with what is wrong, and returns the libraries that it ran on: NumPy,
array-api-strict (`pip install array-api-strict`), which refuses what the standard does not have,
and those of PyTorch, JAX and CuPy that can be used here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from nnxp import backends, executors, kernels, optimizers
from nnxp.arrays import Array, device, namespace, to_numpy
from nnxp.backends import Backend
from nnxp.errors import BackendError, described
from nnxp.kernels import ACTIVATIONS
from nnxp.nested import leaves
from nnxp.network import MLP
from nnxp.objectives import LOSS, LOSSES
from nnxp.optimizers import Optimizer
from nnxp.registry import Pair
from nnxp.training import train

POINTS = sorted(
    sign * point
    for point in (0.0, 1e-6, 0.1, 0.5, 1.0, 3.0, 5.0, 17.0, 30.0, 80.0, 1e4)
    for sign in (-1.0, 1.0)
)
"""Pre-activations at which an activation must be finite, and precise where a formula is given."""

STRICT = "array-api-strict"
_STRICT_FLAGS: dict[str, dict[str, Any]] = {
    "strict-2023.12": {"api_version": "2023.12"},
    "strict-minimal": {"boolean_indexing": False, "data_dependent_shapes": False,
                       "enabled_extensions": ()},
}  # fmt: skip

_Function = Callable[..., Any]


def check_activation(
    activation: str | Pair,
    formula: Callable[[Any], Any] | None = None,
    *,
    kinks: Sequence[float] = (0.0,),
    ulp: float = 4.0,
) -> list[str]:
    """Check an activation: its values, its derivative, and how it runs.

    - It computes on every library what it does on NumPy, keeps dtype and device, and changes no
      argument.
    - It uses only what the standard has from version 2023.12 on, and never reads a value, so that
      it can be compiled and captured.
    - It is finite at `POINTS`; its backward is its derivative by central differences.
    - A training with it is replayed with the bits of an eager one.

    Args:
        activation: its name, or (forward, backward).
        formula: a function of an `mpmath` number to compare values with, to 50 digits; None for
            no comparison.
        kinks: where the derivative jumps.
        ulp: how many units in the last place a value may be from the formula.

    Raises:
        AssertionError: a check fails.
        InputError: there is no such activation.
        BackendError: array-api-strict is not installed.

    Example:
        >>> import nnxp
        >>> nnxp.testing.check_activation("softsign", kinks=())[0]
        'numpy'
    """
    name = ACTIVATIONS.rule()("activation", activation)
    forward, backward = ACTIVATIONS[name]
    rng = np.random.default_rng(0)
    z, dy = 2 * rng.standard_normal((2, 7, 5))
    for kink in kinks:  # no difference goes across a kink
        z[np.abs(z - kink) < 1e-2] += 0.1

    ran = _check_function(f"forward of {name}", forward, (z,))
    y = forward(z)
    assert y.shape == z.shape, f"forward of {name} returns shape {y.shape} for {z.shape}"
    saved = kernels.saved(backward, y, z)
    _check_function(f"backward of {name}", backward, (dy, *saved))
    numeric = central_differences(lambda moved: np.sum(dy * forward(moved)), z)
    _compare(f"backward of {name} and central differences", backward(dy, *saved), numeric, 1e-7)
    for dtype in (np.float32, np.float64):
        points = np.array(POINTS, dtype=dtype)[:, None]
        with np.errstate(all="ignore"):
            values = forward(points)
        for point, value in zip(points[:, 0], values[:, 0], strict=True):
            assert np.isfinite(value), f"{name} is {value} at {point} in {np.dtype(dtype)}"
        if formula is not None:
            _check_formula(name, formula, points[:, 0], values[:, 0], ulp)
    _check_training(f"activation {name}", hidden=name)
    return ran


def check_loss(loss: str | Pair, y: Any = None, targets: Any = None) -> list[str]:
    """Check a loss: its gradient, its means over the batch and the weights, and how it runs.

    - The value is a 0-d array: the mean over the batch of each sample's loss times its weight.
    - The gradient is that of this mean, by central differences.
    - Both are checked on every library as `check_activation` does, and a training is replayed.

    Args:
        loss: its name, or (value, gradient).
        y, targets: an example, two arrays (samples, outputs), where the loss has a derivative;
            None for numbers in (0.1, 0.9), and for targets whose rows sum to 1.

    Raises:
        AssertionError: a check fails.
        InputError: there is no such loss.
        BackendError: array-api-strict is not installed.

    Example:
        >>> import nnxp
        >>> nnxp.testing.check_loss("quadratic")[0]
        'numpy'
    """
    name = LOSS("loss", loss)
    value, gradient = LOSSES[name]
    rng = np.random.default_rng(0)
    y = 0.8 * rng.random((6, 4)) + 0.1 if y is None else np.asarray(y, dtype=np.float64)
    if targets is None:
        targets = rng.random(y.shape) + 0.05
        targets /= targets.sum(axis=1, keepdims=True)
    targets = np.asarray(targets, dtype=np.float64)
    weight = rng.random(len(y)) + 0.1
    ran: list[str] = []
    for weights in ((), (weight,)):
        said = f"{'weighted ' if weights else ''}{name}"
        found = value(y, targets, *weights)
        assert np.ndim(found) == 0, f"{said} returns shape {np.shape(found)}, not a 0-d array"
        each = [float(value(*(a[i : i + 1] for a in (y, targets)))) for i in range(len(y))]
        mean = np.mean(np.asarray(each) * (weights[0] if weights else 1.0))
        _compare(f"{said} and the mean of its samples' losses", found, mean, 1e-12)
        numeric = central_differences(lambda moved, w=weights: value(moved, targets, *w), y)
        _compare(f"gradient of {said} and central differences",
                 gradient(y, targets, *weights), numeric, 1e-6)  # fmt: skip
        ran = _check_function(said, value, (y, targets, *weights))
        _check_function(f"gradient of {said}", gradient, (y, targets, *weights))
    _check_training(f"loss {name}", loss=name, output="sigmoid", targets="values")
    return ran


def check_optimizer(optimizer: str | Optimizer | Callable[[], Optimizer]) -> list[str]:
    """Check an optimizer: how it runs, and that it learns.

    - It steps on every library as on NumPy; parameters and state keep their dtype.
    - A learning rate of 0 changes nothing; a 0-d array works as a number does.
    - It is hashable, and equal to a copy of itself.
    - A training with it is replayed with the bits of an eager one, and lowers the loss.

    Args:
        optimizer: its name, its class, or an optimizer.

    Raises:
        AssertionError: a check fails.
        InputError: there is no such optimizer.
        BackendError: array-api-strict is not installed.

    Example:
        >>> import nnxp
        >>> nnxp.testing.check_optimizer(nnxp.SGD(0.1, momentum=0.5))[0]
        'numpy'
    """
    made: Optimizer = optimizers.OPTIMIZER("optimizer", optimizer)
    again = copy.deepcopy(made)
    assert made == again, f"{made} is not equal to a copy of itself"
    assert hash(made) == hash(again), f"{made} has another hash than a copy of itself"
    expected, ran = _stepped(made, backends.get("numpy", "cpu"), "float64"), []
    for label, backend in _libraries():
        with backend as opened:
            for dtype in _dtypes(opened):
                found = _stepped(made, opened, dtype)
                tolerance = 1e-10 if dtype == "float64" else 1e-4
                for one, other in zip(found, expected, strict=True):
                    _compare(f"{made} on {label} in {dtype} and on NumPy", one, other, tolerance)
        ran.append(label)
    start = _parameters()
    for rate in (0.0, np.float64(0.0)):
        after, _ = made.update(_copied(start), made.init(_copied(start)), _copied(start), rate)
        for one, other in zip(leaves(after), leaves(start), strict=True):
            assert np.array_equal(one, other), f"{made} changes parameters at learning rate 0"
    losses = _check_training(f"optimizer {made}", optimizer=made, epochs=20)
    assert losses[-1] < losses[0], f"{made} does not lower the loss: {losses[0]} to {losses[-1]}"
    return ran


def check_backend(backend: str | type[Backend], device: str | None = None) -> list[str]:
    """Check a backend: that networks train and predict on it as on NumPy, by every executor.

    Args:
        backend: its name, or its class.
        device: where; None for its own default.

    Returns:
        The executors.

    Raises:
        AssertionError: a check fails.
        InputError, BackendError: there is no such backend, or it cannot be used here.

    Example:
        >>> import nnxp
        >>> nnxp.testing.check_backend("numpy")
        ['replay', 'eager']
    """
    opened = backends.get(backend, device)
    known = executors.names(opened.name, opened.device_name)
    assert copy.deepcopy(opened).describe() == opened.describe(), f"{opened} does not pickle"
    x = np.arange(6.0).reshape(2, 3)
    array = opened.asarray(x, dtype=opened.dtype("float32"))
    assert opened.holds(array), f"{opened} does not hold its own array"
    assert np.array_equal(to_numpy(array), x), f"{opened} changes numbers"
    expected = _trained("numpy:eager")
    for executor in known:
        again = type(opened)(opened.device_name, executor)
        found = _trained(again)
        for one, other in zip(found[0], expected[0], strict=True):
            _compare(f"a network on {again}, executor {executor}, and on NumPy", one, other, 1e-4)
        assert found[2] == [], f"{again} falls back: {found[2][0]}"
    return list(known)


@dataclass(frozen=True)
class _Opened:
    """A library to run on, with a context that limits it."""

    backend: Backend
    flags: dict[str, Any] | None = None

    @contextmanager
    def entered(self) -> Iterator[Backend]:
        with ExitStack() as stack:
            if self.flags is not None:
                stack.enter_context(self.backend.xp.ArrayAPIStrictFlags(**self.flags))
            if self.backend.device_name == "device1":
                stack.enter_context(_unread(self.backend.xp))
            stack.enter_context(self.backend.active())
            yield self.backend


def _libraries() -> Iterator[tuple[str, Any]]:
    """Yield a label and a context that opens a backend, for each library that is here."""
    yield "numpy", _Opened(backends.get("numpy", "cpu")).entered()
    for label, flags in _STRICT_FLAGS.items():
        yield label, _Opened(backends.get(STRICT, "cpu"), flags).entered()
    yield "strict-device1", _Opened(backends.get(STRICT, "device1")).entered()
    for name in ("torch", "jax", "cupy"):
        try:
            opened = backends.get(name)
        except BackendError:
            continue
        yield name, _Opened(opened).entered()


@contextmanager
def _unread(xp: Any) -> Iterator[None]:
    """Let no value of an array leave strict's device1, which stands in for a GPU."""
    kind = type(xp.zeros(1))

    def reads(self: Any, *_: Any, **__: Any) -> Any:
        raise AssertionError("a value is read, which a compiled or captured step cannot do")

    methods = ("__float__", "__bool__", "__int__", "__index__", "__complex__")
    with ExitStack() as stack:
        for method in methods:
            stack.enter_context(mock.patch.object(kind, method, reads))
        yield


def _dtypes(backend: Backend) -> list[str]:
    """Return the dtypes that the library computes in, as it is configured."""
    found = []
    for dtype in ("float32", "float64"):
        try:
            backend.dtype(dtype)
        except BackendError:
            continue
        found.append(dtype)
    return found


def _check_function(what: str, function: _Function, arguments: tuple[np.ndarray, ...]) -> list[str]:
    """Check that a function of arrays computes the same everywhere; return the libraries."""
    before = [argument.copy() for argument in arguments]
    expected = function(*arguments)
    _check_unchanged(what, arguments, before)
    ran = []
    for label, library in _libraries():
        with library as backend:
            for dtype in _dtypes(backend):
                where = f"{what} on {label} in {dtype}"
                given = [
                    backend.xp.asarray(
                        argument.astype(dtype), device=backend.device, copy=True
                    )
                    for argument in arguments
                ]  # fmt: skip
                try:
                    found = function(*given)
                except Exception as error:
                    raise AssertionError(f"{where} fails: {described(error)}") from error
                assert namespace(found) is backend.xp, f"{where} gives an array of another library"
                assert device(found) == device(given[0]), f"{where} leaves the device"
                assert found.dtype == given[0].dtype, f"{where} gives {found.dtype}"
                tolerance = 1e-12 if dtype == "float64" else 2e-5
                _compare(f"{where} and on NumPy", _read(found), expected, tolerance)
                _check_unchanged(where, [_read(array) for array in given],
                                 [array.astype(dtype) for array in before])  # fmt: skip
            if label in ("torch", "jax"):
                _check_traced(what, label, function, arguments, backend)
        ran.append(label)
    return ran


def _check_traced(
    what: str, label: str, function: _Function, arguments: tuple[np.ndarray, ...], backend: Backend
) -> None:
    """Check that it runs where no value exists: on torch's device meta, and while JAX traces."""
    given = [backend.asarray(array.astype(np.float32)) for array in arguments]
    try:
        if label == "jax":
            backend.compiled(function)(*given)
        else:
            function(*(array.to("meta") for array in given))
    except Exception as error:
        raise AssertionError(f"{what} does not compile on {label}: {described(error)}") from error


def _read(array: Array) -> np.ndarray:
    """Read an array, with the methods that `_unread` replaces."""
    return np.array(to_numpy(array))


def _check_unchanged(what: str, arrays: Sequence[Any], before: Sequence[Any]) -> None:
    for number, (array, old) in enumerate(zip(arrays, before, strict=True)):
        assert np.array_equal(array, old), f"{what} changes its argument {number}"


def _compare(what: str, found: Any, expected: Any, tolerance: float) -> None:
    """Raise AssertionError unless two arrays agree to a tolerance, relative to the largest."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, f"{what}: shapes {found.shape} and {expected.shape}"
    difference = np.abs(found - expected)
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    if not (difference <= tolerance * scale).all():
        worst = np.unravel_index(np.argmax(np.nan_to_num(difference, nan=np.inf)), found.shape)
        raise AssertionError(
            f"{what} differ: {found[worst]:.8g} and {expected[worst]:.8g} at "
            f"{tuple(map(int, worst))}"
        )


def central_differences(function: _Function, x: np.ndarray, h: float = 1e-5) -> np.ndarray:
    """(f(x + h) - f(x - h)) / 2h in every element of x; f returns one number.

    Example:
        >>> import numpy as np
        >>> from nnxp.testing import central_differences
        >>> central_differences(lambda x: np.sum(x**3), np.array([1.0, 2.0])).round(6)
        array([ 3., 12.])
    """
    result = np.empty_like(x)
    for place in np.ndindex(x.shape):
        move = np.zeros_like(x)
        move[place] = h
        result[place] = (function(x + move) - function(x - move)) / (2 * h)
    return result


def _check_formula(
    name: str, formula: _Function, points: np.ndarray, values: np.ndarray, ulp: float
) -> None:
    import mpmath

    tiny = np.finfo(points.dtype).smallest_normal
    with mpmath.workdps(250):
        for point, value in zip(points, values, strict=True):
            exact = formula(mpmath.mpf(float(point)))
            unit = max(float(np.spacing(points.dtype.type(abs(float(exact))))), float(tiny))
            off = float(abs(mpmath.mpf(float(value)) - exact) / unit)
            assert off <= ulp, (
                f"{name} at {point} in {points.dtype} is {value}, {off:.3g} units in the last "
                f"place from the formula's {float(exact):.9g}"
            )


def _parameters(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((3, 4)), rng.standard_normal(4)),
        (rng.standard_normal((4, 2)), rng.standard_normal(2)),
    ]


def _copied(layers: Any) -> Any:
    return [tuple(array.copy() for array in layer) for layer in layers]


def _stepped(optimizer: Optimizer, backend: Backend, dtype: str) -> list[np.ndarray]:
    """Return the parameters after three steps, the last with a rate that is an array."""
    kind = backend.dtype(dtype)

    def arrays(layers: Any) -> Any:
        return [
            tuple(backend.asarray(each, dtype=kind, copy=True) for each in layer)
            for layer in layers
        ]

    parameters = arrays(_parameters())
    state = optimizer.init(parameters)
    rates = [0.1, 0.05, backend.asarray(0.1, dtype=kind)]
    for number, rate in enumerate(rates, 1):
        parameters, state = optimizer.update(parameters, state, arrays(_parameters(number)), rate)
    for array in leaves((parameters, state)):
        assert not hasattr(array, "dtype") or array.dtype == kind or array.ndim == 0, (
            f"{optimizer} turns {dtype} into {array.dtype}"
        )
    return [to_numpy(array) for array in leaves(parameters)]


def _trained(
    backend: str | Backend,
    *,
    hidden: str = "tanh",
    output: str = "softmax",
    targets: str = "classes",
    epochs: int = 2,
    **options: Any,
) -> tuple[list[np.ndarray], list[float], list[str]]:
    """Train a small network; return its parameters, its losses and its fall-backs."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((53, 4))
    t: Any = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)
    if targets == "values":
        t = 0.7 * np.eye(3)[t] + 0.1
    network = MLP([4, 5, 5, 3], hidden, output, backend=backend)  # type: ignore[arg-type]
    history = train(network, x, t, epochs=epochs, batch_size=8, **options)
    arrays = [to_numpy(array) for array in leaves(network.parameters)]
    return arrays, [epoch.loss for epoch in history.epochs], history.fallbacks


def _check_training(what: str, **options: Any) -> list[float]:
    """Check that a training on NumPy is replayed with the bits of an eager one; return losses."""
    eager, losses, _ = _trained("numpy:eager", **options)
    replayed, _, fallbacks = _trained("numpy:replay", **options)
    assert fallbacks == [], f"{what}: {fallbacks[0]}"
    for one, other in zip(replayed, eager, strict=True):
        assert np.array_equal(one, other), f"{what}: a replayed training has other bits"
    return losses
