"""NumPy on the CPU."""

from contextlib import AbstractContextManager
from typing import Any

import array_api_compat.numpy
import numpy as np

from nnxp.backends.base import Backend


class NumPyBackend(Backend):
    name = "numpy"
    install = "pip install numpy"

    @classmethod
    def load(cls) -> tuple[Any, str]:
        return array_api_compat.numpy, np.__version__

    def active(self) -> AbstractContextManager[Any]:
        # Overflow shows in the loss, which the trainer watches on every backend alike.
        return np.errstate(all="ignore")
