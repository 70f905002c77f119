"""`nnxp.sklearn` inside of scikit-learn: pipelines, searches, meta-estimators, array libraries."""

import pickle

import numpy as np
import pytest
from processes import python

sklearn = pytest.importorskip("sklearn", minversion="1.9")

import joblib  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.datasets import load_iris  # noqa: E402
from sklearn.ensemble import StackingClassifier, StackingRegressor  # noqa: E402
from sklearn.inspection import permutation_importance  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import FunctionTransformer, StandardScaler, scale  # noqa: E402

from nnxp import backends  # noqa: E402
from nnxp.arrays import device, namespace, to_numpy  # noqa: E402
from nnxp.sklearn import MLPClassifier, MLPRegressor  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
MIXED = np.random.default_rng(0).permutation(len(Y))
X, Y = scale(X)[MIXED], Y[MIXED]
SMALL = {
    "hidden_layer_sizes": (8,), "max_iter": 15, "learning_rate_init": 0.05, "batch_size": 32,
    "random_state": 0,
}  # fmt: skip


def test_without_scikit_learn_the_error_says_what_to_install():
    done = python("import sys; sys.modules['sklearn'] = None; import nnxp; import nnxp.sklearn")
    assert done.stderr.splitlines()[-1] == (
        'ModuleNotFoundError: nnxp.sklearn needs scikit-learn: pip install "nnxp[sklearn]"'
    )


def test_a_pipeline_is_cross_validated():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    assert cross_val_score(pipeline, X, Y, cv=3).mean() > 0.85
    regression = make_pipeline(StandardScaler(), MLPRegressor(**SMALL))
    assert cross_val_score(regression, X[:, 1:], X[:, 0], cv=3).mean() > 0.4


def test_a_grid_is_searched():
    grid = {"net__activation": ["relu", "leaky_tanh"], "net__alpha": [1e-4, 50.0]}
    pipeline = Pipeline([("scale", StandardScaler()), ("net", MLPClassifier(**SMALL))])
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, Y)
    assert search.best_params_["net__alpha"] == 1e-4
    assert search.score(X, Y) > 0.85


SEARCH = """
import json, os, sys, warnings
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV
from nnxp.sklearn import MLPClassifier

def threads(estimator, X, y):
    from threadpoolctl import threadpool_info
    return max(pool["num_threads"] for pool in threadpool_info())

if __name__ == "__main__":
    X, y = load_iris(return_X_y=True)
    os.environ["PYTHONWARNINGS"] = "ignore"
    grid = {"max_iter": [1, 2]}
    search = GridSearchCV(MLPClassifier(), grid, cv=2, n_jobs=2, scoring=threads).fit(X, y)
    print(search.cv_results_["mean_test_score"].max(), max(1, os.cpu_count() // 2))
"""


