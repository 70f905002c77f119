"""Pure functions over arrays of any library that follows the Array API standard.

Arrays in, arrays out; no state, no input or output, no checks. Each forward kernel stands
beside its backward: the upstream gradient comes first, then what the forward pass saved.
"""

from nnxp.kernels.activations import (
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
    step,
    step_backward,
    tanh,
    tanh_backward,
)
from nnxp.kernels.affine import affine, affine_backward, affine_input_backward
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
    quadratic,
    quadratic_gradient,
)
from nnxp.kernels.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "ACTIVATIONS",
    "affine",
    "affine_backward",
    "affine_input_backward",
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
    "identity",
    "identity_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_tanh",
    "leaky_tanh_backward",
    "log_softmax",
    "log_softmax_backward",
    "quadratic",
    "quadratic_gradient",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "softmax",
    "softmax_backward",
    "step",
    "step_backward",
    "tanh",
    "tanh_backward",
]

ACTIVATIONS = {
    "step": (step, step_backward),
    "identity": (identity, identity_backward),
    "sigmoid": (sigmoid, sigmoid_backward),
    "tanh": (tanh, tanh_backward),
    "relu": (relu, relu_backward),
    "leaky_relu": (leaky_relu, leaky_relu_backward),
    "leaky_tanh": (leaky_tanh, leaky_tanh_backward),
    "softmax": (softmax, softmax_backward),
}
"""Every activation that a layer can be given by name: forward and backward."""
