"""The perceptron: one neuron with a threshold, and the rule by which it learns."""

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
    """One correction: towards x where the neuron should have fired, away where it should not.

        y = step(x . w + b)        w += rate (t - y) x        b += rate (t - y)

    A step as every backend runs it (`nnxp.executors.Step`), on a batch of one.

    Args:
        state: ((weight, bias),), (features,) and ().
        batch: (x, t), (1, features) and (1,), t being 0 or 1.
        learning_rate: of the correction.

    Returns:
        The new state, and the number of errors, a 0-d array: 0 or 1.

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
    """A neuron that fires, y = 1, where x . weight + bias > 0, and rests, y = 0, elsewhere.

    It fires where x . weight passes the threshold -bias.

    Args:
        features: inputs.
        backend: "numpy", "cupy", "torch", "jax", "array-api-strict", "auto", or an open
            backend; None for `$NNXP_BACKEND`, else "numpy".
        device: "cpu", "cuda", "cuda:1", ...; None for `$NNXP_DEVICE`, else the backend's own.
        dtype: "float32" or "float64".

    Raises:
        InputError: a size or a name is not valid.
        BackendError: the backend or the device cannot be used here.

    Attributes:
        weight: (features,), on the device; zero before training.
        bias: (), likewise.

    Example:
        >>> from nnxp.perceptron import Perceptron
        >>> neuron = Perceptron(2)
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
        """Correct the weights sample by sample, in the order given, until none is wrong.

        Starts from the weights as they are. If they are zero, the learning rate scales them
        and changes nothing else. If some hyperplane separates the classes, finitely many
        corrections find one, at most (R / margin)^2 from zero, R being the length of the
        longest (x, 1). Otherwise the weights often come back to what they were at the end of an
        earlier epoch; from there the rule would go round for ever, so it stops. That proves that
        no hyperplane exists: the corrections of the round sum to zero exactly, and with a
        separating hyperplane each would have had a positive product.

        One value per weight is read from the device per epoch.

        Args:
            x: (samples, features), an array of any library.
            t: 0 or 1 for each sample, (samples,).
            learning_rate: more than 0.
            epochs: how often to go through the data at most.

        Returns:
            How many epochs it took, the last one, which went through all the data without an
            error, included: 1 if the weights were right from the start.

        Raises:
            NotSeparableError: no hyperplane separates the classes, or none was found in
                `epochs`; the message says which. The weights are those after the last epoch.
            InputError: a shape, target or option is not valid; nothing is trained.
            DivergenceError: the weights are no longer finite.

        Source: Rosenblatt 1958; the bound: Novikoff, On convergence proofs on perceptrons, 1962;
        the sum of zero: Gordan's theorem of the alternative, 1873.
        """
        rate = learning_rate
        x = self._checked(x)
        samples = x.shape[0]
        t = _zeros_and_ones(checks.targets(t, "quadratic", samples, 1)[:, 0])
        backend = self.backend
        data = (x, backend.asarray(t, dtype=x.dtype))
        # By chunks: what captures them in a graph must not capture all of the data in one.
        orders = [
            backend.asarray(rows, dtype=index_dtype(backend.xp))
            for rows in batches.chunks(np.arange(samples), 1)
        ]
        run = backend.runner(perceptron_rule)
        seen: dict[bytes, int] = {}
        for epoch in range(1, epochs + 1):
            # A runner may write into the state it is given, so it is given copies.
            own = tuple(backend.asarray(array, copy=True) for array in (self.weight, self.bias))
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
                round_ = _corrections(weights, to_numpy(x), t, rate, epoch - before)
                raise NotSeparableError(
                    f"the weights after epoch {epoch} are those after epoch {before}, "
                    "so the rule would go round for ever: "
                    + (
                        "no hyperplane separates the classes; nnxp.MLP with a hidden layer can"
                        if _sums_to_zero(round_)
                        else f"{self.dtype} is too coarse for this x; standardise its columns"
                    )
                )
        raise NotSeparableError(
            f"not separated in {epochs} epochs, {errors:.0f} of {samples} samples were wrong in "
            "the last: give it more epochs, or, if no hyperplane can do it, use nnxp.MLP with a "
            "hidden layer"
        )

    def predict(self, x: Any) -> Array:
        """Whether the neuron fires for each row: 0 or 1, (samples,), int32, of x's library.

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
            host = np.array(to_numpy(y))  # a copy: JAX's cannot be written to, and PyTorch minds
        return namespace(x).asarray(host, device=device(x)) if is_array(x) else host

    def __repr__(self) -> str:
        return f"<Perceptron of {self.features}, {self.dtype}, {self.backend.describe()}>"

    def _checked(self, x: Any) -> Array:
        dtype = self.backend.dtype(self.dtype)
        return checks.features(x, self.features, self.backend, dtype)

    def _read(self, counted: list[Array]) -> np.ndarray:
        """The weights, the bias and the numbers of errors: one host read."""
        xp = self.backend.xp
        with self.backend.active():
            return to_numpy(xp.concat([self.weight, xp.stack([self.bias, *counted])]))


def _corrections(
    weight: np.ndarray, x: np.ndarray, t: np.ndarray, learning_rate: float, epochs: int
) -> np.ndarray:
    """Every (t - y) (x, 1) of `epochs` more epochs of the rule, on the host: one row for each."""
    x = np.column_stack((x, np.ones(len(x), x.dtype)))
    made = [np.zeros_like(weight)]
    with np.errstate(all="ignore"):
        for _ in range(epochs):
            for row, target in zip(x, t, strict=True):
                error = int(target) - int(row @ weight > 0)
                if error:
                    made.append(error * row)
                    weight = weight + float(learning_rate) * made[-1]
    return np.stack(made[1:] or made)


def _sums_to_zero(rows: np.ndarray) -> bool:
    """Whether the rows sum to zero exactly: with no rounding, which `fsum` has none of."""
    return all(math.fsum(column) == 0 for column in rows.T)


def _zeros_and_ones(t: np.ndarray) -> np.ndarray:
    wrong = (t != 0) & (t != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"targets[{row}] is {t[row]:g}: a perceptron takes 0 and 1; "
            "of -1 and 1, for example, t > 0 makes them"
        )
    return t
