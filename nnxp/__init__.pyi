"""The public names of nnxp and the modules that define them."""

from . import (
    backends,
    datasets,
    executors,
    kernels,
    linalg,
    plots,
    predictions,
    reports,
    schedules,
    testing,
)
from .callbacks import EarlyStopping
from .errors import (
    BackendError,
    DataError,
    DivergenceError,
    GradientError,
    InputError,
    ModelError,
    NnxpError,
    NotSeparableError,
)
from .gradient_check import gradcheck
from .history import Epoch, History
from .network import MLP
from .optimizers import SGD, Adam, AdamW, ClipNorm, RMSprop
from .perceptron import Perceptron
from .registration import (
    register_activation,
    register_backend,
    register_loss,
    register_optimizer,
)
from .regularization import Regularization
from .training import train

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "BackendError",
    "ClipNorm",
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
    "RMSprop",
    "Regularization",
    "backends",
    "datasets",
    "executors",
    "gradcheck",
    "kernels",
    "linalg",
    "plots",
    "predictions",
    "register_activation",
    "register_backend",
    "register_loss",
    "register_optimizer",
    "reports",
    "schedules",
    "testing",
    "train",
]

__version__: str
