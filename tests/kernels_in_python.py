"""What the kernels of `cuda_source` do, in NumPy: for machines without CUDA."""

import numpy as np
from numpy.lib.stride_tricks import as_strided

from nnxp.executors.cuda_source import Element, Kind, Launch


def launch(shape, axis, statements, kept):
    """`cuda_source.launch`, with a function instead of the source."""
    results = tuple(1 if each == axis else n for each, n in enumerate(shape))

    def matrix(element, shape):
        array = getattr(element.array, "raw", element.array)
        return as_strided(array, shape, [step * array.itemsize for step in element.steps])

    def run():
        values = {}
        for each in statements:
            of = results if each.kind is Kind.RESULT else shape
            operands = [
                x if not isinstance(x, Element) else values[x] if x in values else matrix(x, of)
                for x in each.reads
            ]
            if each.kind is Kind.REDUCTION:
                value = getattr(np, each.name)(operands[0], axis=axis, keepdims=True)
            else:
                function = np.copy if each.name == "copy" else getattr(np, each.name)
                value = np.broadcast_to(function(*operands), of)
            values[each.writes] = value.astype(each.writes.dtype)
        for element in kept:
            value = values[element]
            matrix(element, value.shape)[...] = value

    arrays = {e: e.array for one in statements for e in one.elements} | {e: e.array for e in kept}
    return Launch(run, 1, 1, tuple(arrays.values()))


def gathering(rows, arrays, batch):
    """`cuda_source.gathering`, likewise."""
    raw = [tuple(getattr(x, "raw", x) for x in each) for each in zip(arrays, batch, strict=True)]
    rows_raw = getattr(rows, "raw", rows)

    def run():
        for array, target in raw:
            target[...] = array[rows_raw]

    return Launch(run, 1, 1, (rows, *arrays, *batch))