@pytest.mark.slow
def test_a_search_in_two_processes_divides_the_threads(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(SEARCH)
    done = python(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    assert done.returncode == 0, done.stderr
    found, most = map(float, done.stdout.split())
    assert found <= most


@pytest.mark.promise("threads")
def test_a_search_in_two_threads_leaves_the_threads_of_blas_alone():
    from threadpoolctl import threadpool_info

    before = [pool["num_threads"] for pool in threadpool_info()]
    with joblib.parallel_config("threading"):
        search = GridSearchCV(MLPClassifier(**SMALL), {"alpha": [1e-4, 1e-3]}, cv=2, n_jobs=2)
        alone = search.fit(X, Y).cv_results_["mean_test_score"]
    assert [pool["num_threads"] for pool in threadpool_info()] == before
    again = GridSearchCV(MLPClassifier(**SMALL), {"alpha": [1e-4, 1e-3]}, cv=2).fit(X, Y)
    assert (again.cv_results_["mean_test_score"] == alone).all()


def test_meta_estimators_take_them():
    net = MLPClassifier(**SMALL)
    calibrated = CalibratedClassifierCV(net, cv=2, method="sigmoid").fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    assert calibrated.score(X, Y) > 0.8
    parts = [("net", net), ("line", LogisticRegression())]
    assert StackingClassifier(parts, cv=2).fit(X, Y).score(X, Y) > 0.85
    parts = [("net", MLPRegressor(**SMALL)), ("line", Ridge())]
    assert StackingRegressor(parts, cv=2).fit(X[:, 1:], X[:, 0]).score(X[:, 1:], X[:, 0]) > 0.7
    importance = permutation_importance(net.fit(X, Y), X, Y, n_repeats=2, random_state=0)
    assert importance.importances_mean[2:].sum() > importance.importances_mean[:2].sum()


def test_a_clone_has_the_parameters_and_nothing_learnt():
    net = MLPClassifier(**SMALL, backend="numpy", dropout=[0.1], scoring="accuracy").fit(X, Y)
    copied = clone(net)
    assert copied.get_params() == net.get_params()
    assert not hasattr(copied, "network_")


@pytest.mark.parametrize("store", ["pickle", "joblib"])
def test_a_stored_estimator_predicts_and_goes_on(backend, store, tmp_path):
    if backend.name == "array-api-strict":
        pytest.skip("its arrays do not pickle")
    nets = [MLPClassifier(**SMALL, backend=backend).fit(X, Y)]
    if store == "pickle":
        nets.append(pickle.loads(pickle.dumps(nets[0])))
    else:
        joblib.dump(nets[0], tmp_path / "net.joblib")
        nets.append(joblib.load(tmp_path / "net.joblib"))
    assert (nets[0].predict(X) == nets[1].predict(X)).all()
    first, second = (net.partial_fit(X, Y).predict_proba(X) for net in nets)
    np.testing.assert_allclose(first, second, rtol=1e-6)


def test_transformed_frames_of_set_output_are_taken():
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    frames = pytest.importorskip("pandas")
    pipeline.set_output(transform="pandas")
    names = ["a", "b", "c", "d"]
    pipeline.fit(frames.DataFrame(X, columns=names), Y)
    assert list(pipeline[-1].feature_names_in_) == names


def test_set_output_of_the_steps_before_does_not_matter():
    plain = make_pipeline(FunctionTransformer(), MLPClassifier(**SMALL)).fit(X, Y)
    pipeline = make_pipeline(FunctionTransformer(), MLPClassifier(**SMALL))
    pipeline.set_output(transform="default").fit(X, Y)
    assert (plain.predict(X) == pipeline.predict(X)).all()


def test_sample_weights_are_routed():
    weight = np.where(Y == 2, 0.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        net = MLPClassifier(**SMALL).set_fit_request(sample_weight=True)
        net.set_score_request(sample_weight=False)
        pipeline = Pipeline([("scale", StandardScaler()), ("net", net)])
        pipeline[0].set_fit_request(sample_weight=False)
        pipeline.fit(X, Y, sample_weight=weight)
        search = GridSearchCV(net, {"alpha": [1e-4]}, cv=2).fit(X, Y, sample_weight=weight)
    assert 2 not in pipeline.predict(X)
    assert 2 not in search.predict(X)


# Array libraries.


@pytest.fixture
def dispatch(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with sklearn.config_context(array_api_dispatch=True):
        yield


@pytest.mark.usefixtures("dispatch")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_arrays_come_back_in_their_library(backend, dtype):
    x = backend.asarray(X, dtype=getattr(backend.xp, dtype))
    t = backend.asarray(Y)
    net = MLPClassifier(**SMALL, early_stopping=True).fit(x, t)
    assert (net.network_.backend.name, net.network_.dtype) == (backend.name, dtype)
    assert net.network_.backend.holds(x)
    wanted = MLPClassifier(**SMALL, early_stopping=True).fit(X.astype(dtype), Y)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        y = getattr(net, method)(x)
        assert namespace(y) is backend.xp
        assert device(y) == device(x)
        expected = getattr(wanted, method)(X.astype(dtype))
        assert str(to_numpy(y).dtype) == str(expected.dtype)
        np.testing.assert_allclose(to_numpy(y), expected, rtol=1e-2, atol=1e-3)
    assert all(namespace(each) is backend.xp for each in net.coefs_)
    assert np.mean(to_numpy(net.predict(x)) == Y) > 0.8

    regression = MLPRegressor(**SMALL).fit(x, x[:, :2])
    y = regression.predict(x)
    assert (namespace(y), y.dtype, y.shape) == (backend.xp, x.dtype, (150, 2))
    with pytest.raises(ValueError, match=r"MLPClassifier.predict\(\) must use the same namespace"):
        net.predict(backends.get("array-api-strict").asarray(X) if backend.name == "numpy" else X)


@pytest.mark.usefixtures("dispatch")
def test_strings_and_another_backend_under_dispatch():
    strict = backends.get("array-api-strict", "device1")
    x = strict.asarray(X)
    names = np.array(["setosa", "versicolor", "virginica"])[Y]
    net = MLPClassifier(**SMALL, backend="numpy", scoring="accuracy", early_stopping=True)
    net.fit(x, strict.asarray(Y))
    assert namespace(net.predict(x)) is strict.xp
    assert net.network_.backend.name == "numpy"
    named = MLPClassifier(**SMALL).fit(x, names)
    assert isinstance(named.predict(x), np.ndarray)
    assert np.mean(named.predict(x) == names) > 0.8
