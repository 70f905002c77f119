"""Activation functions, each beside its backward.

Each takes the pre-activation `z`, a floating array of any shape, and returns `y` of the same
shape and dtype. Each backward takes `dy`, the gradient of the loss with respect to `y`, and
the saved `y`, and returns the gradient with respect to `z`. `y` alone is enough: every
derivative here can be written in terms of the output, so the pre-activation need not be kept.
"""

from nnxp.arrays import Array, device, namespace


def identity(z: Array) -> Array:
    """y = z."""
    return z


def identity_backward(dy: Array, y: Array) -> Array:
    """dz = dy."""
    return dy


def step(z: Array) -> Array:
    """y = 1 where z > 0, else 0: the perceptron's threshold."""
    return namespace(z).astype(z > 0, z.dtype)


def step_backward(dy: Array, y: Array) -> Array:
    """dz = 0: the step is flat wherever it has a derivative, so it cannot be learned through."""
    return namespace(y).zeros_like(y)


def sigmoid(z: Array) -> Array:
    """y = 1 / (1 + exp(-z)).

    Computed as max(e, [z >= 0]) / (1 + e) with e = exp(-|z|), which equals the formula on both
    sides of zero, never overflows and, unlike the tanh form, keeps its relative precision
    where y is tiny.
    """
    xp = namespace(z)
    e = xp.exp(-xp.abs(z))
    y = xp.maximum(e, xp.astype(z >= 0, z.dtype))
    e += 1.0
    y /= e
    return y


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dz = dy y (1 - y)."""
    dz = 1.0 - y
    dz *= y
    dz *= dy
    return dz


def tanh(z: Array) -> Array:
    """y = (exp(z) - exp(-z)) / (exp(z) + exp(-z))."""
    return namespace(z).tanh(z)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dz = dy (1 - y^2)."""
    dz = 1.0 - y * y
    dz *= dy
    return dz


def relu(z: Array) -> Array:
    """y = max(0, z)."""
    xp = namespace(z)
    # An array, because the standard takes a number here only from version 2024.12 on.
    return xp.maximum(z, xp.zeros((), dtype=z.dtype, device=device(z)))


def relu_backward(dy: Array, y: Array) -> Array:
    """dz = dy where y > 0, else 0."""
    dz = namespace(y).astype(y > 0, y.dtype)
    dz *= dy
    return dz


LEAKY_RELU_SLOPE = 0.01


def leaky_relu(z: Array) -> Array:
    """y = z where z > 0, else 0.01 z.

    Source: Maas, Hannun and Ng, Rectifier nonlinearities improve neural network acoustic
    models, 2013.
    """
    return namespace(z).maximum(z, LEAKY_RELU_SLOPE * z)


def leaky_relu_backward(dy: Array, y: Array) -> Array:
    """dz = dy where y > 0, else 0.01 dy."""
    dz = namespace(y).astype(y > 0, y.dtype)
    dz *= 1.0 - LEAKY_RELU_SLOPE
    dz += LEAKY_RELU_SLOPE
    dz *= dy
    return dz


LEAKY_TANH_SLOPE = 0.25


def leaky_tanh(z: Array) -> Array:
    """y = tanh(z) where z > 0, else 0.25 tanh(z): the penalised tanh.

    Source: Xu, Huang and Li, Revise saturated activation functions, 2016.
    """
    xp = namespace(z)
    y = xp.tanh(z)
    return xp.maximum(y, LEAKY_TANH_SLOPE * y)


def leaky_tanh_backward(dy: Array, y: Array) -> Array:
    """dz = dy (1 - y^2) where y > 0, else dy (a - y^2 / a) with a = 0.25.

    Both are dy s (1 - (y / s)^2), s the slope of the side that y is on.
    """
    slope = namespace(y).astype(y > 0, y.dtype)
    slope *= 1.0 - LEAKY_TANH_SLOPE
    slope += LEAKY_TANH_SLOPE
    dz = slope - y * y / slope
    dz *= dy
    return dz
