"""Four pictures: activations, a decision boundary, misread digits, weights.

python examples/pictures.py [BACKEND [FOLDER]]     (`nnxp plot` does the same for files)
"""

import sys
from pathlib import Path

import nnxp
from nnxp import plots

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "pictures")
folder.mkdir(exist_ok=True)

moons, digits = nnxp.datasets.load("moons"), nnxp.datasets.load("digits")
moons_network = nnxp.MLP([2, 10, 2], "tanh", backend=backend)
nnxp.train(moons_network, moons.x, moons.y, optimizer=nnxp.SGD(0.5), epochs=100, batch_size=8)
digits_network = nnxp.MLP([64, 16, 10], backend=backend)
nnxp.train(digits_network, digits.x, digits.y, epochs=10, batch_size=32)
for name, figure in (
    ("activations", plots.activations(backend)),
    ("boundary", plots.boundary(moons_network, moons)),
    ("digits", plots.digits(digits_network, digits, count=10)),
    ("weights", plots.weights(digits_network)),
):
    plots.save(figure, folder / f"{name}.png")
    print(f"saved {folder / name}.png")
