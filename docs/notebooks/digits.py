# %% [markdown]
# # Digits
#
# Train on the bundled digits, look at the history, at what is misread and at the weights, and try
# what changes them. Download this page as a notebook with the button above, or run it in a clone:
# `jupytext --to notebook docs/notebooks/digits.py`.

# %%
import numpy as np

import nnxp

data = nnxp.datasets.load("digits")
data.x.shape, data.x_test.shape

# %% [markdown]
# A training, with a fifth of the training digits kept out to validate on:

# %%
network = nnxp.MLP([64, 30, 10], hidden="relu", output="softmax", seed=0)
history = nnxp.train(
    network,
    data.x,
    data.y,
    optimizer=nnxp.SGD(0.1, momentum=0.9),
    epochs=15,
    batch_size=32,
    validation=0.2,
)
history

# %%
nnxp.plots.history(history)

# %% [markdown]
# The loss on the digits that it trains on still falls when that on others no longer does: from
# there on the network learns by heart. How good is it on digits that it has never seen?

# %%
network.evaluate(data.x_test, data.y_test)

# %%
nnxp.plots.digits(network, data, count=10)

# %% [markdown]
# Which digits are taken for which? Rows are what they are, columns what the network reads:

# %%
confusion = np.zeros((10, 10), dtype=int)
np.add.at(confusion, (data.y_test, network.predict_classes(data.x_test)), 1)
print(confusion)

# %% [markdown]
# ## What the hidden units look for
#
# Red pixels speak for a unit, blue ones against it. Without a penalty the weights at the margin,
# where no digit has ink, stay as random as they began:

# %%
nnxp.plots.weights(network, (8, 8))

# %% [markdown]
# An L2 penalty pulls to zero every weight that does not earn its keep:

# %%
smooth = nnxp.MLP([64, 30, 10], seed=0)
nnxp.train(
    smooth,
    data.x,
    data.y,
    optimizer=nnxp.SGD(0.1, momentum=0.9),
    epochs=60,
    batch_size=32,
    regularization=nnxp.Regularization(l2=0.003),
)
print(smooth.evaluate(data.x_test, data.y_test))
nnxp.plots.weights(smooth, (8, 8))

# %% [markdown]
# ## How many hidden units does it take?

# %%
for units in (2, 4, 8, 16, 32, 64):
    small = nnxp.MLP([64, units, 10], seed=0)
    nnxp.train(small, data.x, data.y, optimizer=nnxp.Adam(0.01), epochs=15, batch_size=32)
    accuracy = small.evaluate(data.x_test, data.y_test)["accuracy"]
    print(f"{units:3} units: {accuracy:.1%} of the test digits")

# %% [markdown]
# ## How sure is it?
#
# Softmax gives a probability. Those digits of which the network is least sure:

# %%
probability = network.predict(data.x_test)
least_sure = np.argsort(probability.max(axis=1))[:5]
for i in least_sure:
    first, second = np.argsort(probability[i])[::-1][:2]
    print(
        f"a {data.y_test[i]}: {first} with {probability[i, first]:.0%}, "
        f"{second} with {probability[i, second]:.0%}"
    )
