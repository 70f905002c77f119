"""The names that options take, as types: a type checker finds `hidden="reul"` before it runs.

A name that nnxp has not heard of is an error when it is used, too. Each list here has the members
of a registry elsewhere; a test compares them.
"""

from typing import Literal

ActivationName = Literal[
    "step", "identity", "sigmoid", "tanh", "relu", "leaky_relu", "leaky_tanh",
    "elu", "gelu", "silu", "softplus", "softsign", "softmax",
]  # fmt: skip
"""`nnxp.kernels.ACTIVATIONS`."""

LossName = Literal[
    "auto", "quadratic", "mae", "huber", "poisson",
    "binary_cross_entropy", "categorical_cross_entropy",
]  # fmt: skip
"""`nnxp.objectives.LOSSES`, and "auto" for the one that fits the output activation."""

InitializerName = Literal["auto", "normal", "xavier", "he", "orthogonal"]
"""`nnxp.initializers.INITIALIZERS`, and "auto" for the one that fits the activation."""

OptimizerName = Literal["sgd", "adam", "adamw", "rmsprop"]
"""`nnxp.optimizers.OPTIMIZERS`."""

MetricName = Literal["auto", "accuracy", "balanced_accuracy", "f1", "roc_auc", "r2", "rmse", "mae"]
"""`nnxp.metrics.METRICS`, and "auto" for those that fit the targets."""

ExecutorName = Literal["auto", "replay", "graph", "jit", "eager", "compiled"]
"""`nnxp.executors.EXECUTORS`, and "auto" for the backend's own choice."""

DTypeName = Literal["float32", "float64"]
"""The dtypes that networks are trained in."""

TaskName = Literal["classify", "multilabel", "regress"]
"""`nnxp.datasets.targets.TASKS`: what targets are."""

PreprocessName = Literal["auto", "none", "standardize", "pca", "zca"]
"""`nnxp.datasets.PREPROCESS`: what is done to features first."""

ImputeName = Literal["mean", "median", "most_frequent"]
"""`nnxp.datasets.features.STRATEGIES`: what missing values are filled in with."""
