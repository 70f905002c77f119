"""Neural networks on the Python Array API standard: one set of kernels, any array library."""

from nnxp import backends, datasets, kernels
from nnxp.errors import (
    BackendError,
    DataError,
    DivergenceError,
    InputError,
    ModelError,
    NnxpError,
)
from nnxp.network import MLP
from nnxp.optimizers import SGD, Adam
from nnxp.training import Epoch, History, train

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "BackendError",
    "DataError",
    "DivergenceError",
    "Epoch",
    "History",
    "InputError",
    "ModelError",
    "NnxpError",
    "backends",
    "datasets",
    "kernels",
    "train",
]
