"""Five ways to keep a network from memorizing wrong labels, each compared with none of them.

Of 200 digits, 27 % have a wrong label. A network that learns these gets worse on new digits.

python examples/regularization.py [BACKEND [PICTURE]]     (Nielsen, chapter 3)
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import nnxp

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
picture = sys.argv[2] if len(sys.argv) > 2 else "regularization.png"
data, seeds, epochs = nnxp.datasets.load("digits"), (0, 1, 2), 40


def train(seed, **options):
    """Train 64-64-10; return its loss and accuracy on new digits by epoch, and its final ones."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(data.x))
    x, new = data.x[rows[:200]], rows[200:]
    labels = np.where(rng.random(200) < 0.3, rng.integers(0, 10, 200), data.y[rows[:200]])
    network = nnxp.MLP([64, 64, 10], backend=backend, seed=seed)
    options |= {"optimizer": nnxp.SGD(0.1, momentum=0.9, nesterov=True), "seed": seed}
    options |= {"epochs": epochs, "batch_size": 50, "validation": (data.x[new], data.y[new])}
    history = nnxp.train(network, x, labels, **options)
    curve = [(epoch.validation_loss, epoch.validation_metric) for epoch in history.epochs]
    curve += [min(curve)] * (epochs - len(curve))  # early stopping keeps the best epoch's network
    test = network.evaluate(data.x_test, data.y_test)
    return curve, (network.evaluate(x, labels)["accuracy"], test["loss"], test["accuracy"])


figure, results = Figure(figsize=(9, 4), layout="constrained"), []
left, right = figure.subplots(1, 2)
print(f"64-64-10 on 200 digits, 27 % of labels wrong, on {backend.describe()}: means of 3 seeds\n")
print(f"{'':14} labels learnt   test loss   test accuracy   better than nothing")
for way, options, line in (
    ("nothing", {}, "k-"),
    ("L2 0.01", {"regularization": nnxp.Regularization(l2=0.01)}, "C0--"),
    ("L1 0.002", {"regularization": nnxp.Regularization(l1=0.002)}, "C1:"),
    ("max-norm 1.5", {"regularization": nnxp.Regularization(max_norm=1.5)}, "C2-."),
    ("dropout 0.5", {"regularization": nnxp.Regularization(dropout=0.5)}, "C3-"),
    ("early stopping", {"callbacks": [nnxp.EarlyStopping(patience=5)]}, "C4--"),
):
    curves, figures = map(np.array, zip(*(train(seed, **options) for seed in seeds), strict=True))
    results.append(figures)
    better = np.all((figures - results[0])[:, 1:] * [-1, 1] > 0, axis=1)  # in loss and accuracy
    verdict = f"   with {better.sum()} of {len(seeds)} seeds" if len(results) > 1 else ""
    learnt, loss, accuracy = figures.mean(axis=0)
    print(f"{way:14} {learnt:13.2f} {loss:11.2f} {accuracy:15.2f}{verdict}")
    for panel, values in zip((left, right), curves.mean(axis=0).T, strict=True):
        panel.plot(range(1, epochs + 1), values, line, label=way)
left.set(xlabel="epoch", ylabel="loss (nats)", ylim=(0.5, 1.2), title="Loss on new digits")
right.set(xlabel="epoch", ylabel="accuracy", ylim=(0.65, 0.9), title="Accuracy on new digits")
left.legend()
figure.savefig(picture, dpi=150)
print(f"\nsaved {picture}")
