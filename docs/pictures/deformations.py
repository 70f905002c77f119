"""The picture of deformed digits."""

from matplotlib.figure import Figure

from nnxp import datasets, plots


def deformed_digits() -> Figure:
    """Each image beside what nine steps of training make of it."""
    augment = "elastic,alpha=4,sigma=1.5,rotate=10,scale=0.1"
    return plots.deformations(datasets.load("digits"), augment)
