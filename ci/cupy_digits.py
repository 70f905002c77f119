"""Train the digits on CuPy by each executor, and compare the losses with those of NumPy."""

import nnxp


def losses(backend: nnxp.backends.Backend) -> list[float]:
    """Train two epochs; return their losses, and the validation losses after them."""
    data = nnxp.datasets.load("digits")
    network = nnxp.MLP([64, 32, 10], dtype="float64", backend=backend)
    history = nnxp.train(
        network, data.x, data.y, optimizer=nnxp.Adam(0.01), epochs=2, batch_size=32, validation=0.1
    )
    assert history.fallbacks == [], history.fallbacks
    return [loss for each in history.epochs for loss in (each.loss, each.validation_loss or 0.0)]


expected = losses(nnxp.backends.get("numpy"))
for executor in nnxp.executors.names("cupy"):
    found = losses(nnxp.backends.get("cupy", executor=executor))
    error = max(abs(a - b) / b for a, b in zip(found, expected, strict=True))
    print(f"digits on cupy, {executor}: losses within {error:.1e} of NumPy's")
    assert error < 1e-9, (found, expected)
