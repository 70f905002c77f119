"""Three forms of gradient descent, batch, stochastic and mini-batch, on the bundled digits.

Each form uses every sample 5 times. Batch gradient descent takes 5 steps, each along the gradient
of all samples; stochastic gradient descent takes 7,185, each along the gradient of one sample;
mini-batch gradient descent lies between.

python examples/gradient_descent.py [BACKEND]
"""

import sys
import time

import nnxp

backend = nnxp.backends.get(sys.argv[1] if len(sys.argv) > 1 else None)
data = nnxp.datasets.load("digits")
epochs = 5
print(f"64-32-10 on {backend.describe()}, {len(data.x):,} samples, {epochs} epochs\n")
print("form         batch   rate    steps    loss   test accuracy   seconds")
for form, batch_size, rate in (
    ("batch", None, 0.5),
    ("mini-batch", 32, 0.1),
    ("stochastic", 1, 0.01),
):
    network = nnxp.MLP([64, 32, 10], backend=backend, seed=0)
    start = time.perf_counter()
    history = nnxp.train(
        network, data.x, data.y, optimizer=nnxp.SGD(rate), epochs=epochs, batch_size=batch_size
    )
    seconds = time.perf_counter() - start
    steps = epochs * -(-len(data.x) // (batch_size or len(data.x)))
    loss, accuracy = history.epochs[-1].loss, network.evaluate(data.x_test, data.y_test)["accuracy"]
    batch = batch_size or len(data.x)
    print(
        f"{form:<12} {batch:>5}   {rate:<4} {steps:>8,}   {loss:5.3f}   {accuracy:13.4f}"
        f"   {seconds:7.2f}"
    )
