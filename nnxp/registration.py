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
    """
    if isinstance(backend, type) and getattr(backend, "name", name) != name:
        raise InputError(
            f"backend {name!r} must be a class whose name is {name!r}, as an attribute"
        )
    BACKENDS.register(name, backend)
    return backend
