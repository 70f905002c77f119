"""Neural networks on the Python Array API standard: one set of kernels, any array library."""

from nnxp import backends, datasets, kernels, linalg, plots, schedules
from nnxp.callbacks import EarlyStopping
from nnxp.errors import (
    BackendError,
    DataError,
    DivergenceError,
    GradientError,
    InputError,
    ModelError,
    NnxpError,
    NotSeparableError,
)
from nnxp.gradcheck import gradcheck
from nnxp.history import Epoch, History
from nnxp.network import MLP
from nnxp.optimizers import SGD, Adam
from nnxp.perceptron import Perceptron
from nnxp.regularization import Regularization
from nnxp.training import train

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
    "GradientError",
    "History",
    "InputError",
    "ModelError",
    "NnxpError",
    "NotSeparableError",
    "Perceptron",
    "Regularization",
    "backends",
    "datasets",
    "gradcheck",
    "kernels",
    "linalg",
    "plots",
    "schedules",
    "train",
]
