"""What a type checker must find: mypy reads this file, and complains where it has no complaint.

Nothing runs it. `warn_unused_ignores` makes an error of each comment that hides none.
"""

import nnxp

nnxp.MLP([2, 3, 1], hidden="reul")  # type: ignore[arg-type]
nnxp.MLP([2, 3, 3, 1], hidden=["relu", "tahn"])  # type: ignore[list-item]
nnxp.MLP([2, 3, 1], output="sofmax")  # type: ignore[arg-type]
nnxp.MLP([2, 3, 1], initializer="hee")  # type: ignore[arg-type]
nnxp.MLP([2, 3, 1], dtype="float16")  # type: ignore[arg-type]
network = nnxp.MLP([2, 3, 3, 1], ["relu", "tanh"], "identity", initializer="he", dtype="float64")
network.evaluate([[0.0, 1.0]], [1.0], loss="cuadratic")  # type: ignore[arg-type]
nnxp.train(network, [], [], optimizer="adman", epochs=1, batch_size=1)  # type: ignore[arg-type]
nnxp.train(network, [], [], optimizer="adam", loss="quadratic", epochs=1, batch_size=1)
nnxp.backends.get("torch", executor="graf")  # type: ignore[arg-type]
nnxp.datasets.load("moons", task="clasify")  # type: ignore[arg-type]
nnxp.datasets.load("moons", preprocess="standardise")  # type: ignore[arg-type]
nnxp.MLP([2, 3, 1], (nnxp.kernels.relu, nnxp.kernels.relu_backward), nnxp.kernels.identity)
pair = nnxp.kernels.relu, nnxp.kernels.relu_backward
nnxp.MLP([2, 3, 3, 1], [pair, "tanh"], pair, backend=nnxp.backends.Backend)
nnxp.train(network, [], [], optimizer=nnxp.RMSprop, loss=pair, epochs=1, batch_size=1)
