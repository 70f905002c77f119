"""The table of a network: its figures are those of the arrays of a training."""

import re

import numpy as np
import pytest

import nnxp
from nnxp import MLP, SGD
from nnxp.arrays import to_numpy
from nnxp.nested import leaves
from nnxp.network import backpropagate, propagate
from nnxp.objectives import Objective
from nnxp.state import first_state


def size(arrays):
    """The bytes of arrays, each counted once."""
    return sum(to_numpy(each).nbytes for each in {id(each): each for each in arrays}.values())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("optimizer", "make"), [("sgd", SGD()), ("adam", nnxp.Adam()),
                                                 ("rmsprop", nnxp.RMSprop())])  # fmt: skip
def test_the_bytes_are_those_of_the_arrays(optimizer, make, dtype):
    network = MLP([7, 6, 5, 4, 3], ["relu", "gelu", "tanh"], backend="numpy", dtype=dtype)
    found = network.summary(batch_size=11, optimizer=optimizer)
    x, t = np.zeros((11, 7), dtype), np.zeros(11, int)
    z, tape = propagate(network.parameters, network.hidden, x)
    kept = [z, *(array for x, of_forward, _ in tape for array in (x, *of_forward))]
    assert found.activation_bytes == size(kept)
    state = first_state(network, make)
    assert found.parameter_bytes == size(leaves(state.parameters))
    assert found.optimizer_bytes == size(leaves(state.optimizer_state))
    objective = Objective("categorical_cross_entropy", "softmax")
    _, gradients = backpropagate(network.parameters, network.hidden, objective, x, t)
    assert found.parameter_bytes == size(leaves(gradients))
    assert found.parameters == sum(array.size for array in leaves(network.parameters))
    assert found.total_bytes == 2 * found.parameter_bytes + found.optimizer_bytes + size(kept)


def test_every_backend_has_the_same_figures(backend):
    network = MLP([4, 3, 2], backend=backend)
    figures = vars(network.summary(optimizer=nnxp.Adam())) | {"title": ""}
    expected = vars(MLP([4, 3, 2], backend="numpy").summary(optimizer="adam")) | {"title": ""}
    assert figures == expected


def test_it_is_printed_as_a_table():
    network = MLP([64, 128, 10], backend="numpy")
    title, table, memory = repr(network.summary(optimizer="adam")).split("\n\n")
    assert title == f"MLP 64-128-10, float32, {network.backend.describe()}"
    assert [re.split(" {2,}", row.strip()) for row in table.splitlines()] == [
        ["layer", "activation", "weight", "output", "parameters", "memory"],
        ["0", "input", "(32, 64)"],
        ["1", "relu", "(64, 128)", "(32, 128)", "8,320", "33.3 kB"],
        ["2", "softmax", "(128, 10)", "(32, 10)", "1,290", "5.16 kB"],
        ["in all", "9,610", "38.4 kB"],
    ]
    assert [re.split(" {2,}", row) for row in memory.splitlines()] == [
        ["training with Adam in batches of 32"],
        ["parameters", "38.4 kB"],
        ["gradients", "38.4 kB"],
        ["optimizer state", "76.9 kB"],
        ["activations", "25.9 kB"],
        ["in all", "180 kB"],
    ]


def test_a_notebook_shows_a_table():
    table = MLP([4, 3, 2], hidden="tanh", backend="numpy").summary()._repr_html_()
    assert re.findall("<th>(.*?)</th>", table)[-1] == "memory"
    assert re.findall("<td>(.*?)</td>", table)[6:12] == [
        "1", "tanh", "(4, 3)", "(32, 3)", "15", "0.06 kB"
    ]  # fmt: skip
    assert "<p>training with SGD" in table
