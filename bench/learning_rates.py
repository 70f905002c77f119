"""How good the learning rates of `nnxp.find_learning_rate` are.

    python bench/learning_rates.py            # half a minute
    python bench/learning_rates.py --quick    # that it runs

Ten trainings, each with a grid of rates, eight to a decade, and with the rate of a range test from
each of eight seeds. The figure of a rate is its validation loss after five epochs over that of the
best rate of the grid, between whose rates it is interpolated. Beside it the usual rule: a tenth of
the rate at which the smoothed loss is smallest.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nnxp import MLP, SGD, Adam, DivergenceError, RMSprop, datasets, find_learning_rate, train

DIVERGED = 50.0
"""The loss that stands for that of a training which diverges."""


class Training(NamedTuple):
    """A network, its data and its optimizer."""

    name: str
    data: str
    sizes: tuple[int, ...]
    optimizer: Callable[[float], Any]
    hidden: str = "relu"

    def network(self, seed: int = 0) -> MLP:
        output = "identity" if self.data == "values" else "softmax"
        return MLP(self.sizes, self.hidden, output, backend="numpy", seed=seed)  # type: ignore[arg-type]


TRAININGS = (
    Training("digits, sgd", "digits", (64, 128, 10), SGD),
    Training("digits, momentum", "digits", (64, 128, 10), lambda rate: SGD(rate, momentum=0.9)),
    Training("digits, adam", "digits", (64, 128, 10), Adam),
    Training("digits, rmsprop, deep", "digits", (64, 64, 64, 64, 10), RMSprop),
    Training("digits, sgd, no hidden layer", "digits", (64, 10), SGD),
    Training("digits, sgd, sigmoid", "digits", (64, 30, 10), SGD, "sigmoid"),
    Training("moons, sgd", "moons", (2, 10, 2), SGD),
    Training("moons, adam", "moons", (2, 10, 2), Adam),
    Training("values, sgd", "values", (8, 64, 64, 1), SGD),
    Training("values, adam", "values", (8, 64, 64, 1), Adam),
)


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return features and targets of a data set; "values" are a smooth function with noise."""
    if name != "values":
        data = datasets.load(name)
        return data.x, data.y
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 8))
    noise = 0.1 * rng.standard_normal(1000)
    return x, (np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + noise)[:, None]


def loss_at(training: Training, rate: float, epochs: int) -> float:
    """Return the validation loss of a training with this rate."""
    x, targets = load(training.data)
    try:
        history = train(
            training.network(), x, targets, optimizer=training.optimizer(rate), epochs=epochs,
            batch_size=32, validation=0.2,
        )  # fmt: skip
    except DivergenceError:
        return DIVERGED
    return min(history.epochs[-1].validation_loss or DIVERGED, DIVERGED)


def measure(
    training: Training, grid: np.ndarray, seeds: int, epochs: int
) -> dict[str, list[float]]:
    """Return the figure of both rules for each seed; see the top of this file."""
    x, targets = load(training.data)
    losses = np.array([loss_at(training, float(rate), epochs) for rate in grid])
    figures: dict[str, list[float]] = {"suggestion": [], "a tenth of the lowest": []}
    for seed in range(seeds):
        found = find_learning_rate(
            training.network(seed), x, targets, batch_size=32,
            optimizer=training.optimizer(0.1), seed=seed,
        )  # fmt: skip
        lowest = float(found.rates[np.argmin(found.smoothed)])
        for rule, rate in zip(figures, (found.suggestion, lowest / 10), strict=True):
            worst = [math.log(losses.max() / losses.min())]
            at = worst if rate is None else np.interp(
                [math.log(rate)], np.log(grid), np.log(losses / losses.min())
            )  # fmt: skip
            figures[rule].append(math.exp(at[0]))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    quick = parser.parse_args().quick
    grid = 10.0 ** np.arange(-5, 1.6, 2.0 if quick else 0.125)
    every: dict[str, list[float]] = {}
    for training in TRAININGS[:1] if quick else TRAININGS:
        found = measure(training, grid, 1 if quick else 8, 1 if quick else 5)
        for rule, figures in found.items():
            every.setdefault(rule, []).extend(figures)
            print(f"{training.name:<30} {rule:<22} " + " ".join(f"{each:5.2f}" for each in figures))
    for rule, figures in every.items():
        mean = math.exp(float(np.log(figures).mean()))
        print(f"{'all':<30} {rule:<22} mean {mean:.2f}, worst {max(figures):.1f}")


if __name__ == "__main__":
    main()
