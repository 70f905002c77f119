"""Pure functions over arrays of any library that follows the Array API standard.

Arrays in, arrays out; no state, no input or output, no checks. Each forward kernel stands
beside its backward: the upstream gradient comes first, then what the forward pass saved.
"""

import inspect
from collections.abc import Callable
from functools import lru_cache

from nnxp.arrays import Array
from nnxp.kernels.activations import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    identity,
    identity_backward,
    leaky_relu,
    leaky_relu_backward,
    leaky_tanh,
    leaky_tanh_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softplus,
    softplus_backward,
    softsign,
    softsign_backward,
    step,
    step_backward,
    tanh,
    tanh_backward,
)
from nnxp.kernels.affine import affine, affine_backward, affine_input_backward
from nnxp.kernels.deformation import bilinear, inverse_affine
from nnxp.kernels.dropout import dropout_mask
from nnxp.kernels.losses import (
    binary_cross_entropy,
    binary_cross_entropy_gradient,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_gradient,
    categorical_cross_entropy,
    categorical_cross_entropy_gradient,
    categorical_cross_entropy_with_logits,
    categorical_cross_entropy_with_logits_gradient,
    categorical_cross_entropy_with_logits_value_and_gradient,
    huber,
    huber_gradient,
    mae,
    mae_gradient,
    poisson,
    poisson_gradient,
    poisson_with_log_rate,
    poisson_with_log_rate_gradient,
    quadratic,
    quadratic_gradient,
)
from nnxp.kernels.random_bits import random_bits, random_uniform
from nnxp.kernels.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from nnxp.registry import Registry, is_pair

__all__ = [
    "ACTIVATIONS",
    "affine",
    "affine_backward",
    "affine_input_backward",
    "bilinear",
    "binary_cross_entropy",
    "binary_cross_entropy_gradient",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_gradient",
    "categorical_cross_entropy",
    "categorical_cross_entropy_gradient",
    "categorical_cross_entropy_with_logits",
    "categorical_cross_entropy_with_logits_gradient",
    "categorical_cross_entropy_with_logits_value_and_gradient",
    "dropout_mask",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "huber",
    "huber_gradient",
    "identity",
    "identity_backward",
    "inverse_affine",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_tanh",
    "leaky_tanh_backward",
    "log_softmax",
    "log_softmax_backward",
    "mae",
    "mae_gradient",
    "poisson",
    "poisson_gradient",
    "poisson_with_log_rate",
    "poisson_with_log_rate_gradient",
    "quadratic",
    "quadratic_gradient",
    "random_bits",
    "random_uniform",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "step",
    "step_backward",
    "tanh",
    "tanh_backward",
]

ACTIVATIONS = Registry(
    "activation",
    {
        "step": (step, step_backward),
        "identity": (identity, identity_backward),
        "sigmoid": (sigmoid, sigmoid_backward),
        "tanh": (tanh, tanh_backward),
        "relu": (relu, relu_backward),
        "leaky_relu": (leaky_relu, leaky_relu_backward),
        "leaky_tanh": (leaky_tanh, leaky_tanh_backward),
        "elu": (elu, elu_backward),
        "gelu": (gelu, gelu_backward),
        "silu": (silu, silu_backward),
        "softplus": (softplus, softplus_backward),
        "softsign": (softsign, softsign_backward),
        "softmax": (softmax, softmax_backward),
    },
    "a pair of functions, (forward, backward)",
    is_pair,
)
"""Every activation that a layer can be given by name: forward(z) and backward(dy, y).

A backward that takes a third argument, backward(dy, y, z), is given the pre-activation too."""


def saved(backward: Callable[..., Array], y: Array, z: Array) -> tuple[Array, ...]:
    """Return what an activation's backward takes after `dy`: (y,), or (y, z) if it needs both."""
    return (y, z) if _takes_z(backward) else (y,)


@lru_cache(maxsize=256)
def _takes_z(backward: Callable[..., Array]) -> bool:
    required = [
        each
        for each in inspect.signature(backward).parameters.values()
        if each.default is each.empty
    ]
    return len(required) > 2
