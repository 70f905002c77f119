"""Norms, Gram-Schmidt and whitening, for batches of matrices of any library.

All functions are pure and take real floating arrays. The last axes are the vector's or matrix's,
the axes before them the batch's. No value is read back to the host. Norms 2 and "nuc" of matrices
and whitening use an SVD, from the standard's linalg extension; the rest needs only its core.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, sqrt
from typing import Any

from nnxp import options
from nnxp.arrays import Array, index_dtype, is_array, namespace
from nnxp.errors import InputError, first_line, shown


def _one_of(*orders: float | str) -> options.Rule:
    """Return a rule for the order of a norm."""

    def convert(value: Any) -> Any:
        if not isinstance(value, (int, float, str)) or value not in orders:
            raise ValueError
        return value

    *others, last = (f'"{each}"' if isinstance(each, str) else str(each) for each in orders)
    return options.Rule(f"{', '.join(others)} or {last}", convert)


@options.checked(order=_one_of(0, 1, 2, inf, -inf), keepdims=options.TRUTH)
def vector_norm(
    x: Array,
    order: float = 2,
    *,
    axis: int | tuple[int, ...] | None = -1,
    keepdims: bool = False,
) -> Array:
    """Return the norm of vectors. Order 0 counts nonzero elements, and is not a norm.

        0: the number of x_i that are not 0        1: sum |x_i|        2: sqrt(sum x_i^2)
        inf: max |x_i|        -inf: min |x_i|

    The 2-norm squares x / max |x_i|, so it overflows or underflows only if its value does.

    Args:
        x: any shape, floating.
        order: 0, 1, 2, inf or -inf.
        axis: the axis of the vectors; several axes, or None for all, are joined to one vector.
        keepdims: whether to keep `axis` with length 1.

    Returns:
        x's shape without `axis`, x's dtype.

    Raises:
        InputError: another order; x is not real floating, or has no elements along `axis`.

    Source: Golub and Van Loan, Matrix Computations, 4th edition, section 2.2; the scaling:
    Blue, A portable Fortran program to find the Euclidean norm of a vector, 1978.

    Example:
        >>> import numpy as np
        >>> from nnxp.linalg import vector_norm
        >>> float(vector_norm(np.array([3.0, 0.0, -4.0])))
        5.0
    """
    xp = _floating(x, "vector_norm", 0)
    _check_axes(axis, len(x.shape))
    over: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
    if order == 0:
        return xp.sum(xp.astype(x != 0, x.dtype), **over)
    size = xp.abs(x)
    if order == 1:
        return xp.sum(size, **over)
    if order == -inf:
        return xp.min(size, **over)
    if order == inf:
        return xp.max(size, **over)
    largest = xp.max(size, axis=axis, keepdims=True)
    size = size / _or_one(largest, (largest > 0) & (largest < inf))
    if not keepdims:
        largest = xp.max(largest, axis=axis)
    return largest * xp.sqrt(xp.sum(size * size, **over))


@options.checked(order=_one_of("fro", 1, inf, 2, "nuc"))
def matrix_norm(x: Array, order: str | float = "fro") -> Array:
    """Return the norm of matrices, where s are the singular values.

        "fro": sqrt(sum x_ij^2)        1: max_j sum_i |x_ij|        inf: max_i sum_j |x_ij|
        2: max s        "nuc": sum s

    Args:
        x: (..., m, n), floating, finite.
        order: "fro", 1, inf, 2 or "nuc".

    Returns:
        (...), x's dtype.

    Raises:
        InputError: another order; x is not real floating, is no matrix or has no elements; for 2
            and "nuc", the library has no linalg extension.

    Source: Golub and Van Loan, section 2.3.

    Example:
        >>> import numpy as np
        >>> from nnxp.linalg import matrix_norm
        >>> float(matrix_norm(np.array([[3.0, 0.0], [4.0, 5.0]]), 1))
        7.0
    """
    xp = _floating(x, "matrix_norm", 2)
    if order == "fro":
        return vector_norm(x, 2, axis=(-2, -1))
    if order in (1, inf):
        return xp.max(xp.sum(xp.abs(x), axis=-2 if order == 1 else -1), axis=-1)
    name = f"matrix_norm of order {order!r}"
    with _named(name):
        s = _extension(xp, name).svdvals(x)
    return xp.max(s, axis=-1) if order == 2 else xp.sum(s, axis=-1)


def gram_schmidt(a: Array) -> tuple[Array, Array]:
    """Return orthonormal columns that span a's range, by modified Gram-Schmidt.

        v_j = a_j - sum_{i<j} (q_i . a_j) q_i        q_j = v_j / |v_j|

    The modified algorithm subtracts each q_i from all later columns at once. Each v_j is then made
    orthogonal to q_1 .. q_(j-1) a second time, and twice is enough: |Q^T Q - I| is of the size of
    rounding errors, even if a's columns are nearly dependent.

    A column counts as dependent on the columns before it if |v_j| <= 10 max(m, n) eps |a_j|. Its
    q_j is zero, so Q^T Q has a zero on the diagonal, and Q Q^T still projects onto a's range.

    Args:
        a: (..., m, n), floating. jax.jit unrolls the loop over the n columns.

    Returns:
        q, (..., m, n), a's dtype, and rank, (...), integers: the number of columns of q that are
        not zero.

    Raises:
        InputError: a is not real floating, is no matrix or has no elements.

    Source: Golub and Van Loan, section 5.2.8; Giraud, Langou and Rozloznik, The loss of
    orthogonality in the Gram-Schmidt orthogonalization process, 2005.

    Example:
        >>> import numpy as np
        >>> from nnxp.linalg import gram_schmidt
        >>> q, rank = gram_schmidt(np.array([[3.0, 1.0], [4.0, 7.0]]))
        >>> np.allclose(q.T @ q, np.eye(2)), int(rank)
        (True, 2)
    """
    xp = _floating(a, "gram_schmidt", 2)
    m, n = a.shape[-2:]
    tolerance = 10 * max(m, n) * float(xp.finfo(a.dtype).eps)
    # With columns of length 1, the same test for dependence fits all and nothing overflows.
    for order in (inf, 2):
        norm = vector_norm(a, order, axis=-2, keepdims=True)
        a = a / _or_one(norm, norm > 0)
    columns: list[Array] = []
    independents = []
    for _ in range(n):
        v, a = a[..., :1], a[..., 1:]
        if columns:
            # The sum gives v one value. XLA would compute the difference again for each use, with
            # other rounding, and the projection below would be that of another v.
            v = xp.sum(xp.stack([v, xp.zeros_like(v)]), axis=0)
            q = xp.concat(columns, axis=-1)
            v = v - xp.sum(q * xp.sum(q * v, axis=-2, keepdims=True), axis=-1, keepdims=True)
        norm = vector_norm(v, axis=-2, keepdims=True)
        independent = norm > tolerance
        q = v / _or_one(norm, independent) * xp.astype(independent, v.dtype)
        # Use sums instead of matmul, which may have few bits on a GPU.
        a = a - q * xp.sum(q * a, axis=-2, keepdims=True)
        columns.append(q)
        independents.append(independent[..., 0, 0])
    rank = xp.sum(xp.astype(xp.stack(independents, axis=-1), index_dtype(xp)), axis=-1)
    return xp.concat(columns, axis=-1), rank


@options.checked(method=options.name("whitening", ("pca", "zca")), epsilon=options.NOT_NEGATIVE)
def whitening(x: Array, method: str = "pca", epsilon: float = 0.0) -> tuple[Array, Array]:
    """Return mean and matrix that make x's features uncorrelated, with variance 1.

        whitened = (x - mean) @ matrix
        x - mean = U diag(s) V^T        d = sqrt(s^2 / (samples - 1) + epsilon)
        pca: V diag(1 / d)        zca: V diag(1 / d) V^T

    PCA rotates to the principal axes, largest variance first, with each axis's entry of largest
    magnitude positive. ZCA rotates back, and is the whitening closest to x. With epsilon 0 and x
    of full rank, the covariance (divided by samples - 1) is the identity.

    Directions with s <= max(samples, features) eps max s are rounding errors and are dropped: PCA
    gives them a column of zeros, ZCA projects them out of x.

    Args:
        x: (..., samples, features), floating, finite, two samples or more.
        method: "pca" or "zca".
        epsilon: added to each variance, in x's unit squared. It limits the amplification of
            directions that have little variance in x but may have more in other data.

    Returns:
        mean, (..., 1, features), and matrix, (..., features, k) with k = min(samples, features)
        for PCA, (..., features, features) for ZCA; x's dtype.

    Raises:
        InputError: x, the method or epsilon is not as above, or the library has no linalg
            extension.

    Source: Kessy, Lewin and Strimmer, Optimal whitening and decorrelation, 2018.

    Example:
        >>> import numpy as np
        >>> from nnxp.linalg import whitening
        >>> x = np.random.default_rng(0).normal(size=(100, 2)) @ [[2.0, 1.0], [0.0, 0.5]]
        >>> mean, matrix = whitening(x)
        >>> np.allclose(np.cov(((x - mean) @ matrix).T), np.eye(2))
        True
    """
    xp = _floating(x, "whitening", 2)
    samples, features = x.shape[-2:]
    if samples < 2:
        raise InputError("whitening takes 2 samples or more, not 1: one has no variance")
    linalg = _extension(xp, "whitening")
    mean = xp.mean(x, axis=-2, keepdims=True)
    with _named("whitening"):
        _, s, vt = linalg.svd(x - mean, full_matrices=False)
    tolerance = max(samples, features) * float(xp.finfo(x.dtype).eps)
    kept = s > tolerance * xp.max(s, axis=-1, keepdims=True)
    deviation = xp.hypot(s / sqrt(samples - 1), xp.full_like(s, sqrt(epsilon)))
    scale = xp.astype(kept, x.dtype) / _or_one(deviation, kept)
    # SVD does not determine the sign of each axis, and libraries choose differently.
    positive = xp.max(vt, axis=-1, keepdims=True) >= -xp.min(vt, axis=-1, keepdims=True)
    v = xp.matrix_transpose(xp.where(positive, vt, -vt))
    matrix = v * scale[..., None, :]
    return mean, matrix if method == "pca" else matrix @ xp.matrix_transpose(v)


def _or_one(x: Array, condition: Array) -> Array:
    """Return x where the condition holds and 1 elsewhere, as a divisor."""
    xp = namespace(x)
    return xp.where(condition, x, xp.ones_like(x))


def _floating(x: Array, name: str, axes: int) -> Any:
    """Check x's dtype and shape; return its namespace."""
    if not is_array(x):
        raise InputError(f"{name} takes an array, not {shown(x)}")
    xp = namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        raise InputError(f"{name} takes float32 or float64, not {x.dtype}: convert x first")
    shape = tuple(x.shape)
    if len(shape) < axes:
        raise InputError(f"{name} takes arrays of {axes} axes or more, x has shape {shape}")
    if 0 in shape:
        raise InputError(f"{name} takes arrays that hold something, x has shape {shape}")
    return xp


def _check_axes(axis: Any, axes: int) -> None:
    """Raise InputError unless `axis` is an axis of an array, some different ones, or None."""
    given = axis if isinstance(axis, tuple) else () if axis is None else (axis,)
    if not all(type(each) is int and -axes <= each < axes for each in given) or len(
        {each % axes for each in given}
    ) < len(given):
        raise InputError(
            f"axis must be an axis of an array of {axes}, a tuple of some, or None, not "
            f"{shown(axis)}"
        )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say that an SVD failed, as it does in some libraries for what is not finite."""
    try:
        yield
    except Exception as error:
        if "LinAlgError" not in type(error).__name__:
            raise
        raise InputError(f"{name}: {first_line(error)}: is x finite?") from None


def _extension(xp: Any, name: str) -> Any:
    if not hasattr(xp, "linalg"):
        raise InputError(
            f"{name} needs an SVD, and {xp.__name__} has no linalg extension: "
            "move x to NumPy first, with nnxp.arrays.to_numpy"
        )
    return xp.linalg
