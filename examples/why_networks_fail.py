"""Measurements of why networks fail to learn: dead units, vanishing gradients, divergence.

Four networks learn the same digits; `diagnose=True` finds the problems in each epoch.

python examples/why_networks_fail.py [BACKEND]     (`nnxp train --diagnose` does the same)
"""

import sys

import nnxp

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
data = nnxp.datasets.load("digits")
print(f"The bundled digits, 5 epochs, on {backend.describe()}")
for case, sizes, hidden, rate in (
    ("as it should be", [64, 128, 64, 10], "relu", 0.1),
    ("a high learning rate", [64, 128, 64, 10], "relu", 1.5),
    ("ten sigmoid layers", [64, *[30] * 10, 10], "sigmoid", 0.1),
    ("an absurd learning rate", [64, 128, 64, 10], "leaky_relu", 30.0),
):
    print(f"\n{case}: {'-'.join(map(str, sizes))}, {hidden}, rate {rate:g}")
    network = nnxp.MLP(sizes, hidden, backend=backend)
    try:
        history = nnxp.train(
            network, data.x, data.y, optimizer=nnxp.SGD(rate), epochs=5, batch_size=32,
            diagnose=True,
        )  # fmt: skip
    except nnxp.DivergenceError as error:
        print(f"  {error}")
        continue
    last = history.epochs[-1]
    print(f"  loss of the first epoch {history.epochs[0].loss:.3f}, of the last {last.loss:.3f}")
    for message in [finding.message for finding in last.diagnosis.findings] or ["nothing is wrong"]:
        print(f"  {message}")
