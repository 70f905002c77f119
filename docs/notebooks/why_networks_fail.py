# %% [markdown]
# # Why networks fail
#
# Break a network in each of the ways in which networks break, and measure what is wrong instead
# of guessing. `diagnose=True` puts a diagnosis into every epoch: dead and saturated units, the
# norm of each layer's gradient, the size of its updates. On the command line it is `nnxp train
# --diagnose`.

# %%
import numpy as np
from matplotlib import pyplot as plt

import nnxp

data = nnxp.datasets.load("digits")


def train(sizes, hidden, rate, x=data.x):
    """Train on the digits for five epochs, and print losses and findings."""
    network = nnxp.MLP(sizes, hidden, seed=0)
    history = nnxp.train(
        network, x, data.y, optimizer=nnxp.SGD(rate), epochs=5, batch_size=32, diagnose=True
    )
    print("losses", *(f"{epoch.loss:.2f}" for epoch in history.epochs))
    for finding in history.epochs[-1].diagnosis.findings:
        print("-", finding.message)
    return history


healthy = train([64, 128, 64, 10], "relu", 0.1)

# %% [markdown]
# Nothing found, and the loss falls. Each layer has a line of figures; an update of about a
# thousandth of the weights is healthy:

# %%
for number, layer in enumerate(healthy.epochs[-1].diagnosis.layers, 1):
    print(f"layer {number}: gradient {layer.gradient:.1e}, update {layer.update:.1e}")

# %% [markdown]
# ## Dead units
#
# A learning rate that is too high throws ReLU units to where they are zero for every sample.
# There they have no slope, so nothing brings them back:

# %%
dead = train([64, 128, 64, 10], "relu", 1.5)

# %% [markdown]
# ## Saturated units
#
# A tanh is flat beyond 2 or so. Inputs that nobody scaled push it there: a table with prices in
# cents, or these pixels from 0 to 255 instead of from 0 to 1.

# %%
saturated = train([64, 30, 30, 10], "tanh", 0.1, x=255 * data.x)

# %% [markdown]
# ## Vanishing gradients
#
# The slope of a sigmoid is a quarter at most. Behind ten of them, little is left for the first
# layer:

# %%
deep = [64, *[30] * 10, 10]
vanishing = train(deep, "sigmoid", 0.1)

# %% [markdown]
# The picture of it: the norm of each layer's gradient after the last epoch, for sigmoids and for
# ReLU with `he` weights.

# %%
relu = train(deep, "relu", 0.1)
figure, panel = plt.subplots(figsize=(7, 3), layout="constrained")
for name, history, marker in (("sigmoid", vanishing, "o-"), ("relu", relu, "s--")):
    norms = [layer.gradient for layer in history.epochs[-1].diagnosis.layers]
    panel.semilogy(range(1, len(norms) + 1), norms, marker, label=name)
panel.set(xlabel="layer", ylabel="norm of the gradient")
_ = panel.legend()

# %% [markdown]
# ## Divergence
#
# If a step is larger than the valley is wide, each step lands higher than the one before. nnxp
# ends the training and keeps the last parameters that were finite:

# %%
try:
    train([64, 128, 64, 10], "leaky_relu", 30.0)
except nnxp.DivergenceError as error:
    print(error)

# %% [markdown]
# ## A badly wrong neuron
#
# The quadratic cost with sigmoid outputs learns slowly where it is most wrong. The same network,
# by both costs:

# %%
for loss in ("quadratic", "binary_cross_entropy"):
    network = nnxp.MLP([64, 30, 10], "sigmoid", "sigmoid", initializer="normal", seed=0)
    history = nnxp.train(
        network, data.x, data.y, loss=loss, optimizer=nnxp.SGD(0.5), epochs=5, batch_size=10
    )
    accuracies = network.evaluate(data.x_test, data.y_test)
    print(f"{loss:21} accuracy {accuracies['accuracy']:.3f}")

# %% [markdown]
# ## A wrong derivative
#
# The failure that no diagnosis shows: the backward pass itself is wrong. The network may even
# learn, only worse. Finite differences find it:

# %%
from nnxp.kernels import tanh


def wrong_tanh_backward(dy, y):
    """dz = dy (1 - y): the square is missing."""
    return dy * (1.0 - y)


network = nnxp.MLP([8, 6, 3], hidden=(tanh, wrong_tanh_backward))
rng = np.random.default_rng(0)
for check in nnxp.gradcheck(network, rng.normal(size=(16, 8)), rng.integers(0, 3, 16)):
    verdict = "passed" if check.passed else "WRONG"
    print(f"{check.name:16} relative error {check.error:.0e}  {verdict}")
