"""What `nnxp train` works with, made from its options: backend, data, network, arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nnxp import augmentation, backends, datasets, files, metrics, objectives, optimizers, schedules
from nnxp import options as rules
from nnxp.augmentation import Deformation
from nnxp.class_weights import class_weights
from nnxp.cli import options
from nnxp.cli.train_options import TrainOptions
from nnxp.datasets import Dataset
from nnxp.distributed.world import World
from nnxp.errors import InputError, shown, unknown_name
from nnxp.names import ActivationName, TaskName
from nnxp.network import MLP
from nnxp.regularization import Regularization
from nnxp.resuming import Checkpoints

DEFAULT_OUTPUTS: dict[TaskName, ActivationName] = {
    "classify": "softmax",
    "multilabel": "sigmoid",
    "regress": "identity",
}
"""The output activation for each task if none is given."""


def training_arguments(given: TrainOptions) -> dict[str, Any]:
    """Make the arguments of `nnxp.train` from the options, without data and callbacks.

    Raises:
        InputError: an option has a wrong value.
    """
    if given.epochs < 0:
        raise InputError(f"--epochs must be 0 or more, not {given.epochs}")
    if given.plot is not None and not given.epochs:
        raise InputError("--plot: there is nothing to draw of 0 epochs")
    if not 0 <= given.validation < 1:
        raise InputError(f"--validation must be a share in [0, 1), not {given.validation:g}")
    batch_size = read_batch_size(given.batch_size)
    layers = options.layers(given.hidden)
    optimizer = _optimizer(given)
    regularization = Regularization(given.l1, given.l2, given.max_norm, _read_shares(given.dropout))
    regularization.shares(len(layers))
    return {
        "loss": objectives.LOSS("--loss", given.loss),
        "optimizer": optimizer,
        "epochs": given.epochs,
        "batch_size": batch_size,
        "seed": given.seed,
        "validation": given.validation,
        "schedule": schedules.get(given.schedule),
        "regularization": regularization,
        "clip_norm": given.clip_norm,
        "augment": augmentation.get(given.augment) if given.augment else None,
        "metric": metrics.METRIC("--metric", given.metric),
        "diagnose": given.diagnose,
        "stream": given.stream,
        "shuffle": "blocks" if given.shuffle_blocks else True,
        "scale_targets": "auto" if given.scale_targets is None else given.scale_targets,
    }


def _optimizer(given: TrainOptions) -> optimizers.Optimizer:
    # Not every optimizer has all of these options, and each has defaults of its own.
    optional = {
        "learning_rate": given.learning_rate,
        "weight_decay": given.weight_decay,
        "momentum": given.momentum or None,
        "nesterov": given.nesterov or None,
    }
    return optimizers.get(
        given.optimizer.lower(),
        **{key: value for key, value in optional.items() if value is not None},
    )


def read_batch_size(text: str) -> int | None:
    """Read the number of rows in a batch; None for all of them."""
    if text == "all":
        return None
    size = options.positive(text)
    if size is None:
        raise InputError(f"--batch-size {shown(text)}: give a whole number, 1 or more, or 'all'")
    return size


def _read_shares(text: str) -> float | tuple[float, ...]:
    """Read the share of units to drop: one for all hidden layers, or one for each."""
    try:
        shares = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--dropout {text!r}: give a share like 0.5, or one per layer") from None
    return shares if len(shares) > 1 else shares[0]


def checkpoint_arguments(given: TrainOptions) -> dict[str, Any]:
    """Return the arguments of `nnxp.train` that save a training and go on with one.

    Raises:
        InputError: an option has a wrong value or no use.
    """
    if given.checkpoint is not None and given.resume is not None:
        raise InputError("--resume FOLDER also saves there: leave --checkpoint out")
    folder = given.resume or given.checkpoint
    if folder is None:
        if given.every != "epoch":
            raise InputError("--every is for --checkpoint FOLDER: name one")
        return {}
    files.check_folder(folder, "--resume" if given.resume else "--checkpoint")
    return {"checkpoint": Checkpoints(folder, given.every), "resume": given.resume}


def open_backend(given: TrainOptions, world: World) -> backends.Backend:
    """Open the backend; of several processes on a machine, each on a GPU of its own."""
    more = given.executor, given.tf32, given.threads
    backend = backends.get(given.backend, given.device, *more)
    if world.on_machine > 1 and backend.device_name == "cuda:0" and given.device != "cuda:0":
        devices = [each for each in backend.devices() if each.startswith("cuda:")]
        device = devices[world.rank_on_machine % len(devices)]
        backend = backends.get(backend.name, device, *more)
    return backend


def load_dataset(given: TrainOptions, world: World) -> Dataset:
    """Load the data. One process of a machine downloads what the others then have."""
    waits = world.rank_on_machine > 0 and given.data in datasets.NAMES
    dataset = None if waits else _load(given)
    world.vote(0)
    return _load(given) if dataset is None else dataset


def _load(given: TrainOptions) -> Dataset:
    return datasets.load(
        given.data,
        given.data_dir,
        target=given.target,
        drop=options.columns(given.drop),
        one_hot=given.one_hot,
        one_hot_columns=options.columns(given.one_hot_columns),
        impute=given.impute,
        delimiter=given.delimiter,
        task=given.task,
        preprocess=given.preprocess,
        test_share=given.test_share,
        features_name=given.features,
        targets_file=given.targets,
        # On another device, features that fit in the host's memory are streamed from there.
        stream=given.stream if datasets.rows.is_for(given.data) else None,
    )


def make_network(given: TrainOptions, dataset: Dataset, backend: backends.Backend) -> MLP:
    """Make the network that the options describe, with as many inputs and outputs as the data."""
    output = given.output_activation
    network = MLP(
        (dataset.x.shape[1], *options.layers(given.hidden), dataset.outputs),
        options.activations(given.activation),
        _default_output(dataset.task, given.loss) if output == "auto" else output,
        initializer=given.initializer,
        backend=backend,
        dtype=given.dtype,
        seed=given.seed,
    )
    network.metadata = dataset.metadata()
    return network


def _default_output(task: TaskName, loss: str) -> ActivationName:
    """Return the output activation for a task; counts have a positive mean."""
    return "softplus" if loss.lower() == "poisson" and task == "regress" else DEFAULT_OUTPUTS[task]


def named_class_weights(given: TrainOptions, dataset: Dataset) -> dict[str, float] | None:
    """Return the weight of each class by name; None if none are given.

    Raises:
        InputError: the targets are no classes, a name is none of a class, or a weight is no number.
    """
    if given.class_weight is None:
        return None
    if dataset.classes is None:
        raise InputError(f"--class-weight is for classes, and the task is {dataset.task}")
    asked: str | dict[str, float] = given.class_weight
    if given.class_weight.lower() != "balanced":
        asked = {}
        for part in given.class_weight.split(","):
            name, _, weight = (text.strip() for text in part.rpartition("="))
            if name not in dataset.classes:
                raise unknown_name("class", name or part, dataset.classes)
            try:
                asked[name] = rules.NOT_NEGATIVE.convert(float(weight))
            except ValueError:
                raise InputError(
                    f"--class-weight {part.strip()!r}: {shown(weight)} is no weight; give a "
                    "number, 0 or more"
                ) from None
    by_class = class_weights(asked, dataset.y, dataset.classes)
    return dict(zip(dataset.classes, by_class.tolist(), strict=True))


def deformation_of_images(deformation: Deformation, dataset: Dataset) -> Deformation:
    """Return the deformation with the shape of the data's images.

    Raises:
        InputError: the samples are no images.
    """
    if dataset.preprocessing.kind == "pca":
        raise InputError("--augment deforms pixels: take --preprocess pixels or zca, not pca")
    if deformation.shape is None and len(dataset.shape) > 1:
        deformation = replace(deformation, shape=dataset.shape)
    return deformation.of_images(dataset.x.shape[1])
