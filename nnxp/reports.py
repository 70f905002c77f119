"""Reports of trainings: data, backend, network, options and every epoch, for JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np

import nnxp
from nnxp import options
from nnxp.backends import Backend
from nnxp.history import History
from nnxp.network import MLP


@options.checked(
    network=options.instance(MLP, "an nnxp.MLP"),
    history=options.instance(History, "what nnxp.train returned"),
    data=options.TEXT,
    options=options.optional(options.instance(Mapping, "a dict")),
    test=options.optional(options.instance(Mapping, "a dict")),
)
def training(
    network: MLP,
    history: History,
    *,
    data: str = "",
    options: Mapping[str, Any] | None = None,
    test: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the report of a training as a dictionary that JSON can hold.

    It has the backend with its device and executor, the fall-backs, the versions, the network, the
    options, every epoch, the name of the validation metric and the number of the best epoch (null
    without early stopping). `nnxp.plots.history` draws a report that has the options "optimizer",
    "learning_rate", "batch_size" and "task".

    Args:
        network: what was trained.
        history: what `nnxp.train` returned.
        data: the name of the data set.
        options: how it was trained, with any keys. "hidden", "activation", "output_activation" and
            "loss" are replaced by what the network was built and trained with.
        test: what `MLP.evaluate` returned for the test data.

    Example:
        >>> import nnxp
        >>> network = nnxp.MLP([2, 1], output="sigmoid")
        >>> history = nnxp.train(network, [[0, 1], [1, 0]], [0, 1], epochs=3, batch_size=1)
        >>> report = nnxp.reports.training(network, history, data="two points")
        >>> report["data"], report["sizes"], len(report["history"])
        ('two points', [2, 1], 3)
    """
    backend = network.backend
    return {
        "data": data,
        "backend": backend.name,
        "device": backend.device_name,
        "executor": backend.executor,
        "fallbacks": history.fallbacks,
        "versions": versions(backend),
        "dtype": network.dtype,
        "sizes": list(network.sizes),
        "options": {
            **(options or {}),
            "hidden": list(network.sizes[1:-1]),
            "activation": list(network.hidden),
            "output_activation": network.output,
            "loss": network.loss,
        },
        "metric": history.metric,
        "best_epoch": history.best_epoch,
        "history": history.to_list(),
        "test": dict(test or {}),
    }


def versions(backend: Backend) -> dict[str, str]:
    """Return the versions of nnxp, Python, NumPy and the backend's library, by name."""
    return {
        "nnxp": nnxp.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        backend.name: backend.version,
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
