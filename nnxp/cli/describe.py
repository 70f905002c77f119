"""Describe networks, data and results in lines of text, for commands to print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnxp import datasets
from nnxp.augmentation import Deformation
from nnxp.data.placement import bytes_text
from nnxp.data.sources import Source
from nnxp.datasets import Dataset, tables
from nnxp.datasets.texts import finite_number
from nnxp.history import Epoch
from nnxp.metrics import format_figure
from nnxp.network import MLP


def network(network: MLP, loss: str) -> str:
    """Describe sizes, activations and loss: "64-30-10, relu, softmax with quadratic"."""
    sizes = "-".join(map(str, network.sizes))
    hidden = ", ".join(dict.fromkeys(network.hidden)) or "no hidden layer"
    return f"{sizes}, {hidden}, {network.output} with {loss.replace('_', ' ')}"


def origin(network: MLP) -> Iterator[str]:
    """Describe the loss of a model and the data that it was trained on, line by line."""
    known = datasets.described(network.metadata, network.sizes)
    loss = network.loss.replace("_", " ")
    data = network.metadata.get("data")
    where = f"trained on {_name(data)}" if isinstance(data, str) else "trained on unknown data"
    yield f"{where}; loss {loss}" + (f"; task {known['task']}" if "task" in known else "")
    for key, heading in (("classes", "classes"), ("features", "features"), ("target", "target")):
        if value := known.get(key):
            yield f"{heading}: {_several([value] if isinstance(value, str) else value)}"
    if preprocessing := known.get("preprocessing"):
        yield f"preprocessing of the features: {preprocessing['kind']}"
    if network.target_scaling is not None:
        yield f"targets are scaled: {network.target_scaling.describe()}"


def _several(names: Sequence[str]) -> str:
    """Join names, the first ten if there are more."""
    more = f", ... ({len(names):,})" if len(names) > 10 else ""
    return ", ".join(_name(str(name)) for name in names[:10]) + more


def class_weights(weights: Mapping[str, float], given: str) -> str:
    """Describe the weights of classes."""
    told = ", ".join(f"{_name(name)}={weight:.3g}" for name, weight in list(weights.items())[:10])
    more = ", ..." if len(weights) > 10 else ""
    return f"class weights: {told}{more}" + (" (balanced)" if given.lower() == "balanced" else "")


def augmentation(deformation: Deformation) -> str:
    """Describe what is done to the training images."""
    size = " x ".join(map(str, deformation.shape or ()))
    return f"images of {size}, in each step {deformation.describe()}"


def figures(figures: dict[str, float]) -> str:
    """Describe what `MLP.evaluate` returned, the loss last."""
    metrics = (name for name in figures if name != "loss")
    return ", ".join(f"{name} {format_figure(figures[name])}" for name in (*metrics, "loss"))


def task(dataset: Dataset) -> str:
    """Describe the task, whether it was guessed, and the target column."""
    said = dataset.describe_task()
    if dataset.task_guessed:
        said += f" (guessed; --task {'classify' if dataset.task == 'regress' else 'regress'})"
    return said + (f"; target {_name(dataset.target)}" if dataset.target else "")


def header(dataset: Dataset) -> str:
    """Describe the first line of a csv file, which was read as its header; "" for other data."""
    if dataset.header is None:
        return ""
    names = [_name(name) for name in dataset.header[:8]]
    if len(dataset.header) > 8:
        names += ["...", f"{_name(dataset.header[-1])} ({len(dataset.header):,} columns)"]
    line = f"header, the first line: {', '.join(names)}"
    if any(finite_number(name) is not None for name in dataset.header):
        line += "; it has numbers: if it is data, put a line of names above it"
    return line


def on_disk(dataset: Dataset, *, by_blocks: bool = False) -> str:
    """Describe features that stay on disk, and how they are shuffled; "" for others."""
    x: Any = dataset.x
    if not isinstance(x, Source):
        return ""
    x = x.in_blocks() if by_blocks else x
    return f"features stay on disk, {bytes_text(x.base.nbytes)}; shuffled: {x.describe()}"


def table(dataset: Dataset) -> Iterator[str]:
    """Describe how a table was read: its delimiter, the features made of its columns, and what was
    filled in; nothing for what goes without saying.
    """
    if dataset.delimiter not in (None, ","):
        name = tables.DELIMITERS.get(dataset.delimiter, repr(dataset.delimiter))
        yield f"delimiter {name}" + (", decimal comma" if dataset.decimal == "," else "")
    if found := categories(dataset):
        yield (
            f"{dataset.x_test.shape[1]} features from {len(dataset.features or ())} columns; "
            f"categories: {_listed(found)}"
        )
    if dataset.filled:
        yield f"missing values filled in: {_listed(dataset.filled)}"


def categories(dataset: Dataset) -> dict[str, int]:
    """Return the number of categories of each column that is one-hot encoded."""
    if dataset.encoding is None or dataset.features is None:
        return {}
    pairs = zip(dataset.features, dataset.encoding.categories, strict=True)
    return {name: len(each) for name, each in pairs if each is not None}


def _listed(counts: dict[str, int]) -> str:
    """List the first counts: "age 177, port 2, ..."."""
    first = [f"{_name(name)} {count:,}" for name, count in list(counts.items())[:8]]
    return ", ".join(first + ["..."] * (len(counts) > 8))


def _name(text: str) -> str:
    """Return a name from a file in a form that can be printed."""
    return text if text and text.isprintable() else repr(text)


def missing_rows(dataset: Dataset, validated: int, validation: float) -> Iterator[str]:
    """Describe each part that has fewer rows than its share: how many, and why.

    Args:
        dataset: the data.
        validated: the number of validation rows.
        validation: the share of validation rows that was given.
    """
    samples, tested = len(dataset.x), len(dataset.x_test)
    parts = [("validate", validated, validation, samples)]
    if dataset.split:
        parts.append(("test", tested, dataset.split.share, samples + tested))
    for verb, rows, share, of in parts:
        if rows < (asked := round(share * of)):
            yield (
                f"{rows:,} rows to {verb} on and not {asked:,}, a share of {share:g}: each class "
                "keeps a row to train on"
            )
        elif share and not rows:
            yield f"no rows to {verb} on: a share of {share:g} of {of:,} is less than one"


def tested_on(dataset: Dataset) -> str:
    """Describe how many rows were evaluated, and whether training used them."""
    rows = f"{len(dataset.x_test):,}"
    if dataset.split is None:
        return f"{rows} samples"
    if dataset.trained_on:
        return f"{rows} samples, none of which was trained on"
    if dataset.trained_on is None:
        return f"{rows} samples; the model does not say what it was trained on"
    return f"{rows} samples; the content is not that which the model was trained on"


def layers(epoch: Epoch) -> str:
    """Describe what `--diagnose` found in an epoch, a line for each layer."""
    assert epoch.diagnosis is not None
    lines = [
        f"\nepoch {epoch.epoch}",
        f"{'layer':>5} {'activation':<11} {'dead':>5} {'saturated':>9} {'gradient':>9} "
        f"{'update':>9}",
    ]
    for i, layer in enumerate(epoch.diagnosis.layers, 1):
        dead, saturated = (
            "" if share is None else f"{share:.0%}" for share in (layer.dead, layer.saturated)
        )
        lines.append(
            f"{i:>5} {layer.activation:<11} {dead:>5} {saturated:>9} "
            f"{layer.gradient:>9.1e} {layer.update:>9.1e}"
        )
    ratio = epoch.diagnosis.gradient_ratio
    if ratio is not None:
        lines.append(f"gradient of the first layer over the last's: {ratio:.1e}")
    return "\n".join(lines)
