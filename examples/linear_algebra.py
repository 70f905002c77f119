"""Norms, Gram-Schmidt on a Hilbert matrix, and whitening, on any backend.

python examples/linear_algebra.py [BACKEND]
"""

import os
import sys
from math import inf

os.environ.setdefault("JAX_ENABLE_X64", "1")  # for float64, before JAX is imported

import numpy as np

from nnxp import backends
from nnxp.arrays import to_numpy
from nnxp.linalg import gram_schmidt, matrix_norm, vector_norm, whitening

backend = backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
print(f"On {backend.describe()}, in float64")
v = backend.asarray(np.array([3.0, 0.0, -4.0]))
norms = ", ".join(f"{order}: {float(vector_norm(v, order)):g}" for order in (0, 1, 2, inf, -inf))
print(f"Norms of (3, 0, -4)         {norms}")
a = backend.asarray(np.array([[3.0, 0.0], [4.0, 5.0]]))
norms = ", ".join(f"{o}: {float(matrix_norm(a, o)):.4g}" for o in ("fro", 1, inf, 2, "nuc"))
print(f"Norms of [[3, 0], [4, 5]]   {norms}")

print("\nGram-Schmidt on Hilbert matrices, h_ij = 1 / (i + j - 1): nearly dependent columns")
for order in (4, 8, 16):
    q, rank = gram_schmidt(backend.asarray(1.0 / (1 + np.add.outer(range(order), range(order)))))
    kept = to_numpy(q)[:, to_numpy(q).any(axis=0)]  # dependent columns are zero
    off = np.abs(kept.T @ kept - np.eye(int(rank))).max()
    print(f"  order {order:2}   rank {int(rank):2}   largest |Q'Q - I| {off:.0e}")

rng = np.random.default_rng(0)
x = backend.asarray(rng.standard_normal((500, 2)) @ np.array([[2.0, 1.0], [0.0, 0.5]]) + 3.0)
print("\nWhitening: the covariance of x, 500 points, is", np.cov(to_numpy(x).T).round(3).tolist())
for method in ("pca", "zca"):
    mean, matrix = whitening(x, method)
    covariance = (np.cov(to_numpy((x - mean) @ matrix).T).round(9) + 0.0).tolist()
    print(f"  {method.upper()}: that of x @ {to_numpy(matrix).round(2).tolist()} is {covariance}")
