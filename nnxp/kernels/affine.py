"""The affine layer, z = x W + b, and its gradients.

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import affine, affine_backward
    >>> x, weight, bias = np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([5.0])
    >>> affine(x, weight, bias)
    array([[16.]])
    >>> dweight, dbias = affine_backward(np.array([[1.0]]), x)
    >>> dweight[:, 0], dbias
    (array([1., 2.]), array([1.]))
"""

from nnxp.arrays import Array, namespace


def affine(x: Array, weight: Array, bias: Array) -> Array:
    """z = x W + b.

    Args:
        x: (batch, fan_in), floating.
        weight: (fan_in, fan_out), of x's dtype.
        bias: (fan_out,), of x's dtype.

    Returns:
        z, (batch, fan_out).
    """
    z = x @ weight
    z += bias
    return z


def affine_backward(dz: Array, x: Array) -> tuple[Array, Array]:
    """Gradients of the loss with respect to the layer's parameters.

        dW = x^T dz        db = sum of dz over the batch

    Args:
        dz: gradient of the loss with respect to z, (batch, fan_out).
        x: the layer's input, (batch, fan_in).

    Returns:
        (dweight, dbias), (fan_in, fan_out) and (fan_out,).

    Source: Nielsen, Neural Networks and Deep Learning, chapter 2, equations BP3 and BP4.
    """
    return x.T @ dz, namespace(dz).sum(dz, axis=0)


def affine_input_backward(dz: Array, weight: Array) -> Array:
    """Gradient of the loss with respect to the layer's input: dx = dz W^T.

    Apart from `affine_backward` because the first layer's input needs none, and its product
    is the largest of the step.

    Args:
        dz: gradient of the loss with respect to z, (batch, fan_out).
        weight: (fan_in, fan_out).

    Returns:
        dx, (batch, fan_in).

    Source: Nielsen, chapter 2, the matrix product of equation BP2.
    """
    return dz @ weight.T
