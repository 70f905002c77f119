# %% [markdown]
# # Swapping backends
#
# The kernels name no array library, so a network runs on any of them. Which are here, and what do
# the others need?

# %%
import time

import numpy as np

import nnxp

for each in nnxp.backends.availability():
    print(f"{each.name:17} {each.problem or ', '.join(each.devices)}")

# %% [markdown]
# A backend that is missing is an error that says what to install. Nothing else is taken in its
# place:

# %%
try:
    nnxp.MLP([64, 32, 10], backend="cupy")
except nnxp.BackendError as error:
    print(error)

# %% [markdown]
# ## The same training on each
#
# The seed gives the same initial weights and the same mini-batches everywhere, so the losses
# agree to rounding. The times here are of a machine that was busy with building these pages:
# `nnxp bench` measures.

# %%
data = nnxp.datasets.load("digits")
usable = [each.name for each in nnxp.backends.availability() if not each.problem]
losses = {}
for name in usable:
    network = nnxp.MLP([64, 32, 10], backend=name, seed=0)
    start = time.perf_counter()
    history = nnxp.train(network, data.x, data.y, epochs=3, batch_size=32)
    seconds = time.perf_counter() - start
    losses[name] = [epoch.loss for epoch in history.epochs]
    accuracy = network.evaluate(data.x_test, data.y_test)["accuracy"]
    rounded = np.round(losses[name], 5)
    print(f"{name:17} {seconds:5.2f} s  losses {rounded}  accuracy {accuracy:.3f}")
largest = max(np.abs(np.subtract(each, losses["numpy"])).max() for each in losses.values())
assert largest < 1e-4
print(f"\nlargest difference of a loss: {largest:.0e}")

# %% [markdown]
# ## The arrays stay yours
#
# `predict` takes an array of any library, and returns one of the same; the parameters lie on the
# network's own backend. The last network predicts for each library's array:

# %%
for name in usable:
    x = nnxp.backends.get(name).asarray(data.x_test[:2])
    y = network.predict(x)
    print(f"{name:17} {type(x).__name__} gives {type(y).__name__}")

# %% [markdown]
# ## A model file knows no backend
#
# Saved on one, loaded on any other:

# %%
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "digits.safetensors")
    network.save(path)
    for name in usable:
        again = nnxp.MLP.load(path, backend=name)
        print(f"{name:17} reads {again.predict_classes(data.x_test[:8])}")
print(f"{'it is':17}       {data.y_test[:8]}")

# %% [markdown]
# ## Your kernels run everywhere, too
#
# An activation that uses only the standard works on every library, and `nnxp.testing` proves it
# on those that are here:

# %%
from nnxp.arrays import namespace


def gaussian(z):
    """y = exp(-z^2)."""
    return namespace(z).exp(-z * z)


def gaussian_backward(dy, y, z):
    """dz = -2 z y dy."""
    return -2.0 * dy * y * z


nnxp.register_activation("gaussian", gaussian, gaussian_backward)
print("checked on", *nnxp.testing.check_activation("gaussian", kinks=()))

# %% [markdown]
# ## Executors
#
# How a chunk of steps runs is a second choice, [explained here](../guides/executors.md). On
# NumPy, calls that were recorded once are replayed:

# %%
for executor in nnxp.executors.names("numpy"):
    network = nnxp.MLP([64, 32, 10], backend=nnxp.backends.get("numpy", executor=executor))
    nnxp.train(network, data.x, data.y, epochs=1, batch_size=32)  # warm-up
    start = time.perf_counter()
    history = nnxp.train(network, data.x, data.y, epochs=10, batch_size=32)
    print(f"{executor:7} {len(data.x) * 10 / (time.perf_counter() - start):,.0f} samples a second")
