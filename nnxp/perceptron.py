"""The perceptron, one neuron with a threshold, and its learning rule."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nnxp import backends, options
from nnxp.arrays import Array, device, index_dtype, is_array, namespace, to_numpy
from nnxp.data import batches, checks
from nnxp.errors import DivergenceError, InputError, NotSeparableError
from nnxp.executors import State
from nnxp.kernels import affine, step
from nnxp.names import DTypeName


def perceptron_rule(
    state: State, batch: tuple[Array, ...], learning_rate: Any
) -> tuple[State, Array]:
    """Correct the weights on one sample, if its output is wrong.

        y = step(x . w + b)        w += rate (t - y) x        b += rate (t - y)

    This is a `nnxp.executors.Step` for a batch of one.

    Args:
        state: ((weight, bias),) of shapes (features,) and ().
        batch: (x, t) of shapes (1, features) and (1,); t is 0 or 1.
        learning_rate: the factor of the correction.

    Returns:
        The new state, and the number of errors, 0 or 1, a 0-d array.

    Source: Rosenblatt, The perceptron, Psychological Review 65, 1958.
    """
    ((weight, bias),) = state
    x, t = batch
    xp = namespace(x)
    error = t - step(affine(x, weight, bias))
    corrected = (
        weight + learning_rate * (error @ x),
        bias + learning_rate * xp.sum(error),
    )
    return (corrected,), xp.sum(xp.abs(error))


class Perceptron:
    """A neuron with output 1 where x . weight + bias > 0, and 0 elsewhere.

    Its threshold for x . weight is -bias.

    Args:
        features: the number of inputs, 1 or more.
        backend: "numpy", "cupy", "torch", "jax", "array-api-strict", "auto", or an open
            backend; None for `$NNXP_BACKEND`, else "numpy".
        device: "cpu", "cuda", "cuda:1", ...; None for `$NNXP_DEVICE`, else the backend's own.
        dtype: "float32" or "float64".

    Raises:
        InputError: a size or a name is not valid.
        BackendError: the backend or the device cannot be used here.

    Attributes:
        weight: (features,), on the device; zero before training.
        bias: (), on the device; zero before training.

    Example:
        >>> import nnxp
        >>> neuron = nnxp.Perceptron(2)
        >>> neuron.train([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 0, 0, 1])
        6
        >>> neuron.predict([[0, 1], [1, 1]])
        array([0, 1], dtype=int32)
    """

    @options.checked(
        features=options.whole(1),
        backend=backends.BACKEND,
        device=backends.DEVICE,
        dtype=options.DTYPE,
    )
    def __init__(
        self,
        features: int,
        *,
        backend: str | backends.Backend | None = None,
        device: str | None = None,
        dtype: DTypeName = "float32",
    ) -> None:
        self.features = features
        self.backend = backends.get(backend, device)
        self.dtype = dtype
        xp = self.backend.xp
        kind = {"dtype": self.backend.dtype(dtype), "device": self.backend.device}
        with self.backend.active():
            self.weight = xp.zeros(self.features, **kind)
            self.bias = xp.zeros((), **kind)

    @options.checked(learning_rate=options.POSITIVE, epochs=options.whole(1))
    def train(self, x: Any, t: Any, *, learning_rate: float = 1.0, epochs: int = 1000) -> int:
        """Correct the weights sample by sample, in the given order, until no output is wrong.

        Training starts from the present weights. If they are zero, the learning rate only scales
        the result. If some hyperplane separates the classes, finitely many corrections find one:
        at most (R / margin)^2 from zero weights, where R is the length of the longest (x, 1).
        Otherwise the weights often return to their values after an earlier epoch. The rule would
        then repeat the same cycle for ever, so it stops. This proves that no hyperplane exists:
        the corrections of the cycle sum to exactly zero, but the product of each with the weights
        of a separating hyperplane would be positive.

        Each epoch reads the weights, the bias and the numbers of errors from the device once.

        Args:
            x: (samples, features), an array of any library.
            t: 0 or 1 for each sample, (samples,).
            learning_rate: positive.
            epochs: the largest number of passes over the data, 1 or more.

        Returns:
            The number of epochs, including the last one, which had no error; 1 if the weights
            were right from the start.

        Raises:
            NotSeparableError: no hyperplane separates the classes, or none was found in
                `epochs` epochs, or the dtype is too coarse to tell; the message says which. The
                neuron keeps the weights after the last epoch.
            InputError: a shape, target or option is not valid; nothing is trained.
            DivergenceError: the weights are no longer finite.

        Source: Rosenblatt 1958; for the bound, Novikoff, On convergence proofs on perceptrons,
        1962; for the sum of zero, Gordan's theorem of the alternative, 1873.
        """
        rate = learning_rate
        x = self._checked(x)
        samples = x.shape[0]
        t = _check_zeros_and_ones(checks.targets(t, "quadratic", samples, 1)[:, 0])
        backend = self.backend
        data = (x, backend.asarray(t, dtype=x.dtype))
        # Use chunks of steps: a CUDA graph must not capture the whole data set.
        orders = [
            backend.asarray(rows, dtype=index_dtype(backend.xp))
            for rows in batches.chunks(np.arange(samples), 1)
        ]
        run = backend.runner(perceptron_rule)
        seen: dict[bytes, int] = {}
        for epoch in range(1, epochs + 1):
            # A runner may write into its state, so it gets copies.
            own = backend.copied((self.weight, self.bias))
            state, counted = (own,), []
            for order in orders:
                state, count = run(state, data, order, rate)
                counted.append(count)
            ((self.weight, self.bias),) = state
            values = self._read(counted)
            weights, errors = values[: self.features + 1], values[self.features + 1 :].sum()
            if errors == 0:
                return epoch
            if not np.isfinite(weights).all():
                raise DivergenceError(
                    f"the weights are no longer finite in epoch {epoch}: "
                    f"lower the learning rate ({rate:g}), or scale x"
                )
            before = seen.setdefault(weights.tobytes(), epoch)
            if before < epoch:
                cycle = _corrections(weights, to_numpy(x), t, rate, epoch - before)
                raise NotSeparableError(
                    f"the weights after epoch {epoch} are those after epoch {before}, "
                    "so the rule would go round for ever: "
                    + (
                        "no hyperplane separates the classes; nnxp.MLP with a hidden layer can"
                        if _sums_to_zero(cycle)
                        else f"{self.dtype} is too coarse for this x; standardise its columns"
                    )
                )
        raise NotSeparableError(
            f"not separated in {epochs} epochs, {errors:.0f} of {samples} samples were wrong in "
            "the last: give it more epochs, or, if no hyperplane can do it, use nnxp.MLP with a "
            "hidden layer"
        )

    def predict(self, x: Any) -> Array:
        """Return the output for each row, 0 or 1, (samples,), int32, in x's array library.

        Raises:
            InputError: the shape does not fit, or a value or x . w + b is not finite.
        """
        checked = self._checked(x)
        with self.backend.active():
            z = affine(checked, self.weight, self.bias)
            checks.check_outputs(z)
            y = step(z)
            y = self.backend.xp.astype(y, self.backend.xp.int32)
            if is_array(x) and namespace(x) is self.backend.xp and device(x) == device(y):
                return y
            host = np.array(to_numpy(y))  # a copy: JAX's are read-only, and PyTorch warns of it
        return namespace(x).asarray(host, device=device(x)) if is_array(x) else host

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # CuPy unpickles arrays onto the current device.
        self.weight, self.bias = map(self.backend.asarray, (self.weight, self.bias))

    def __repr__(self) -> str:
        return f"<Perceptron of {self.features}, {self.dtype}, {self.backend.describe()}>"

    def _checked(self, x: Any) -> Array:
        dtype = self.backend.dtype(self.dtype)
        return checks.features(x, self.features, self.backend, dtype)

    def _read(self, counted: list[Array]) -> np.ndarray:
        """Read the weights, the bias and the numbers of errors in one transfer."""
        xp = self.backend.xp
        with self.backend.active():
            return to_numpy(xp.concat([self.weight, xp.stack([self.bias, *counted])]))


def _corrections(
    weight: np.ndarray, x: np.ndarray, t: np.ndarray, learning_rate: float, epochs: int
) -> np.ndarray:
    """Return each correction (t - y) (x, 1) of `epochs` more epochs, a row each, on the host."""
    x = np.column_stack((x, np.ones(len(x), x.dtype)))
    corrections = [np.zeros_like(weight)]
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            for row, target in zip(x, t, strict=True):
                error = int(target) - int(row @ weight > 0)
                if error:
                    corrections.append(error * row)
                    weight = weight + float(learning_rate) * corrections[-1]
    return np.stack(corrections[1:] or corrections)


def _sums_to_zero(rows: np.ndarray) -> bool:
    """Return whether the rows sum to exactly zero; `fsum` rounds only the final sum."""
    return all(math.fsum(column) == 0 for column in rows.T)


def _check_zeros_and_ones(t: np.ndarray) -> np.ndarray:
    """Return `t`, or raise InputError if a value is not 0 or 1."""
    wrong = (t != 0) & (t != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"targets[{row}] is {t[row]:g}: a perceptron takes 0 and 1; "
            "of -1 and 1, for example, t > 0 makes them"
        )
    return t
