"""Multi-layer perceptrons with scikit-learn's interface, on any backend of nnxp.

`MLPClassifier` and `MLPRegressor` take the place of scikit-learn's: change the import.
"""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ModuleNotFoundError(
        'nnxp.sklearn needs scikit-learn: pip install "nnxp[sklearn]"', name="sklearn"
    ) from None

from nnxp.sklearn.classifier import MLPClassifier
from nnxp.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
