"""Two interleaving half circles: small data that no straight line divides."""

import numpy as np

from nnxp.datasets.raw import Raw

N = 200
NOISE = 0.1


def read(n: int = N, noise: float = NOISE, seed: int = 0) -> Raw:
    """Generate `n` points, half on each moon.

    Args:
        n: the number of points, 4 or more.
        noise: the standard deviation of the normal noise on both coordinates.
        seed: the seed of the noise.
    """
    upper, lower = np.linspace(0, np.pi, n // 2), np.linspace(0, np.pi, n - n // 2)
    x = np.concatenate(
        [
            np.stack([np.cos(upper), np.sin(upper)], axis=1),
            np.stack([1 - np.cos(lower), 0.5 - np.sin(lower)], axis=1),
        ]
    )
    with np.errstate(over="ignore"):  # `load` names what is not finite
        x += noise * np.random.default_rng(seed).standard_normal(x.shape)
    y = np.repeat([0, 1], [len(upper), len(lower)])
    return Raw("moons", x, y, (2,), classes=("upper", "lower"), features=("x", "y"))
