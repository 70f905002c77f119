"""Trainings against figures that an earlier version recorded: moving code must not change results.

The figures are of nnxp before its modules were moved to `nnxp/data` and `nnxp/executors`, in
float64. Another BLAS rounds otherwise, so they agree to 1e-10, not to the last bit.
"""

import numpy as np
import pytest

from nnxp import MLP, SGD, Adam, Regularization, backends, datasets, train

PENALISED = Regularization(l1=1e-5, l2=1e-4, max_norm=3.0, dropout=0.3)
NESTEROV = SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-4)
CASES = {
    # Options, losses and validation losses of two epochs.
    "sgd": (
        {"optimizer": SGD(0.1)},
        [2.1110735791020927, 1.4529448051927665], [1.7615432136893887, 1.1604574722001015],
    ),
    "nesterov": (
        {"optimizer": NESTEROV},
        [1.6503706314150905, 0.4530536555647318], [0.7807798146145711, 0.3395358791370287],
    ),
    "adam": (
        {"optimizer": Adam(0.002)},
        [2.114317084594785, 1.51992371175651], [1.7997847930416018, 1.2467058510527467],
    ),
    "penalised": (
        {"optimizer": SGD(0.1), "regularization": PENALISED},
        [2.2148768660675264, 1.8076773758992164], [1.8869885142704899, 1.4343775858807384],
    ),
    "streamed": (
        {"optimizer": Adam(0.002), "stream": True},
        [2.114317084594785, 1.51992371175651], [1.7997847930416018, 1.2467058510527467],
    ),
    "whole batch": (
        {"optimizer": SGD(0.5), "batch_size": None},
        [2.4440083707927176, 2.300938124897664], [2.2979167936235143, 2.212051765930366],
    ),
    "cosine": (
        {"optimizer": SGD(0.1), "schedule": "cosine,warmup=1"},
        [2.255268201668943, 1.7708665200134663], [2.0748539862762696, 1.4264427170563876],
    ),
    "weighted": (
        {"optimizer": SGD(0.1), "sample_weight": True},
        [2.1216412520923047, 1.4888789929598196], [1.7861066731094273, 1.1830906135733965],
    ),
}  # fmt: skip


@pytest.mark.parametrize("executor", ["replay", "eager"])
@pytest.mark.parametrize("case", CASES)
def test_a_training_gives_the_figures_of_before(case, executor):
    options, losses, validation_losses = CASES[case]
    digits = datasets.load("digits")
    if "sample_weight" in options:
        options = options | {"sample_weight": np.arange(len(digits.y)) % 3 + 1.0}
    backend = backends.get("numpy", executor=executor)
    network = MLP([64, 32, 16, 10], ["relu", "tanh"], dtype="float64", backend=backend, seed=3)
    options = {"epochs": 2, "batch_size": 32, "seed": 1, "validation": 0.2} | options
    epochs = train(network, digits.x, digits.y, **options).epochs
    np.testing.assert_allclose([each.loss for each in epochs], losses, rtol=1e-10)
    found = [each.validation_loss for each in epochs]
    np.testing.assert_allclose(found, validation_losses, rtol=1e-10)
