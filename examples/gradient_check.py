"""A check of backpropagation against central differences finds a wrong derivative.

python examples/gradient_check.py [BACKEND]     (`nnxp gradcheck` does the same for a model file)
"""

import os
import sys

os.environ.setdefault("JAX_ENABLE_X64", "1")  # for float64, before JAX is imported

import numpy as np

import nnxp
from nnxp.kernels import ACTIVATIONS, tanh

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
rng = np.random.default_rng(0)
x, targets = rng.standard_normal((16, 8)), rng.integers(0, 3, 16)


def tanh_backward(dy, y):
    """dz = dy (1 - y), wrong: the square is missing."""
    return dy * (1.0 - y)


right = ACTIVATIONS["tanh"]
for kind, pair in (("right", right), ("wrong", (tanh, tanh_backward))):
    ACTIVATIONS["tanh"] = pair
    print(f"8-6-5-3 with the {kind} derivative of tanh, on {backend.describe()}, float64")
    for check in nnxp.gradcheck(nnxp.MLP([8, 6, 5, 3], "tanh", backend=backend), x, targets):
        verdict = "passed" if check.passed else "WRONG"
        error = f"{check.checked:>3} compared, relative error {check.error:.1e}"
        print(f"  {check.name:<16} {error}  {verdict}")
ACTIVATIONS["tanh"] = right
