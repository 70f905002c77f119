"""Three ways to make a network learn faster: initial weights, optimizer, learning-rate schedule.

python examples/faster_learning.py [BACKEND]     (Nielsen, chapter 3; Glorot; He; Kingma and Ba)
"""

import sys

import nnxp

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
data = nnxp.datasets.load("digits")


def compare(label, initializer="auto", **options):
    """Train 64-48-32-10 on the digits, and print some epochs' losses and the test accuracy."""
    network = nnxp.MLP([64, 48, 32, 10], initializer=initializer, backend=backend)
    options = {"optimizer": nnxp.SGD(0.05), "epochs": 10, "batch_size": 64} | options
    history = nnxp.train(network, data.x, data.y, **options)
    losses = "".join(f"{history.epochs[i].loss:8.3f}" for i in (0, 2, 4, 9))
    accuracy = network.evaluate(data.x_test, data.y_test)["accuracy"]
    print(f"{label:34}{losses}   {accuracy:.3f}")


print(f"64-48-32-10 on the bundled digits, on {backend.describe()}\n")
print(f"{'loss of epoch':34}{1:>8}{3:>8}{5:>8}{10:>8}   test accuracy")
for initializer in ("normal", "xavier", "he", "orthogonal"):
    compare(f"{initializer} weights", initializer=initializer)
print()
for name, optimizer in (
    ("SGD", nnxp.SGD(0.05)),
    ("momentum 0.9", nnxp.SGD(0.05, momentum=0.9)),
    ("Nesterov's momentum 0.9", nnxp.SGD(0.05, momentum=0.9, nesterov=True)),
    ("Adam", nnxp.Adam(0.005)),
):
    compare(name, optimizer=optimizer)
print()
for schedule in (
    "constant",
    "step,every=3,factor=0.5",
    "exponential,factor=0.8",
    "cosine,warmup=2",
):
    compare(f"momentum, {schedule}", optimizer=nnxp.SGD(0.1, momentum=0.9), schedule=schedule)
