"""Compares nnxp.sklearn's estimators with scikit-learn's: scores over seeds, and times.

    python bench/estimators.py                  # scores over 10 seeds, then times: some minutes
    python bench/estimators.py --quick          # one seed, small data: that it runs

Both libraries have the same settings, data and random states, in float64. A score is that of a
fifth of the data, accuracy or R^2. Times are of fits and predictions in turn, on a machine that
does nothing else; a ratio is scikit-learn's time over nnxp's, its median and its extremes.
"""

from __future__ import annotations

import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import arguments
import numpy as np
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale

import nnxp.sklearn

DATA: dict[str, tuple[str, Callable[[], Any]]] = {
    "digits": ("MLPClassifier", lambda: datasets.load_digits(return_X_y=True)),
    "breast cancer": ("MLPClassifier", lambda: datasets.load_breast_cancer(return_X_y=True)),
    "wine": ("MLPClassifier", lambda: datasets.load_wine(return_X_y=True)),
    "diabetes": ("MLPRegressor", lambda: datasets.load_diabetes(return_X_y=True)),
    "made here": (
        "MLPRegressor",
        lambda: datasets.make_regression(500, 20, noise=10.0, random_state=0),
    ),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"solver": "sgd", "learning_rate_init": 0.01, "max_iter": 100},
    "adam": {"solver": "adam", "learning_rate_init": 0.005, "max_iter": 100},
    "lbfgs": {"solver": "lbfgs", "max_iter": 100},
}
PREDICTIONS = 10
"""Predictions with each model, whose median is a time: the first also fills the caches."""
LIBRARIES = {"scikit-learn": neural_network, "nnxp": nnxp.sklearn}


def scores(data: str, settings: str, seeds: int) -> dict[str, list[float]]:
    """Return the test score of each library with each seed."""
    name, load = DATA[data]
    x, t = load()
    x = scale(x)
    if name == "MLPRegressor":
        t = scale(t)
    found: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    for seed in range(seeds):
        x_train, x_test, t_train, t_test = train_test_split(x, t, test_size=0.2, random_state=seed)
        for library, module in LIBRARIES.items():
            model = getattr(module, name)(**SETTINGS[settings], random_state=seed)
            found[library].append(float(model.fit(x_train, t_train).score(x_test, t_test)))
    return found


def score_rows(seeds: int) -> Iterator[dict[str, Any]]:
    """Yield the mean score and its standard error for each data set and solver."""
    for data in DATA:
        for settings in SETTINGS:
            found = scores(data, settings, seeds)
            row: dict[str, Any] = {"data": data, "solver": settings}
            for library, values in found.items():
                row[library] = statistics.fmean(values)
                row[f"{library} error"] = (
                    statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
                )
            difference = abs(row["nnxp"] - row["scikit-learn"])
            row["agrees"] = difference <= max(row["scikit-learn error"], 1e-12)
            yield row


def time_rows(rounds: int, samples: int) -> Iterator[dict[str, Any]]:
    """Yield the ratio of scikit-learn's times to nnxp's, for a small and a large data set."""
    rng = np.random.default_rng(0)
    wine, classes = datasets.load_wine(return_X_y=True)
    images = rng.random((samples, 784), dtype=np.float32)
    sizes: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "178 x 13": (scale(wine), classes, {}),
        f"{samples} x 784": (images, rng.integers(0, 10, samples), {"max_iter": 2}),
    }
    for size, (x, t, more) in sizes.items():
        for settings in SETTINGS:
            options = SETTINGS[settings] | more | {"random_state": 0}
            ratios: dict[str, list[float]] = {"fit": [], "predict": []}
            for _ in range(rounds):
                seconds: dict[str, dict[str, float]] = {"fit": {}, "predict": {}}
                for library, module in LIBRARIES.items():
                    model = module.MLPClassifier(**options)
                    seconds["fit"][library] = _seconds(model.fit, x, t)
                    predictions = (_seconds(model.predict, x) for _ in range(PREDICTIONS))
                    seconds["predict"][library] = statistics.median(predictions)
                for what, took in seconds.items():
                    ratios[what].append(took["scikit-learn"] / took["nnxp"])
            yield {"size": size, "solver": settings, **ratios}


def score_table(rows: list[dict[str, Any]]) -> str:
    """Return the scores as a Markdown table."""
    lines = ["| data | solver | scikit-learn | nnxp | within one error |", "|---|---|---|---|---|"]
    for row in rows:
        figures = " | ".join(
            f"{row[library]:.4f} ± {row[f'{library} error']:.4f}" for library in LIBRARIES
        )
        answer = "yes" if row["agrees"] else "**no**"
        lines.append(f"| {row['data']} | {row['solver']} | {figures} | {answer} |")
    return "\n".join(lines)


def time_table(rows: list[dict[str, Any]]) -> str:
    """Return the ratios of times as a Markdown table."""
    lines = ["| size | solver | fit | predict |", "|---|---|---|---|"]
    for row in rows:
        cells = [
            f"{statistics.median(row[what]):.2f} ({min(row[what]):.2f} to {max(row[what]):.2f})"
            for what in ("fit", "predict")
        ]
        lines.append(f"| {row['size']} | {row['solver']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _seconds(call: Callable[..., Any], *data: Any) -> float:
    start = time.perf_counter()
    call(*data)
    return time.perf_counter() - start


def main() -> int:
    """Print both tables; write the figures as JSON where `--output` says."""
    chosen = arguments.parser(__doc__, "output", "quick", repeat=5).parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    if chosen.quick:
        for settings in SETTINGS.values():
            settings["max_iter"] = 5
    found = {"scores": list(score_rows(1 if chosen.quick else 10))}
    print(score_table(found["scores"]), end="\n\n")
    rounds, samples = (1, 500) if chosen.quick else (chosen.repeat, 20_000)
    found["times"] = list(time_rows(rounds, samples))
    print(time_table(found["times"]))
    if chosen.output:
        chosen.output.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    arguments.run(main)
