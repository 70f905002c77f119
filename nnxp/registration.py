"""Functions that give an activation, a loss, an optimizer or a backend a name.

A name that is registered works wherever nnxp's own do, in this process. To have it in every
process, and on the command line, announce it by an entry point; see `nnxp.registry`.
"""

from __future__ import annotations

from collections.abc import Callable

from nnxp.arrays import Array
from nnxp.backends import BACKENDS, Backend
from nnxp.errors import InputError
from nnxp.kernels import ACTIVATIONS
from nnxp.objectives import LOSSES
from nnxp.optimizers import OPTIMIZERS, Optimizer
from nnxp.registry import Pair


def register_activation(
    name: str, forward: Callable[[Array], Array], backward: Callable[..., Array]
) -> Pair:
    """Give an activation a name, or replace the one that was registered under it.

    `nnxp.testing.check_activation(name)` runs what nnxp's own kernels must pass.

    Args:
        name: lower-case letters and digits, joined by "_".
        forward: forward(z) returns y, of z's shape and dtype, and leaves z as it is.
        backward: backward(dy, y), or backward(dy, y, z) if the derivative needs the pre-activation,
            returns dz.

    Returns:
        (forward, backward), which is taken wherever the name is.

    Raises:
        InputError: the name is not valid or is one of nnxp's own, or one of the two is no function.

    Example:
        >>> import nnxp
        >>> from nnxp.arrays import namespace
        >>> _ = nnxp.register_activation(
        ...     "gaussian",
        ...     lambda z: namespace(z).exp(-z * z),
        ...     lambda dy, y, z: -2.0 * dy * y * z,
        ... )
        >>> nnxp.MLP([2, 3, 1], "gaussian", "identity").hidden
        ('gaussian',)
    """
    ACTIVATIONS.register(name, (forward, backward))
    return forward, backward


def register_loss(name: str, value: Callable[..., Array], gradient: Callable[..., Array]) -> Pair:
    """Give a loss a name, or replace the one that was registered under it.

    `nnxp.testing.check_loss(name)` runs what nnxp's own kernels must pass.

    Args:
        name: lower-case letters and digits, joined by "_".
        value: value(y, targets, sample_weight=None) returns the mean over the batch of each
            sample's loss times its weight, a 0-d array. y and targets are (batch, outputs),
            sample_weight is (batch,). Classes come as one-hot rows.
        gradient: gradient(y, targets, sample_weight=None) returns the gradient of this mean with
            respect to y, (batch, outputs).

    Returns:
        (value, gradient), which is taken wherever the name is.

    Raises:
        InputError: the name is not valid or is one of nnxp's own, or one of the two is no function.

    Example:
        >>> import nnxp
        >>> from nnxp.arrays import namespace
        >>> def value(y, t, sample_weight=None):
        ...     each = namespace(y).sum((y - t) ** 4, axis=1)
        ...     return namespace(y).mean(each if sample_weight is None else each * sample_weight)
        >>> def gradient(y, t, sample_weight=None):
        ...     dy = 4 * (y - t) ** 3 / y.shape[0]
        ...     return dy if sample_weight is None else dy * sample_weight[:, None]
        >>> _ = nnxp.register_loss("fourth_power", value, gradient)
        >>> network = nnxp.MLP([1, 1], output="identity", parameters=[([[1.0]], [0.0])])
        >>> network.evaluate([[2.0]], [[0.0]], loss="fourth_power")["loss"]
        16.0
    """
    LOSSES.register(name, (value, gradient))
    return value, gradient


def register_optimizer(name: str, make: Callable[..., Optimizer]) -> Callable[..., Optimizer]:
    """Give an optimizer a name, or replace the one that was registered under it.

    `nnxp.testing.check_optimizer(name)` runs what nnxp's own optimizers must pass.

    Args:
        name: lower-case letters and digits, joined by "_".
        make: a class, or a function of the hyper-parameters by name, each with a default, that
            returns a `nnxp.optimizers.Optimizer`.

    Returns:
        `make`, so that this also works on a class.

    Raises:
        InputError: the name is not valid or is one of nnxp's own, or `make` cannot be called.

    Example:
        >>> from dataclasses import dataclass
        >>> import nnxp
        >>> from nnxp.arrays import namespace
        >>> @dataclass(frozen=True)
        ... class SignDescent:
        ...     learning_rate: float = 0.01
        ...     is_plain = False
        ...
        ...     def init(self, parameters):
        ...         return []
        ...
        ...     def update(self, parameters, state, gradients, learning_rate):
        ...         def moved(w, g):
        ...             return w - learning_rate * namespace(w).sign(g)
        ...
        ...         layers = zip(parameters, gradients)
        ...         return [tuple(map(moved, *layer)) for layer in layers], state
        >>> _ = nnxp.register_optimizer("sign_descent", SignDescent)
        >>> network = nnxp.MLP([2, 1], output="sigmoid")
        >>> x = [[0, 1], [1, 0]]
        >>> history = nnxp.train(
        ...     network, x, [0, 1], optimizer="sign_descent", epochs=200, batch_size=None
        ... )
        >>> network.predict_classes(x)
        array([0, 1])
    """
    OPTIMIZERS.register(name, make)
    return make


def register_backend(name: str, backend: type[Backend]) -> type[Backend]:
    """Give a backend a name, or replace the one that was registered under it.

    `nnxp.testing.check_backend(name)` runs what nnxp's own backends must pass.

    Args:
        name: lower-case letters and digits, joined by "-"; the `name` of the class.
        backend: a subclass of `nnxp.backends.Backend`. Its steps run by the executor "eager".

    Returns:
        `backend`.

    Raises:
        InputError: the name is not valid, is one of nnxp's own or not that of the class.

    Example:
        >>> import nnxp
        >>> from nnxp.backends.numpy import NumPyBackend
        >>> class Mine(NumPyBackend):
        ...     name = "my-numpy"
        >>> _ = nnxp.register_backend("my-numpy", Mine)
        >>> nnxp.MLP([2, 1], backend="my-numpy").backend.name
        'my-numpy'
    """
    if isinstance(backend, type) and getattr(backend, "name", name) != name:
        raise InputError(
            f"backend {name!r} must be a class whose name is {name!r}, as an attribute"
        )
    BACKENDS.register(name, backend)
    return backend
