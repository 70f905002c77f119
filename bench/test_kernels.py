"""Times every kernel, forward and backward, by backend; compiled where the backend compiles.

Run some by `pytest bench/test_kernels.py -k "relu and numpy"`.
"""

from functools import partial
from typing import Any

import numpy as np
import pytest

from nnxp import backends, kernels
from nnxp.arrays import index_dtype, namespace, to_numpy
from nnxp.objectives import LOSSES

SHAPES = {"small": (64, 128), "large": (1024, 1024)}
"""(batch, units)."""
KERNELS = [name for name in kernels.__all__ if name != "ACTIVATIONS"]


def mask(y: Any, step: Any) -> Any:
    return kernels.dropout_mask(y, 0.5, 0, step, 0)


def uniform(step: Any, shape: tuple[int, int]) -> Any:
    return kernels.random_uniform(shape, namespace(step).float32, 0, step, 0)


def call(kernel: str, batch: int, units: int) -> tuple[Any, list[np.ndarray]]:
    """Return the kernel as a function of arrays, and the arrays."""
    rng = np.random.default_rng(0)
    z, dy, logits = rng.standard_normal((3, batch, units), dtype=np.float32)
    weight = rng.standard_normal((units, units), dtype=np.float32)
    classes = rng.integers(0, units, batch)
    function, forward = getattr(kernels, kernel), kernel.removesuffix("_backward")
    match kernel:
        case "affine":
            return function, [z, weight, z[0]]
        case "affine_backward":
            return function, [dy, z]
        case "affine_input_backward":
            return function, [dy, weight]
        case "dropout_mask":
            return mask, [z, np.asarray(1, dtype=np.int32)]
        case "random_bits":
            bits = partial(function, batch * units, 0, stream=0)
            return bits, [np.asarray(1, dtype=np.int32)]
        case "random_uniform":
            return partial(uniform, shape=(batch, units)), [np.asarray(1, dtype=np.int32)]
        case "inverse_affine":
            affine = partial(function, shape=(28, 28), rotate=0.2, scale=0.1, shift=1.0, flip=True)
            return affine, [rng.uniform(-1, 1, (batch, 7)).astype(np.float32)]
        case "bilinear":
            shape = units // 16, 16
            places = [rng.uniform(0, size, (batch, units)).astype(np.float32) for size in shape]
            return partial(function, shape=shape), [z, *places]
        case _ if kernel != forward:
            return function, [dy, *kernels.saved(function, getattr(kernels, forward)(z), z)]
        case _ if "with_logits" in kernel:
            return function, [z, classes if "categorical" in kernel else kernels.sigmoid(logits)]
        case _ if "categorical" in kernel:
            return function, [kernels.softmax(z), classes]
        case _ if kernel.startswith(tuple(LOSSES)):
            return function, [kernels.sigmoid(z), kernels.sigmoid(logits)]
        case _:
            return function, [z]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel(benchmark: Any, backend: backends.Backend, shape: str, kernel: str) -> None:
    function, arrays = call(kernel, *SHAPES[shape])
    indices = index_dtype(backend.xp)
    on_device = [
        backend.asarray(array, dtype=indices if array.dtype == np.int64 else None, copy=True)
        for array in arrays
    ]
    compiled = backend.compiled(function)

    def run() -> Any:
        result = compiled(*on_device)
        backend.synchronize(result)
        return result

    benchmark.group = f"{kernel}, {shape}"
    with backend.active():
        result = benchmark(run)
    expected = function(*arrays)
    for found, reference in zip(_flat(result), _flat(expected), strict=True):
        assert np.isfinite(to_numpy(found)).all()
        np.testing.assert_allclose(to_numpy(found), reference, rtol=1e-3, atol=1e-3)


def _flat(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)
