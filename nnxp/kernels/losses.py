"""Loss functions, each beside its gradient.

Every loss is a sum over outputs, averaged over the batch, returned as a 0-d array. Every
gradient is that of this mean with respect to the first argument, (batch, outputs).

`targets` is a floating array (batch, outputs); the categorical losses also take integer
classes, (batch,), in 0 .. outputs - 1, which are not checked here: libraries differ in what
they do with others. `sample_weight`, (batch,), multiplies each sample's loss where given.

Cross-entropy comes twice: from probabilities, for any activation that yields them, and from
logits, where activation and loss are one formula that neither overflows nor cancels and the
gradient is just the error.

Example:
    >>> import numpy as np
    >>> from nnxp.kernels import quadratic, quadratic_gradient
    >>> y, t = np.array([[1.0, 2.0], [0.0, 0.0]]), np.zeros((2, 2))
    >>> float(quadratic(y, t))
    1.25
    >>> quadratic_gradient(y, t)
    array([[0.5, 1. ],
           [0. , 0. ]])
"""

from nnxp.arrays import Array, device, index_dtype, namespace
from nnxp.kernels.activations import sigmoid
from nnxp.kernels.softmax import log_softmax, softmax


def quadratic(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """L = mean over the batch of 1/2 sum_j (y_j - t_j)^2.

    Args:
        y: outputs, (batch, outputs).
        targets: (batch, outputs), of y's dtype.
        sample_weight: (batch,), of y's dtype, or None.

    Source: Nielsen, chapter 1, equation 6.
    """
    error = y - targets
    error *= error
    return 0.5 * _mean_over_batch(error, sample_weight)


def quadratic_gradient(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """dy = (y - t) / batch."""
    return _per_sample(y - targets, sample_weight)


def mae(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """L = mean over the batch of sum_j |y_j - t_j|: the median of the targets minimises it.

    Args:
        y: outputs, (batch, outputs).
        targets: (batch, outputs), of y's dtype.
        sample_weight: (batch,), of y's dtype, or None.
    """
    return _mean_over_batch(namespace(y).abs(y - targets), sample_weight)


def mae_gradient(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """dy = sign(y - t) / batch."""
    return _per_sample(namespace(y).sign(y - targets), sample_weight)


def huber(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """L = mean over the batch of sum_j h(y_j - t_j): h(e) = e^2 / 2 up to |e| = 1, else |e| - 1/2.

    Computed as c (|e| - c / 2) with c = min(|e|, 1).

    Args:
        y: outputs, (batch, outputs).
        targets: (batch, outputs), of y's dtype.
        sample_weight: (batch,), of y's dtype, or None.

    Source: Huber, Robust estimation of a location parameter, 1964.
    """
    xp = namespace(y)
    size = xp.abs(y - targets)
    small = xp.clip(size, max=1.0)
    size -= 0.5 * small
    size *= small
    return _mean_over_batch(size, sample_weight)


def huber_gradient(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """dy = max(-1, min(1, y - t)) / batch."""
    return _per_sample(namespace(y).clip(y - targets, min=-1.0, max=1.0), sample_weight)


LEAST_RATE = 1e-30
"""Small enough for any rate, and large enough that a count over it is finite in float32."""


def poisson(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """L = mean over the batch of sum_j y_j - t_j log y_j, for counts t_j with the mean y_j.

    The term log t_j! of the negative log-likelihood is left out: it does not depend on y.

    Args:
        y: rates, (batch, outputs), not negative; those under 1e-30 are raised to it in the
            logarithm, so that the loss stays finite.
        targets: (batch, outputs), not negative, of y's dtype.
        sample_weight: (batch,), of y's dtype, or None.
    """
    xp = namespace(y)
    log_likelihood = targets * xp.log(xp.clip(y, min=LEAST_RATE))
    log_likelihood -= y
    return -_mean_over_batch(log_likelihood, sample_weight)


def poisson_gradient(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """dy = (1 - t / y) / batch."""
    return _per_sample(1.0 - targets / namespace(y).clip(y, min=LEAST_RATE), sample_weight)


def poisson_with_log_rate(z: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """Poisson loss of the rate exp(z): mean over the batch of sum_j exp(z_j) - t_j z_j.

    Args:
        z: logarithms of the rates, (batch, outputs).
        targets: (batch, outputs), not negative, of z's dtype.
        sample_weight: (batch,), of z's dtype, or None.
    """
    loss = namespace(z).exp(z)
    loss -= targets * z
    return _mean_over_batch(loss, sample_weight)


def poisson_with_log_rate_gradient(
    z: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """dz = (exp(z) - t) / batch."""
    error = namespace(z).exp(z)
    error -= targets
    return _per_sample(error, sample_weight)


def binary_cross_entropy(y: Array, targets: Array, sample_weight: Array | None = None) -> Array:
    """L = mean over the batch of -sum_j [t_j log y_j + (1 - t_j) log(1 - y_j)].

    Args:
        y: probabilities, (batch, outputs); those closer to 0 or 1 than the smallest normal
            number are moved there, so that the loss stays finite.
        targets: (batch, outputs) in [0, 1], of y's dtype.
        sample_weight: (batch,), of y's dtype, or None.

    Source: Nielsen, chapter 3, equation 63.
    """
    xp = namespace(y)
    log_likelihood = targets * xp.log(_positive(y))
    log_likelihood += (1.0 - targets) * xp.log(_positive(1.0 - y))
    return -_mean_over_batch(log_likelihood, sample_weight)


def binary_cross_entropy_gradient(
    y: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """dy = [(1 - t) / (1 - y) - t / y] / batch."""
    dy = (1.0 - targets) / _positive(1.0 - y)
    dy -= targets / _positive(y)
    return _per_sample(dy, sample_weight)


def binary_cross_entropy_with_logits(
    z: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """Binary cross-entropy of sigmoid(z): mean over the batch of sum_j log(1 + exp(z_j)) - t_j z_j.

    Computed as max(z, 0) - t z + log1p(exp(-|z|)): no term overflows, and where t is 0 or 1
    the first two cancel exactly.

    Args:
        z: logits, (batch, outputs).
        targets: (batch, outputs) in [0, 1], of z's dtype.
        sample_weight: (batch,), of z's dtype, or None.
    """
    xp = namespace(z)
    loss = z * (xp.astype(z > 0, z.dtype) - targets)
    loss += xp.log1p(xp.exp(-xp.abs(z)))
    return _mean_over_batch(loss, sample_weight)


def binary_cross_entropy_with_logits_gradient(
    z: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """dz = (sigmoid(z) - t) / batch."""
    error = sigmoid(z)
    error -= targets
    return _per_sample(error, sample_weight)


def categorical_cross_entropy(
    y: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """L = mean over the batch of -sum_j t_j log y_j.

    Args:
        y: probabilities, (batch, classes); those under the smallest normal number are raised
            to it, so that the loss stays finite.
        targets: (batch, classes), of y's dtype, or integer classes, (batch,).
        sample_weight: (batch,), of y's dtype, or None.
    """
    return _negative_log_likelihood(namespace(y).log(_positive(y)), targets, sample_weight)


def categorical_cross_entropy_gradient(
    y: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """dy = -t / y / batch."""
    return _per_sample(-_one_hot(targets, y) / _positive(y), sample_weight)


def categorical_cross_entropy_with_logits(
    z: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """Categorical cross-entropy of softmax(z): mean over the batch of log sum_j exp(z_j) - z_t.

    Args:
        z: logits, (batch, classes).
        targets: integer classes, (batch,), or probabilities whose rows sum to one,
            (batch, classes), of z's dtype.
        sample_weight: (batch,), of z's dtype, or None.
    """
    return _negative_log_likelihood(log_softmax(z), targets, sample_weight)


def categorical_cross_entropy_with_logits_gradient(
    z: Array, targets: Array, sample_weight: Array | None = None
) -> Array:
    """dz = (softmax(z) - t) / batch."""
    error = softmax(z)
    error -= _one_hot(targets, z)
    return _per_sample(error, sample_weight)


def categorical_cross_entropy_with_logits_value_and_gradient(
    z: Array, targets: Array, sample_weight: Array | None = None
) -> tuple[Array, Array]:
    """The two above, (L, dz), for the price of one: they share the exponentials.

        log p = z - log sum_j exp(z_j)        L = mean of -log p_t        dz = (p - t) / batch

    Args:
        z, targets, sample_weight: as above.
    """
    xp = namespace(z)
    log_p = z - xp.max(z, axis=-1, keepdims=True)
    error = xp.exp(log_p)
    total = xp.sum(error, axis=-1, keepdims=True)
    log_p -= xp.log(total)
    error /= total
    error -= _one_hot(targets, z)
    value = _negative_log_likelihood(log_p, targets, sample_weight)
    return value, _per_sample(error, sample_weight)


def _mean_over_batch(values: Array, sample_weight: Array | None) -> Array:
    """The mean over rows of each row's weighted sum. Overwrites `values`."""
    xp = namespace(values)
    if sample_weight is not None:
        values *= xp.expand_dims(sample_weight, axis=1)
    return xp.sum(values) / values.shape[0]


def _per_sample(gradient: Array, sample_weight: Array | None) -> Array:
    """What averaging over the batch makes of a sum's gradient. Overwrites `gradient`."""
    gradient *= 1.0 / gradient.shape[0]
    if sample_weight is not None:
        gradient *= namespace(gradient).expand_dims(sample_weight, axis=1)
    return gradient


def _positive(y: Array) -> Array:
    """`y` raised to the smallest normal number, where it is less."""
    xp = namespace(y)
    return xp.clip(y, min=float(xp.finfo(y.dtype).smallest_normal))


def _negative_log_likelihood(log_p: Array, targets: Array, sample_weight: Array | None) -> Array:
    xp = namespace(log_p)
    batch, classes = log_p.shape
    if targets.ndim == 2:
        return -_mean_over_batch(log_p * targets, sample_weight)
    targets = xp.astype(
        targets, index_dtype(xp), copy=False
    )  # a flat index may not fit the targets' own
    # A gather: building the one-hot rows to multiply by is 300 times slower at 1,000 classes.
    # By flat index, because take_along_axis joined the standard only in 2024.12.
    rows = xp.arange(batch, dtype=targets.dtype, device=device(log_p))
    log_p = xp.take(xp.reshape(log_p, (-1,)), rows * classes + targets)
    return -_mean_over_batch(xp.expand_dims(log_p, axis=1), sample_weight)


def _one_hot(targets: Array, like: Array) -> Array:
    """`targets` as rows of `like`'s shape and dtype; those that are rows already stay."""
    if targets.ndim == 2:
        return targets
    xp = namespace(like)
    classes = xp.arange(like.shape[1], dtype=targets.dtype, device=device(like))
    return xp.astype(xp.expand_dims(targets, axis=1) == classes, like.dtype)
