"""The picture of deformed digits."""

from matplotlib.figure import Figure

from nnxp import datasets, plots


def deformed_digits() -> Figure:
    """Each image beside what nine steps of training make of it."""
    augment = "elastic,alpha=10,sigma=1.5,rotate=15,scale=0.1"
    return plots.deformations(datasets.load("digits"), augment)
