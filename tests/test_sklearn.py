"""`nnxp.sklearn` against scikit-learn's own classes, and what it has beyond them."""

import logging
import math
import re

import conftest
import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn", minversion="1.9")

from scipy import sparse  # noqa: E402
from sklearn import neural_network as theirs  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.datasets import (  # noqa: E402
    load_diabetes,
    load_digits,
    load_wine,
    make_multilabel_classification,
)
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning  # noqa: E402
from sklearn.metrics import make_scorer, recall_score  # noqa: E402
from sklearn.preprocessing import scale  # noqa: E402
from sklearn.utils.class_weight import compute_sample_weight  # noqa: E402

import nnxp  # noqa: E402
from nnxp.objectives import LOSSES  # noqa: E402
from nnxp.sklearn import MLPClassifier, MLPRegressor, initial  # noqa: E402
from nnxp.sklearn.base import SEEDS  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

WINE = load_wine(return_X_y=True)
MIXED = np.random.default_rng(0).permutation(len(WINE[1]))
WINE = scale(WINE[0])[MIXED], WINE[1][MIXED]
DIABETES = load_diabetes(return_X_y=True)
DIABETES = scale(DIABETES[0])[:200], DIABETES[1][:200] / 50
LABELS = make_multilabel_classification(150, 10, n_classes=4, random_state=0)
TWO = WINE[0], np.array(["no", "yes"])[(WINE[1] == 1).astype(int)]
STRINGS = WINE[0], np.array(["red", "rosé", "white"])[WINE[1]]
SGD = {"solver": "sgd", "learning_rate_init": 0.1}
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0}
ESTIMATORS = [(MLPClassifier, WINE), (MLPRegressor, DIABETES)]


def probabilities_or_values(model, x):
    return model.predict_proba(x) if hasattr(model, "predict_proba") else model.predict(x)


