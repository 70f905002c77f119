"""Trainings in several processes beside the same in one: `mpiexec -n 2 python THIS BACKEND`.

The first process prints, as JSON, how far the two are apart in each case.
"""

import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

import nnxp
from nnxp.arrays import to_numpy

SAMPLES, FEATURES, CLASSES = 203, 12, 4
WEIGHTS = np.random.default_rng(2).random(SAMPLES)
CASES = {
    "sgd": {"batch_size": 24},
    "all rows at once": {"batch_size": None, "epochs": 5},
    "an uneven last batch": {"batch_size": 12},
    "a last batch of one row": {"batch_size": 101, "optimizer": nnxp.SGD(0.1, momentum=0.9)},
    "momentum, streamed": {"batch_size": 13, "optimizer": nnxp.SGD(0.1, 0.9), "stream": True},
    "nesterov, rows in order": {
        "batch_size": 13, "shuffle": False, "optimizer": nnxp.SGD(0.1, 0.9, nesterov=True),
    },
    "adam, penalties, max-norm, dropout": {
        "batch_size": 13, "optimizer": "adam",
        "regularization": nnxp.Regularization(1e-3, 1e-2, max_norm=1.5, dropout=0.3),
    },
    "dropout, even batches": {"batch_size": 24, "regularization": nnxp.Regularization(dropout=0.5)},
    "penalties by batch": {
        "batch_size": 13, "regularization": nnxp.Regularization(l2=0.1, per_batch=True),
    },
    "sample weights, clipped": {"batch_size": 16, "sample_weight": WEIGHTS, "clip_norm": 0.1},
    "sample weights, uneven": {"batch_size": 15, "sample_weight": WEIGHTS, "optimizer": "rmsprop"},
    "validation, diagnosis": {"batch_size": 16, "validation": 0.2, "diagnose": True},
    "early stopping, schedule, diagnosis": {
        "batch_size": 13, "validation": 0.1, "diagnose": True, "schedule": "cosine,warmup=1",
        "epochs": 20, "callbacks": "early stopping",
    },
    "plateau": {
        "batch_size": 13, "validation": 0.1, "schedule": "plateau,patience=1,monitor=loss",
        "optimizer": nnxp.SGD(1.0), "epochs": 6,
    },
    "values, scaled": {"batch_size": 13, "values": True, "validation": 0.1, "metric": "r2"},
    "from disk": {"batch_size": 13, "disk": True, "validation": 0.2, "shuffle": True},
    "from disk, by blocks": {
        "batch_size": 13, "disk": True, "validation": "pair", "shuffle": "blocks",
    },
    "deformed images, uneven": {
        "batch_size": 13, "augment": "rotate=20,scale=0.1,shift=0.5,shape=3x4,elastic,sigma=1",
        "diagnose": True,
    },
    "float32, 200 steps": {"batch_size": 15, "dtype": "float32", "epochs": 15},
}  # fmt: skip

COMPILED = (
    "momentum, streamed", "adam, penalties, max-norm, dropout", "sample weights, uneven",
    "early stopping, schedule, diagnosis", "deformed images, uneven", "float32, 200 steps",
)  # fmt: skip
"""The cases for JAX, which compiles each of them twice."""


def cases(backend):
    return {name: CASES[name] for name in (COMPILED if backend == "jax" else CASES)}


def data(values=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(SAMPLES, FEATURES))
    centres = rng.normal(size=(FEATURES, CLASSES))
    scores = x @ centres + rng.normal(size=(SAMPLES, CLASSES))
    return x, 100 * scores[:, :1] if values else scores.argmax(axis=1)


def train(
    backend, world, *, dtype="float64", values=False, callbacks=(), epochs=3, disk=False, **options
):
    x, t = data(values)
    if disk:
        place = Path(tempfile.mkdtemp()) / "x.npy"
        np.save(place, x)
        x = np.load(place, mmap_mode="r")
        options["stream"] = True
        if options["validation"] == "pair":
            options["validation"] = (x, t)
    sizes = [FEATURES, 16, 8, 1 if values else CLASSES]
    output = "identity" if values else "softmax"
    seed = 1 + world.rank  # of several processes, the first's parameters count
    network = nnxp.MLP(sizes, ["tanh", "relu"], output, backend=backend, dtype=dtype, seed=seed)
    if callbacks:
        callbacks = [nnxp.EarlyStopping("validation_loss", 1)]
    history = nnxp.train(
        network, x, t, epochs=epochs, seed=4, callbacks=callbacks, distributed=world, **options
    )
    return network, history


def parameters(network):
    return [to_numpy(array) for layer in network.parameters for array in layer]


def distance(ours, theirs):
    """The largest difference of any parameter and any figure of the histories."""
    (network, history), (alone, expected) = ours, theirs
    assert len(history.epochs) == len(expected.epochs)
    pairs = list(zip(parameters(network), parameters(alone), strict=True))
    for epoch, other in zip(history.epochs, expected.epochs, strict=True):
        for name in ("loss", "validation_loss", "validation_metric", "learning_rate"):
            a, b = getattr(epoch, name), getattr(other, name)
            assert (a is None) == (b is None)
            if a is not None:
                pairs.append((a, b))
        if epoch.diagnosis:
            for layer, like in zip(epoch.diagnosis.layers, other.diagnosis.layers, strict=True):
                assert (layer.dead, layer.saturated) == (like.dead, like.saturated)
                pairs += [(layer.gradient, like.gradient), (layer.update, like.update)]
    return max(float(np.abs(np.subtract(a, b)).max()) for a, b in pairs)


def resumed(backend, world, alone):
    """Stop within an epoch of a diagnosed training; go on in one process."""
    options = {"batch_size": 13, "diagnose": True, "optimizer": "adam", "validation": 0.1}
    folder = Path(world.first(tempfile.mkdtemp() if world.rank == 0 else None))
    checkpoints = nnxp.Checkpoints(folder, every=5)
    train(backend, world, checkpoint=checkpoints, epochs=2, **options)
    if world.rank:
        return None
    found = sorted(folder.iterdir())
    assert len(found) == 2, found
    found[-1].unlink()  # the end: the one before it is within the epoch
    ours = train(backend, alone, resume=folder, epochs=4, **options)
    return distance(ours, train(backend, alone, epochs=4, **options))


def main(backend):
    warnings.simplefilter("ignore")
    world, alone = nnxp.distributed.world(backend), nnxp.distributed.ALONE
    found = {}
    with world.together():
        for name, options in cases(backend).items():
            ours = train(backend, world, **options)
            network, history = ours
            everywhere = world.exchange([array.tobytes() for array in parameters(network)])
            assert all(each == everywhere[0] for each in everywhere), "the ranks differ"
            if world.rank == 0:
                theirs = train(backend, alone, **options)
                found[name] = [distance(ours, theirs), history.fallbacks]
        far = resumed(backend, world, alone)
    if world.rank == 0:
        found["resumed in one process"] = [far, []]
        print(json.dumps(found))


if __name__ == "__main__":
    logging.getLogger("nnxp").setLevel(logging.ERROR)
    main(sys.argv[1])
