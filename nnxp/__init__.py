"""Neural networks on the Python Array API standard: one set of kernels, any array library."""

from nnxp import backends, datasets, kernels, linalg, schedules
from nnxp.callbacks import EarlyStopping
from nnxp.errors import (
    BackendError,
    DataError,
    DivergenceError,
    InputError,
    ModelError,
    NnxpError,
    NotSeparableError,
)
from nnxp.network import MLP
from nnxp.optimizers import SGD, Adam
from nnxp.perceptron import Perceptron
from nnxp.regularization import Regularization
from nnxp.training import Epoch, History, train

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "BackendError",
    "DataError",
    "DivergenceError",
    "EarlyStopping",
    "Epoch",
    "History",
    "InputError",
    "ModelError",
    "NnxpError",
    "NotSeparableError",
    "Perceptron",
    "Regularization",
    "backends",
    "datasets",
    "kernels",
    "linalg",
    "schedules",
    "train",
]
