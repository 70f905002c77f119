"""Softmax and log-softmax over the last axis, with their true Jacobian products.

Both subtract the row's maximum first: softmax does not change when a constant is added to
every logit, and exp then cannot overflow.

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import softmax
    >>> softmax(np.array([1000.0, 1000.0]))
    array([0.5, 0.5])
"""

from nnxp.arrays import Array, namespace


def softmax(z: Array) -> Array:
    """y_i = exp(z_i) / sum_j exp(z_j).

    Args:
        z: logits, (..., classes), floating.

    Returns:
        y, of z's shape and dtype; each row is positive and sums to one.
    """
    xp = namespace(z)
    y = xp.exp(z - xp.max(z, axis=-1, keepdims=True))
    y /= xp.sum(y, axis=-1, keepdims=True)
    return y


def softmax_backward(dy: Array, y: Array) -> Array:
    """dz_i = y_i (dy_i - sum_j dy_j y_j): the Jacobian diag(y) - y y^T times dy, never formed.

    Args:
        dy: gradient of the loss with respect to y, (..., classes).
        y: what `softmax` returned.
    """
    xp = namespace(y)
    dz = dy - xp.sum(dy * y, axis=-1, keepdims=True)
    dz *= y
    return dz


def log_softmax(z: Array) -> Array:
    """y_i = z_i - log sum_j exp(z_j), without the underflow of taking softmax's logarithm.

    Args:
        z: logits, (..., classes), floating.

    Returns:
        y, of z's shape and dtype; finite for finite z.
    """
    xp = namespace(z)
    y = z - xp.max(z, axis=-1, keepdims=True)
    y -= xp.log(xp.sum(xp.exp(y), axis=-1, keepdims=True))
    return y


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """dz_i = dy_i - exp(y_i) sum_j dy_j.

    Args:
        dy: gradient of the loss with respect to y, (..., classes).
        y: what `log_softmax` returned.
    """
    xp = namespace(y)
    return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)
