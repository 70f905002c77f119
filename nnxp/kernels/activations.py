"""Activation functions, each beside its backward.

Each takes the pre-activation `z`, a floating array of any shape, and returns `y` of the same
shape and dtype. Each backward takes `dy`, the gradient of the loss with respect to `y`, and
the saved `y`, and returns the gradient with respect to `z`. `y` is enough where the derivative can
be written in terms of the output; the pre-activation is then not kept. An activation that falls and
rises again gives two values of `z` the same `y`, so its backward takes `z` as a third argument.

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import relu, relu_backward
    >>> y = relu(np.array([-1.0, 0.5, 2.0]))
    >>> y
    array([0. , 0.5, 2. ])
    >>> relu_backward(np.array([10.0, 10.0, 10.0]), y)
    array([ 0., 10., 10.])
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
    return namespace(z).maximum(z, _zero(z))


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


def elu(z: Array) -> Array:
    """y = z where z > 0, else exp(z) - 1.

    Computed as max(z, 0) + expm1(min(z, 0)): each side adds an exact zero to the other.

    Source: Clevert, Unterthiner and Hochreiter, Fast and accurate deep network learning by
    exponential linear units, 2016, with alpha = 1.
    """
    xp, zero = namespace(z), _zero(z)
    y = xp.expm1(xp.minimum(z, zero))
    y += xp.maximum(z, zero)
    return y


def elu_backward(dy: Array, y: Array) -> Array:
    """dz = dy where y > 0, else dy (y + 1)."""
    dz = namespace(y).minimum(y, _zero(y))
    dz += 1.0
    dz *= dy
    return dz


def softplus(z: Array) -> Array:
    """y = log(1 + exp(z)), a smooth relu that is always positive.

    Computed as max(z, 0) + log1p(exp(-|z|)), which never overflows.

    Source: Dugas et al., Incorporating second-order functional knowledge for better option
    pricing, 2001.
    """
    xp = namespace(z)
    y = xp.log1p(xp.exp(-xp.abs(z)))
    y += xp.maximum(z, _zero(z))
    return y


def softplus_backward(dy: Array, y: Array) -> Array:
    """dz = dy sigmoid(z) = dy (1 - exp(-y))."""
    return -dy * namespace(y).expm1(-y)


def softsign(z: Array) -> Array:
    """y = z / (1 + |z|).

    Source: Bergstra, Desjardins, Lamblin and Bengio, Quadratic polynomials learn better image
    features, 2009.
    """
    return z / (1.0 + namespace(z).abs(z))


def softsign_backward(dy: Array, y: Array) -> Array:
    """dz = dy (1 - |y|)^2."""
    slope = 1.0 - namespace(y).abs(y)
    return dy * slope * slope


def silu(z: Array) -> Array:
    """y = z sigmoid(z), also called swish.

    Source: Elfwing, Uchibe and Doya, Sigmoid-weighted linear units for neural network function
    approximation in reinforcement learning, 2018.
    """
    return z * sigmoid(z)


def silu_backward(dy: Array, y: Array, z: Array) -> Array:
    """dz = dy (s + y (1 - s)) with s = sigmoid(z)."""
    s = sigmoid(z)
    dz = 1.0 - s
    dz *= y
    dz += s
    dz *= dy
    return dz


GELU_SLOPE = 1.5957691216057308
"""2 sqrt(2 / pi): the slope at zero of the sigmoid's argument in `gelu`."""
GELU_CUBIC = 0.044715


def gelu(z: Array) -> Array:
    """y = z/2 (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))), the tanh form of the GELU.

    The exact GELU is z Phi(z), Phi being the normal distribution's, but the standard has no erf.
    The two differ by 4.8e-4 at most (at |z| = 2.7), and their derivatives by 8.7e-4.
    Computed as z sigmoid(2 sqrt(2/pi) (z + 0.044715 z^3)), where 1 + tanh would cancel.

    Source: Hendrycks and Gimpel, Gaussian error linear units, 2016.
    """
    return z * sigmoid(_gelu_argument(z))


def gelu_backward(dy: Array, y: Array, z: Array) -> Array:
    """dz = dy (s + y (1 - s) 2 sqrt(2/pi) (1 + 3 0.044715 z^2)), s being the sigmoid of `gelu`."""
    s = sigmoid(_gelu_argument(z))
    bend = 1.0 - s
    bend *= y  # 0 for large |z|, before it meets a z^2 that overflows
    dz = bend * z
    dz *= z
    dz *= 3.0 * GELU_CUBIC * GELU_SLOPE
    bend *= GELU_SLOPE
    dz += bend
    dz += s
    dz *= dy
    return dz


def _gelu_argument(z: Array) -> Array:
    """2 sqrt(2/pi) (z + 0.044715 z^3)."""
    argument = z * z
    argument *= GELU_CUBIC * GELU_SLOPE
    argument += GELU_SLOPE
    argument *= z
    return argument


def _zero(like: Array) -> Array:
    """An array, because `maximum` takes a number only from the standard's version 2024.12 on."""
    return namespace(like).zeros((), dtype=like.dtype, device=device(like))
