"""array-api-strict: only what the standard has, for tests. Its device1 stands in for a GPU."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from nnxp.backends.base import Backend
from nnxp.backends.numpy import NumPyBackend


class StrictBackend(Backend):
    name = "array-api-strict"
    install = "pip install array-api-strict"

    @classmethod
    def load(cls) -> tuple[Any, str]:
        try:
            import array_api_strict
        except Exception as error:  # a broken installation may raise anything
            raise cls.import_error(error, "array_api_strict") from None
        return array_api_strict, array_api_strict.__version__

    @classmethod
    def devices(cls) -> tuple[str, ...]:
        return ("cpu", "device1", "device2")

    def open_device(self, device: str) -> Any:
        return self.xp.Device("CPU_DEVICE" if device == "cpu" else device)

    def context(self) -> AbstractContextManager[Any]:
        return np.errstate(all="ignore")  # it computes with NumPy; see `NumPyBackend.context`

    def settings(self) -> dict[str, Any]:
        return NumPyBackend().settings()
