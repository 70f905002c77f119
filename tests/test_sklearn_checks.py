"""scikit-learn's own checks of an estimator, on all of which none may fail."""

from collections import Counter

import pytest

sklearn = pytest.importorskip("sklearn", minversion="1.9")

from sklearn.utils.estimator_checks import (  # noqa: E402
    estimator_checks_generator,
    parametrize_with_checks,
)

from nnxp.sklearn import MLPClassifier, MLPRegressor  # noqa: E402

COUNTS = {"1.9": {"MLPClassifier": 88, "MLPRegressor": 81}}
"""The number of checks of each version: a tag that is lost would lose checks."""
LEARNS = {
    "check_classifiers_train",
    "check_classifiers_classes",
    "check_regressors_train",
    "check_sample_weight_equivalence_on_dense_data",
}
"""The checks that need a trained network; two epochs do for the others."""


def estimators():
    shape = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.02, "max_iter": 2}
    return [MLPClassifier(**shape), MLPRegressor(**shape)]


@pytest.mark.promise("estimators")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(estimators())
def test_an_estimator_passes_the_checks_of_scikit_learn(estimator, check, monkeypatch):
    name = getattr(check, "func", check).__name__
    if "array_api" in name:  # without it, scikit-learn leaves them out
        monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    if name in LEARNS:
        estimator.set_params(max_iter=40)
    try:
        check(estimator)
    except RuntimeError as error:
        if "cudaErrorNotSupported" not in str(error):
            raise
        pytest.skip("scikit-learn sorts labels, which ci/cupy's emulated CUDA does not")


@pytest.mark.promise("estimators")
def test_no_check_is_lost():
    version = ".".join(sklearn.__version__.split(".")[:2])
    if version not in COUNTS:
        pytest.skip(f"the checks of scikit-learn {version} were not counted")
    found = Counter(
        type(estimator).__name__
        for each in estimators()
        for estimator, _ in estimator_checks_generator(each)
    )
    assert found == COUNTS[version]
