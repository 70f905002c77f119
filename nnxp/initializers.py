"""Initial parameters of one layer, drawn on the host so that they are equal on every backend.

Each initializer takes a `numpy.random.Generator`, `fan_in` and `fan_out`, and returns
(weight, bias) as float64 NumPy arrays, (fan_in, fan_out) and (fan_out,).
"""

from collections.abc import Callable
from math import sqrt

import numpy as np

from nnxp import options
from nnxp.linalg import gram_schmidt

Initializer = Callable[[np.random.Generator, int, int], tuple[np.ndarray, np.ndarray]]


def normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights and biases from N(0, 1), the book's first choice, too wide for deep networks.

    Source: Nielsen, chapter 1, network.py.
    """
    return rng.standard_normal((fan_in, fan_out)), rng.standard_normal(fan_out)


def xavier(rng: np.random.Generator, fan_in: int, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights uniform in +-sqrt(6 / (fan_in + fan_out)), biases zero.

    They suit sigmoid, tanh and softmax.

    Source: Glorot and Bengio, Understanding the difficulty of training deep feedforward
    neural networks, 2010, equation 16.
    """
    limit = sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, (fan_in, fan_out)), np.zeros(fan_out)


def he(rng: np.random.Generator, fan_in: int, fan_out: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights from N(0, 2 / fan_in), biases zero; for `RECTIFIERS`.

    Source: He, Zhang, Ren and Sun, Delving deep into rectifiers, 2015.
    """
    deviation = sqrt(2 / fan_in)
    return deviation * rng.standard_normal((fan_in, fan_out)), np.zeros(fan_out)


def orthogonal(
    rng: np.random.Generator, fan_in: int, fan_out: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights with orthonormal columns, or rows if these are fewer; biases zero.

    The Gram-Schmidt basis of a normal matrix is an orthogonal matrix drawn uniformly; it keeps the
    length of vectors.

    Source: Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks, 2014.
    """
    drawn = rng.standard_normal((max(fan_in, fan_out), min(fan_in, fan_out)))
    weight, _ = gram_schmidt(drawn)
    return weight if fan_in >= fan_out else weight.T, np.zeros(fan_out)


INITIALIZERS: dict[str, Initializer] = {
    "normal": normal,
    "xavier": xavier,
    "he": he,
    "orthogonal": orthogonal,
}
RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu")
"""Activations that pass about half of their input, for which `he` keeps the size of signals."""
_NAME = options.name("initializer", ("auto", *INITIALIZERS))
INITIALIZER = options.Rule(
    _NAME.takes,
    lambda value: (
        value if callable(value) and not isinstance(value, type) else _NAME.convert(value)
    ),
)
"""The rule for arguments called `initializer`: a name, or a function like those above."""


def get(name: str | Initializer, activation: str) -> Initializer:
    """Return the initializer called `name`; "auto" is `he` for `RECTIFIERS`, else `xavier`.

    An initializer is returned unchanged.

    Raises:
        InputError: no initializer has this name.
    """
    name = INITIALIZER("initializer", name)
    if not isinstance(name, str):
        return name
    if name == "auto":
        return he if activation in RECTIFIERS else xavier
    return INITIALIZERS[name]
