"""The public names of nnxp and the modules that define them."""

from . import (
    augmentation,
    backends,
    callbacks,
    class_weights,
    datasets,
    distributed,
    executors,
    kernels,
    linalg,
    metrics,
    onnx,
    plots,
    predictions,
    reports,
    schedules,
    testing,
    weights,
)
from .augmentation import Deformation, Elastic
from .callbacks import Callback, CSVLog, EarlyStopping, ModelCheckpoint, TensorBoardLog
from .errors import (
    BackendError,
    DataError,
    DivergenceError,
    GradientError,
    InputError,
    ModelError,
    NnxpError,
    NotSeparableError,
    RankError,
)
from .gradient_check import gradcheck
from .history import Epoch, History
from .learning_rate_finder import find_learning_rate
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
from .resuming import Checkpoints
from .training import train

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "AdamW",
    "BackendError",
    "CSVLog",
    "Callback",
    "Checkpoints",
    "ClipNorm",
    "DataError",
    "Deformation",
    "DivergenceError",
    "EarlyStopping",
    "Elastic",
    "Epoch",
    "GradientError",
    "History",
    "InputError",
    "ModelCheckpoint",
    "ModelError",
    "NnxpError",
    "NotSeparableError",
    "Perceptron",
    "RMSprop",
    "RankError",
    "Regularization",
    "TensorBoardLog",
    "augmentation",
    "backends",
    "callbacks",
    "class_weights",
    "datasets",
    "distributed",
    "executors",
    "find_learning_rate",
    "gradcheck",
    "kernels",
    "linalg",
    "metrics",
    "onnx",
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
    "weights",
]

__version__: str