CASES = {
    "sgd": ("MLPClassifier", WINE, SGD),
    "no momentum": ("MLPClassifier", WINE, SGD | {"momentum": 0.0}),
    "no nesterov": ("MLPClassifier", WINE, SGD | {"nesterovs_momentum": False}),
    "adaptive": ("MLPClassifier", WINE, SGD | {"learning_rate": "adaptive", "tol": 0.01,
                                               "n_iter_no_change": 1}),
    "invscaling": ("MLPClassifier", WINE, SGD | {"learning_rate": "invscaling"}),
    "in order": ("MLPClassifier", WINE, SGD | {"shuffle": False}),
    "penalty": ("MLPClassifier", WINE, SGD | {"alpha": 5.0, "batch_size": 50}),
    "strings": ("MLPClassifier", STRINGS, SGD),
    "two classes, early stopping": ("MLPClassifier", TWO, SGD | {"early_stopping": True}),
    "three classes, early stopping": ("MLPClassifier", WINE, SGD | {"early_stopping": True}),
    "labels": ("MLPClassifier", LABELS, SGD | {"activation": "tanh"}),
    "labels, early stopping": ("MLPClassifier", LABELS, SGD | {"early_stopping": True}),
    "no hidden layer": ("MLPClassifier", WINE, SGD | {"hidden_layer_sizes": ()}),
    "adam": ("MLPClassifier", WINE, {"learning_rate_init": 0.01}),
    "lbfgs": ("MLPClassifier", WINE, {"solver": "lbfgs", "activation": "logistic"}),
    "two classes, lbfgs": ("MLPClassifier", TWO, {"solver": "lbfgs", "max_fun": 12}),
    "values": ("MLPRegressor", DIABETES, SGD | {"learning_rate_init": 0.01}),
    "values, early stopping": ("MLPRegressor", DIABETES, {"early_stopping": True}),
    "values, lbfgs": ("MLPRegressor", DIABETES, {"solver": "lbfgs", "activation": "identity"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_estimators_learn_what_scikit_learns_do(case):
    name, (x, t), options = CASES[case]
    options = {"hidden_layer_sizes": (12, 8), "max_iter": 12, "random_state": 1} | options
    ours = getattr(nnxp.sklearn, name)(**options).fit(x, t)
    reference = getattr(theirs, name)(**options).fit(x, t)
    tolerance = {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(
        probabilities_or_values(ours, x), probabilities_or_values(reference, x), **tolerance
    )
    assert (ours.predict(x) == reference.predict(x)).all() or name == "MLPRegressor"
    for attribute in (
        "n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"
    ):  # fmt: skip
        assert getattr(ours, attribute) == getattr(reference, attribute), attribute
    attributes = ["loss_", "coefs_", "intercepts_"]
    if ours.solver != "lbfgs":
        attributes += ["loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"]
    for attribute in attributes:
        found, expected = getattr(ours, attribute), getattr(reference, attribute)
        if expected is None:
            assert found is None
        elif attribute in ("coefs_", "intercepts_"):
            for one, other in zip(found, expected, strict=True):
                assert isinstance(one, np.ndarray)
                np.testing.assert_allclose(one, other, **tolerance)
        else:
            np.testing.assert_allclose(found, expected, **tolerance)


@pytest.mark.skipif("poisson" not in LOSSES, reason="nnxp has no Poisson loss yet")
@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_counts_are_learnt_as_scikit_learn_does(solver):
    x, t = DIABETES
    t = np.random.default_rng(0).poisson(t)
    options = {"solver": solver, "loss": "poisson", "max_iter": 8, "random_state": 0}
    ours, reference = (each(**options).fit(x, t) for each in (MLPRegressor, theirs.MLPRegressor))
    np.testing.assert_allclose(ours.predict(x), reference.predict(x), rtol=1e-7)
    assert ours.loss_ == pytest.approx(reference.loss_, rel=1e-9)
    assert ours.out_activation_ == reference.out_activation_ == "exp"
    stopped = MLPRegressor(**options | {"solver": "adam"}, early_stopping=True).fit(x, t)
    assert stopped.history_.metric == "r2"


def test_constructor_parameters_have_scikit_learns_names_order_and_defaults():
    for name in ("MLPClassifier", "MLPRegressor"):
        ours, reference = getattr(nnxp.sklearn, name)(), getattr(theirs, name)()
        expected = reference.get_params()
        assert ours.get_params() | expected == ours.get_params()
    assert MLPClassifier((5,), "tanh").get_params()["activation"] == "tanh"
    assert MLPRegressor("squared_error", (5,), "tanh").get_params()["activation"] == "tanh"


@pytest.mark.parametrize("options", [SGD, {"learning_rate_init": 0.01}], ids=["sgd", "adam"])
def test_partial_fits_go_on_with_the_optimizers_state(options):
    x, t = WINE
    both = [
        library(hidden_layer_sizes=(8,), random_state=2, **options)
        for library in (MLPClassifier, theirs.MLPClassifier)
    ]
    for _ in range(5):
        for model in both:
            model.partial_fit(x[:50], t[:50], classes=[0, 1, 2])
            model.partial_fit(x[50:], t[50:])
    ours, reference = both
    np.testing.assert_allclose(ours.loss_curve_, reference.loss_curve_, rtol=1e-4)
    assert (ours.n_iter_, ours.t_) == (reference.n_iter_, reference.t_) == (1, 5 * len(x))


@pytest.mark.parametrize("solver", ["sgd", "lbfgs"])
def test_a_warm_start_goes_on(solver):
    options = {"solver": solver, "hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 2}
    models = [each(warm_start=True, **options) for each in (MLPRegressor, theirs.MLPRegressor)]
    for model in models * 2:
        model.fit(*DIABETES)
    ours, reference = models
    np.testing.assert_allclose(ours.predict(DIABETES[0]), reference.predict(DIABETES[0]), rtol=1e-6)
    if solver == "sgd":
        np.testing.assert_allclose(ours.loss_curve_, reference.loss_curve_, rtol=1e-9)
        assert len(ours.loss_curve_) == 10
    with pytest.raises(ValueError, match="parameters have shapes"):
        ours.set_params(hidden_layer_sizes=(9,)).fit(*DIABETES)


def test_sample_weights_are_scikit_learns():
    """Of all samples at once: scikit-learn scales weights to mean one in every batch."""
    x, t = DIABETES
    weight = np.random.default_rng(0).uniform(0, 3, len(t))
    for options in ({"solver": "lbfgs"}, SGD | {"learning_rate_init": 0.01, "batch_size": 200}):
        options |= {"alpha": 0.5, "max_iter": 8, "random_state": 0}
        ours = MLPRegressor(**options).fit(x, t, sample_weight=weight)
        reference = theirs.MLPRegressor(**options).fit(x, t, sample_weight=weight)
        np.testing.assert_allclose(ours.predict(x), reference.predict(x), rtol=1e-8)
        assert ours.loss_ == pytest.approx(reference.loss_, rel=1e-9)


def test_progress_is_printed_as_scikit_learn_does(capsys):
    options = SGD | {"verbose": True, "max_iter": 40, "tol": 0.05, "random_state": 0}
    for extra in (
        {},
        {"early_stopping": True},
        {"learning_rate": "adaptive", "n_iter_no_change": 1, "learning_rate_init": 1e-5},
    ):
        printed = []
        for library in (MLPClassifier, theirs.MLPClassifier):
            library(**options | extra).fit(*WINE)
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1] != ""


def test_lbfgs_prints_its_iterations(capsys):
    MLPRegressor(solver="lbfgs", max_iter=3, verbose=1).fit(*DIABETES)
    assert len(re.findall(r"Iteration \d, loss = \d", capsys.readouterr().out)) == 3


def fits(estimator, data, message, warning=ConvergenceWarning, **options):
    with pytest.warns(warning, match=message):
        estimator(**SMALL | options).fit(*data)


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_warnings_are_scikit_learns():
    fits(MLPClassifier, WINE, r"Maximum iterations \(3\) reached")
    fits(MLPClassifier, WINE, r"lbfgs failed to converge after 3 iteration\(s\)", solver="lbfgs")
    fits(MLPClassifier, WINE, "It is going to be clipped", UserWarning, batch_size=1000)
    column = WINE[0], WINE[1][:, None]
    fits(MLPClassifier, column, "A column-vector y was passed", DataConversionWarning)
    fits(MLPRegressor, (DIABETES[0], 1e6 * DIABETES[1]), "The parameters with the best validation",
         solver="sgd", early_stopping=True, max_iter=50, learning_rate_init=1e-7 * 30,
         activation="identity")  # fmt: skip


def test_a_keyboard_interrupt_keeps_what_was_learnt():
    def interrupt(network, history):
        if len(history.epochs) == 2:
            raise KeyboardInterrupt

    model = MLPClassifier(**SMALL, callbacks=[interrupt])
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(*WINE)
    assert model.n_iter_ == len(model.loss_curve_) == 2
    assert model.predict(WINE[0]).shape == WINE[1].shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": -1}, "hidden_layer_sizes must be a whole number, 1 or more, or a"),
        ({"alpha": -1}, "alpha must be a finite number, 0 or more, not -1"),
        ({"solver": "sdg"}, "unknown solver 'sdg': did you mean 'sgd'?"),
        ({"activation": "reul"}, "unknown activation 'reul': did you mean 'relu'?"),
        ({"activation": ["relu", "tanh"]}, "2 hidden activations for 1 hidden layers"),
        ({"learning_rate": "fast"}, "unknown learning_rate 'fast'"),
        ({"batch_size": "all"}, "batch_size must be"),
        ({"n_iter_no_change": 1.5}, "n_iter_no_change must be a whole number, 1 or more, or inf"),
        ({"verbose": "yes"}, "verbose must be True, False or a whole number"),
        ({"backend": "nunpy"}, "unknown backend 'nunpy': did you mean 'numpy'?"),
        ({"solver": "lbfgs", "dropout": 0.5}, "dropout needs solver='sgd' or 'adam'"),
        ({"solver": "lbfgs", "augment": "flip"}, "augment needs solver='sgd' or 'adam'"),
        ({"augment": "rotate=12"}, "10 features are no square image"),
        ({"augment": "rotat=12"}, "unknown augment 'rotat': did you mean 'rotate'?"),
        ({"solver": "lbfgs", "callbacks": [print]}, "callbacks needs solver='sgd' or 'adam'"),
        ({"early_stopping": True, "validation_fraction": 0.005}, "validation set is too small"),
        (SGD | {"learning_rate_init": 1e9, "activation": "identity", "max_iter": 50},
         "Solver produced non-finite parameter weights"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted_is_an_error_of_one_line(options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        MLPRegressor(**SMALL | options).fit(*DIABETES)
    assert "\n" not in str(error.value)


def test_errors_of_classes_are_scikit_learns():
    x, t = WINE
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(x, t)
    model = MLPClassifier(**SMALL).partial_fit(x, t, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="is not the same as on last call"):
        model.partial_fit(x, t, classes=[0, 1])
    with pytest.raises(ValueError, match="has classes not in"):
        model.partial_fit(x, t + 1)
    model = MLPClassifier(**SMALL, warm_start=True).fit(x, t)
    with pytest.raises(ValueError, match="warm_start can only be used where"):
        model.fit(x[t < 2], t[t < 2])
    with pytest.raises(AttributeError) as error:
        _ = MLPClassifier(solver="lbfgs").partial_fit
    assert "lbfgs is not stochastic" in str(error.value.__cause__)
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        MLPClassifier(**SMALL).fit(x, t, X_val=x)
    with pytest.raises(ValueError, match="sample_weight_val is given without X_val"):
        MLPClassifier(**SMALL).fit(x, t, sample_weight_val=t)


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.csc_matrix])
@pytest.mark.parametrize(("estimator", "data"), ESTIMATORS)
def test_sparse_features_are_dense_ones(estimator, data, kind, caplog):
    x, t = data
    x = np.where(np.abs(x) < 0.5, 0, x)
    with caplog.at_level(logging.INFO, "nnxp"):
        model = estimator(**SMALL, early_stopping=True).fit(kind(x), t)
    assert "X is sparse, and made dense for training: " in caplog.text
    expected = estimator(**SMALL, early_stopping=True).fit(x, t)
    assert model.validation_scores_ == expected.validation_scores_
    np.testing.assert_allclose(model.predict(kind(x)), expected.predict(x))


def test_sparse_labels_come_back_sparse():
    x, t = LABELS
    model = MLPClassifier(**SMALL).fit(x, sparse.csr_array(t))
    assert sparse.issparse(model.predict(x))
    assert (model.predict(x).toarray() == MLPClassifier(**SMALL).fit(x, t).predict(x)).all()


# Beyond scikit-learn.


@pytest.mark.parametrize(("estimator", "data"), ESTIMATORS)
def test_every_backend_learns_the_same_from_numpy_arrays(backend, estimator, data):
    x, t = data
    options = {"hidden_layer_sizes": (8, 6), "activation": ["leaky_relu", "tanh"], "max_iter": 3}
    options |= {"random_state": 0, "early_stopping": True, "solver": "sgd"}
    expected = estimator(**options).fit(x, t)
    model = estimator(**options, backend=backend).fit(x, t)
    assert isinstance(model.predict(x), np.ndarray)
    assert all(isinstance(each, np.ndarray) for each in model.coefs_ + model.intercepts_)
    found, wanted = (probabilities_or_values(each, x) for each in (model, expected))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert model.network_.backend is backend


def test_lbfgs_runs_on_every_backend(backend):
    options = {"solver": "lbfgs", "max_iter": 5, "random_state": 0, "hidden_layer_sizes": 6}
    expected = MLPClassifier(**options).fit(*WINE)
    model = MLPClassifier(**options, backend=backend).fit(*WINE)
    np.testing.assert_allclose(
        model.predict_proba(WINE[0]), expected.predict_proba(WINE[0]), rtol=1e-5, atol=1e-9
    )


def test_the_dtype_is_that_of_the_features_or_as_asked():
    x, t = WINE
    assert MLPClassifier(**SMALL).fit(x, t).coefs_[0].dtype == np.float64
    single = MLPClassifier(**SMALL).fit(x.astype(np.float32), t)
    assert single.coefs_[0].dtype == single.predict_proba(x.astype(np.float32)).dtype == np.float32
    assert MLPClassifier(**SMALL, dtype="float32").fit(x, t).coefs_[0].dtype == np.float32


def test_class_weights_are_sample_weights():
    x, t = WINE
    for weights in ("balanced", {0: 1.0, 1: 5.0, 2: 0.5}):
        model = MLPClassifier(**SMALL, class_weight=weights).fit(x, t)
        same = MLPClassifier(**SMALL).fit(x, t, sample_weight=compute_sample_weight(weights, t))
        assert (model.predict_proba(x) == same.predict_proba(x)).all()
    x, t = LABELS
    per_label = [{0: 1, 1: 3}, {0: 1, 1: 1}, {0: 2, 1: 1}, {0: 1, 1: 1}]
    model = MLPClassifier(**SMALL, class_weight=per_label).fit(x, t)
    same = MLPClassifier(**SMALL).fit(x, t, sample_weight=compute_sample_weight(per_label, t))
    assert (model.predict_proba(x) == same.predict_proba(x)).all()
    stopped = MLPClassifier(**SMALL, class_weight={0: 1, 1: 9, 2: 1}, early_stopping=True)
    best = stopped.fit(*WINE).best_validation_score_  # accuracy, which has no such weights
    assert best * 18 == pytest.approx(round(best * 18))
    model = MLPClassifier(**SMALL, class_weight="balanced")
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial"):
        model.partial_fit(*WINE, classes=[0, 1, 2])


def test_early_stopping_takes_any_scorer_and_validation_data():
    x, t = TWO
    seen = []

    def scorer(estimator, features, targets):
        seen.append((features.shape, set(targets)))
        return float(len(seen) == 2)  # the second epoch is the best

    options = {"early_stopping": True, "n_iter_no_change": 3, "scoring": scorer}
    stopped = MLPClassifier(**SMALL | {"max_iter": 20} | options)
    stopped.fit(x[:100], t[:100], X_val=x[100:], y_val=t[100:])
    assert seen == [((78, 13), {"no", "yes"})] * 6
    assert stopped.converged_
    assert stopped.validation_scores_ == [0, 1, 0, 0, 0, 0]
    best = MLPClassifier(**SMALL | {"max_iter": 2}).fit(x[:100], t[:100])
    assert (stopped.predict_proba(x) == best.predict_proba(x)).all()

    recall = make_scorer(recall_score, pos_label="yes")
    model = MLPClassifier(**SMALL, early_stopping=True, scoring=recall).fit(x, t)
    assert 0 <= model.best_validation_score_ <= 1
    model = MLPClassifier(**SMALL, early_stopping=True, scoring="neg_log_loss").fit(x, t)
    assert model.best_validation_score_ < 0


def test_validation_weights_count():
    x, t = DIABETES
    weight = np.r_[np.zeros(50), np.ones(50)]
    options = SMALL | {"early_stopping": True}
    weighted = MLPRegressor(**options).fit(
        x[:100], t[:100], X_val=x[100:], y_val=t[100:], sample_weight_val=weight
    )
    half = MLPRegressor(**options).fit(x[:100], t[:100], X_val=x[150:], y_val=t[150:])
    np.testing.assert_allclose(weighted.validation_scores_, half.validation_scores_, rtol=1e-9)


def test_validation_data_is_there_for_callbacks():
    x, t = WINE
    stop = nnxp.EarlyStopping("validation_loss", patience=1)
    model = MLPClassifier(**SMALL | {"max_iter": 50, "learning_rate_init": 0.3}, callbacks=[stop])
    model.fit(x[:100], t[:100], X_val=x[100:], y_val=t[100:])
    assert model.n_iter_ < 50
    assert model.history_.metric == "accuracy"
    assert model.validation_scores_ is None


def test_the_protocol_of_callbacks_holds_for_estimators(tmp_path):
    calls = []

    class Noted(nnxp.Callback):
        def start(self, network, history):
            calls.append(("start", len(history.epochs)))

        def finish(self, network, history):
            calls.append(("finish", len(history.epochs)))

    x, t = WINE
    log = nnxp.CSVLog(tmp_path / "log.csv")
    model = clone(MLPClassifier(**SMALL | {"max_iter": 4}, callbacks=[Noted(), log]))
    with pytest.warns(ConvergenceWarning):
        model.fit(x[:100], t[:100], X_val=x[100:], y_val=t[100:])
    assert calls == [("start", 0), ("finish", 4)]
    header, *rows = (tmp_path / "log.csv").read_text().splitlines()
    assert "validation_accuracy" in header
    assert len(rows) == 4
    calls.clear()
    model = MLPClassifier(**SMALL, callbacks=[Noted(), log])
    for _ in range(2):  # each call is a training that goes on
        model.partial_fit(x, t, classes=[0, 1, 2])
    assert calls == [("start", 0), ("finish", 1), ("start", 1), ("finish", 2)]
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_partial_fits_stop_early():
    x, t = WINE
    model = MLPClassifier(**SMALL | {"learning_rate_init": 0.05}, early_stopping=True)
    model.set_params(n_iter_no_change=4)
    calls = 0
    while not getattr(model, "converged_", False) and calls < 100:
        model.partial_fit(x[::2], t[::2], classes=[0, 1, 2], X_val=x[1::2], y_val=t[1::2])
        calls += 1
    scores = model.validation_scores_
    assert 6 <= len(scores) == calls < 100
    assert model.best_validation_score_ == max(scores)
    assert model.score(x[1::2], t[1::2]) == pytest.approx(max(scores))
    model.partial_fit(x[::2], t[::2], X_val=x[1::2], y_val=t[1::2])
    assert not model.converged_
    own = MLPRegressor(**SMALL, early_stopping=True).partial_fit(*DIABETES)  # holds out a share
    assert (own.t_, len(own.validation_scores_)) == (180, 1)


def test_scaled_targets_learn_values_of_any_size():
    x, t = load_diabetes(return_X_y=True)
    options = {"max_iter": 40, "learning_rate_init": 0.01, "random_state": 0}
    plain = MLPRegressor(**options).fit(x, 1e5 * t)
    scaled = MLPRegressor(**options, scale_targets=True).fit(x, 1e5 * t)
    assert plain.score(x, 1e5 * t) < 0 < 0.4 < scaled.score(x, 1e5 * t)
    lbfgs = MLPRegressor(solver="lbfgs", max_iter=20, scale_targets=True).fit(x, 1e5 * t)
    assert lbfgs.score(x, 1e5 * t) > 0.4
    scaling = scaled.network_.target_scaling
    scaled.partial_fit(x[:10], np.zeros(10))
    assert scaled.network_.target_scaling == scaling


def test_dropout_initializers_and_losses_of_nnxp():
    x, t = WINE
    first, again, other = (
        MLPClassifier(**SMALL, dropout=share, initializer="orthogonal", loss="quadratic").fit(x, t)
        for share in (0.5, 0.5, 0.0)
    )
    assert (first.predict_proba(x) == again.predict_proba(x)).all()
    assert not (first.predict_proba(x) == other.predict_proba(x)).all()
    assert first.history_.loss == "quadratic"


def test_images_are_deformed_in_each_step():
    """The first step's image, deformed before, trains the network as the step does."""
    x, t = load_digits(return_X_y=True)
    x, t = x[:100], t[:100]
    options = {"hidden_layer_sizes": (16,), "batch_size": 100, "shuffle": False, "max_iter": 1}
    options |= SGD | {"dtype": "float64", "random_state": 3}
    found = MLPClassifier(**options, augment="rotate=20,shift=0.5").fit(x, t)
    drawn = np.random.RandomState(3)
    initial.draw(drawn, (64, 16, 10), "relu")
    deformed = nnxp.Deformation(rotate=20, shift=0.5).apply(x, seed=drawn.randint(SEEDS), step=0)
    expected = MLPClassifier(**options).fit(deformed, t)
    for one, other in zip(found.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert clone(found).augment == "rotate=20,shift=0.5"


def test_the_network_is_one_of_nnxp(tmp_path):
    model = MLPClassifier(**SMALL).fit(*WINE)
    model.network_.save(tmp_path / "wine.safetensors")
    again = nnxp.MLP.load(tmp_path / "wine.safetensors")
    assert (again.predict(WINE[0]) == model.predict_proba(WINE[0])).all()
    before = model.predict_proba(WINE[0])
    model.coefs_ = [0 * each for each in model.coefs_]
    model.intercepts_ = [0 * each for each in model.intercepts_]
    np.testing.assert_allclose(model.predict_proba(WINE[0]), 1 / 3)
    assert (before != 1 / 3).any()
    assert not hasattr(MLPClassifier(), "coefs_")


def test_a_fit_begins_anew():
    x, t = WINE
    used = MLPClassifier(**SMALL).fit(x, t).partial_fit(x, t)
    used.set_params(solver="lbfgs").fit(x, t)
    fresh = MLPClassifier(**SMALL | {"solver": "lbfgs"}).fit(x, t)
    assert (used.predict_proba(x) == fresh.predict_proba(x)).all()
    models = [each.set_params(solver="sgd").partial_fit(x, t) for each in (used, fresh)]
    assert (models[0].predict_proba(x) == models[1].predict_proba(x)).all()
    with pytest.raises(ValueError, match="resume: the history is of another network or optimizer"):
        used.set_params(solver="adam").partial_fit(x, t)


def test_infinitely_many_epochs_without_improvement_never_stop():
    model = MLPClassifier(**SMALL | {"max_iter": 30}, n_iter_no_change=math.inf, tol=1e6)
    assert model.fit(*WINE).n_iter_ == 30


def test_a_backend_without_float64_trains_in_float32_and_says_so(monkeypatch, caplog):
    backend = nnxp.backends.get("numpy")
    dtype = type(backend).dtype

    def single(self, name):
        if name == "float64":
            raise nnxp.BackendError("there is no float64 here")
        return dtype(self, name)

    monkeypatch.setattr(type(backend), "dtype", single)
    with caplog.at_level(logging.INFO, "nnxp"):
        model = MLPClassifier(**SMALL, backend=backend).fit(*WINE)
    assert "X is float64, the network float32: there is no float64 here" in caplog.text
    assert model.coefs_[0].dtype == np.float32
    with pytest.raises(nnxp.BackendError, match="no float64"):
        model.set_params(dtype="float64").fit(*WINE)


def test_notebooks_show_them():
    assert "MLPClassifier" in MLPClassifier(alpha=0.5)._repr_html_()
    assert repr(MLPRegressor(alpha=0.5, dropout=0.2)) == "MLPRegressor(alpha=0.5, dropout=0.2)"


@pytest.mark.skipif(not hasattr(nnxp, "register_activation"), reason="nnxp registers none yet")
def test_activations_of_the_callers_are_taken():
    pair = nnxp.kernels.ACTIVATIONS["tanh"]
    expected = MLPClassifier(**SMALL, activation="tanh").fit(*WINE).predict_proba(WINE[0])
    for activation in (pair, [pair]):
        model = MLPClassifier(**SMALL, activation=activation).fit(*WINE)
        assert (model.predict_proba(WINE[0]) == expected).all()


def test_lbfgs_compiles_an_activation_that_is_registered_again():
    conftest.require("jax")
    X, y = WINE[0][:40].astype(np.float32), WINE[1][:40]
    losses = []
    try:
        for factor in (1.0, 3.0):
            nnxp.register_activation(
                "changing", lambda z, f=factor: f * z, lambda dy, y, f=factor: f * dy
            )
            model = MLPClassifier(
                (4,), "changing", solver="lbfgs", max_iter=2, random_state=0, backend="jax"
            )
            with pytest.warns(ConvergenceWarning):
                model.fit(X, y)
            losses.append(model.loss_)
    finally:
        del nnxp.kernels.ACTIVATIONS["changing"]
    assert losses[0] != pytest.approx(losses[1], rel=1e-3)
