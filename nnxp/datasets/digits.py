"""The 8x8 handwritten digits of the UCI repository: 1,797 images, bundled.

E. Alpaydin and C. Kaynak, Optical recognition of handwritten digits, 1998. The rows were
shuffled once when the file was made; the first 1,437 are for training, the last 360 for testing.
"""

from importlib.resources import as_file, files

import numpy as np

from nnxp.datasets.raw import Raw

TRAINING_ROWS = 1437


def read() -> Raw:
    """Read pixels 0 to 16, (samples, 64), and classes 0 to 9."""
    with as_file(files("nnxp.datasets") / "digits.npz") as path, np.load(path) as arrays:
        x, y = arrays["x"], arrays["y"].astype(np.int64)
    n = TRAINING_ROWS
    classes = tuple(str(digit) for digit in range(10))
    return Raw("digits", x[:n], y[:n], (8, 8), x[n:], y[n:], classes, largest_pixel=16)
