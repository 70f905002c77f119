"""The names that a type checker knows are those that nnxp takes."""

from typing import get_args

import pytest

from nnxp import datasets, executors, names, options
from nnxp.initializers import INITIALIZERS
from nnxp.kernels import ACTIVATIONS
from nnxp.metrics import METRICS
from nnxp.objectives import LOSSES
from nnxp.optimizers import OPTIMIZERS


@pytest.mark.parametrize(
    ("literal", "taken"),
    [
        (names.ActivationName, ACTIVATIONS),
        (names.LossName, ["auto", *LOSSES]),
        (names.InitializerName, ["auto", *INITIALIZERS]),
        (names.OptimizerName, OPTIMIZERS),
        (names.MetricName, ["auto", *METRICS]),
        (names.ExecutorName, ["auto", *(each.name for each in executors.EXECUTORS)]),
        (names.DTypeName, options.DTYPE.takes.split(" or ")),
        (names.TaskName, datasets.targets.TASKS),
        (names.PreprocessName, datasets.PREPROCESS),
        (names.ImputeName, datasets.features.STRATEGIES),
    ],
)
def test_a_type_has_the_names_that_are_taken(literal, taken):
    assert list(get_args(literal)) == list(taken)
