"""Read the inputs of commands: a model, and data that fits it."""

from __future__ import annotations

import numpy as np

from nnxp import backends, datasets
from nnxp.errors import InputError
from nnxp.network import MLP


def model_and_data(
    model: str, data: str, data_dir: str | None, backend: str, device: str | None
) -> tuple[MLP, datasets.Dataset]:
    """Load a model, and data with the preprocessing of the model's training.

    Raises:
        NnxpError: one of them cannot be loaded, or the data does not fit the model.
    """
    network = MLP.load(model, backends.get(backend, device))
    known = datasets.described(network.metadata, network.sizes)
    dataset = datasets.load(data, data_dir, like=known)
    check_width(network, dataset.x, model, data)
    return network, dataset


def check_width(network: MLP, x: np.ndarray, model: str, data: str) -> None:
    """Check that the network takes as many features as the data has.

    Raises:
        InputError: the numbers differ.
    """
    if x.shape[1] != network.sizes[0]:
        raise InputError(
            f"{data} has {x.shape[1]} features a sample, {model} takes {network.sizes[0]}: "
            "it was trained on other data"
        )
