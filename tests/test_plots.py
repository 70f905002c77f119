"""Pictures: what is in them, and how they are saved."""

import json
import math
import pickle
import sys
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import nnxp
from nnxp import datasets, plots
from nnxp.arrays import to_numpy
from nnxp.errors import DataError, InputError
from nnxp.kernels import ACTIVATIONS, saved

matplotlib = pytest.importorskip("matplotlib")

MAGIC = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF-1"}
ELEMENTWISE = [name for name in ACTIVATIONS if name != "softmax"]


@pytest.fixture
def report():
    """What `nnxp train --report` writes."""
    epochs = [nnxp.Epoch(n, 1 / n, 2 / n, 1 - 0.5 / n, 0.1, 1000.0, 0.1) for n in range(1, 5)]
    options = {"activation": ["relu", "relu"], "output_activation": "softmax", "optimizer": "sgd"}
    options |= {"loss": "categorical_cross_entropy", "learning_rate": 0.1, "batch_size": 32}
    return {
        "data": "digits",
        "sizes": [64, 30, 20, 10],
        "options": options | {"task": "classify"},
        "history": [asdict(epoch) for epoch in epochs],
        "test": {"loss": 0.5, "accuracy": 0.9},
    }


@pytest.fixture
def moons():
    return datasets.load("moons")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


def line(call, *arguments, **options):
    """The one line of the error that a call must raise."""
    with pytest.raises((InputError, DataError)) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def titles(figure):
    return [panel.get_title() for panel in figure.axes]


def finite(curve):
    x, y = curve.get_data()
    return x[~np.isnan(x)], y[~np.isnan(y)]


# --- activations


def test_the_curves_are_what_the_kernels_compute(backend):
    figure = plots.activations(backend)
    panels = dict(zip(ACTIVATIONS, figure.axes, strict=False))
    assert titles(figure) == [*ELEMENTWISE, "softmax of (z, 0)", "", ""]
    for name in ELEMENTWISE:
        forward, backward = ACTIVATIONS[name]
        z, y = finite(panels[name].lines[0])
        with backend.active():
            ours = forward(backend.asarray(z, dtype=backend.dtype("float32")))
            points = backend.asarray(z, dtype=backend.dtype("float32"))
            slope = backward(backend.asarray(np.ones_like(z)), *saved(backward, ours, points))
        assert (z[0], z[-1]) == (-5, 5)
        np.testing.assert_allclose(y, to_numpy(ours), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(
            finite(panels[name].lines[1])[1], to_numpy(slope), rtol=1e-6, atol=1e-7
        )
    for i in (0, 1):
        np.testing.assert_allclose(
            panels["softmax"].lines[i].get_ydata(), panels["sigmoid"].lines[i].get_ydata(), 1e-5
        )


def test_activations_have_axes_through_the_origin_with_names():
    figure = plots.activations("numpy")
    for panel in figure.axes[: len(ACTIVATIONS)]:
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("z", "y")
        assert panel.get_xlim() == (-5, 5)
        assert panel.spines["left"].get_position() == "zero"
        assert panel.spines["bottom"].get_position() == "zero"
        assert 1 in panel.get_yticks()
        assert 0 not in panel.get_yticks()
    legend = [text.get_text() for text in figure.axes[len(ACTIVATIONS)].get_legend().get_texts()]
    assert legend == ["activation y", "derivative dy/dz"]


def test_only_jumps_break_a_curve():
    panels = dict(zip(ACTIVATIONS, plots.activations("numpy").axes, strict=False))
    breaks = {
        name: [int(np.isnan(curve.get_ydata()).sum()) for curve in panel.lines]
        for name, panel in panels.items()
    }
    jumps = {"step": [1, 0], "relu": [0, 1], "leaky_relu": [0, 1], "leaky_tanh": [0, 1]}
    assert breaks == {name: jumps.get(name, [0, 0]) for name in ACTIVATIONS}


# --- history


def test_history_shows_losses_and_metric_by_epoch(report):
    figure = plots.history(json.loads(json.dumps(report)))
    losses, metric = figure.axes
    assert titles(figure) == [
        "Categorical cross-entropy (nats per sample)", "Validation accuracy (% of samples)"
    ]  # fmt: skip
    assert [panel.get_xlabel() for panel in figure.axes] == ["epoch", "epoch"]
    assert [panel.get_ylabel() for panel in figure.axes] == ["loss (nats)", "accuracy (%)"]
    for drawn, name in zip(
        [*losses.lines[:2], metric.lines[0]], ["loss", "validation_loss", "validation_metric"],
        strict=True,
    ):  # fmt: skip
        assert drawn.get_xdata().tolist() == [1, 2, 3, 4]
        assert drawn.get_ydata().tolist() == [row[name] for row in report["history"]]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == [
        "training", "validation", "best epoch: 4"
    ]  # fmt: skip
    for word in ("digits", "64-30-20-10", "relu, softmax", "sgd", "rate 0.1", "of 32"):
        assert word in figure.get_suptitle()


def test_history_of_one_epoch_without_validation(report):
    report["history"] = report["history"][:1]
    report["history"][0] |= {"validation_loss": None, "validation_metric": None}
    (panel,) = plots.history(report).axes
    (curve,) = panel.lines
    assert curve.get_marker() == "o"
    assert curve.get_ydata().tolist() == [1.0]


def test_history_of_regression_and_of_losses_over_decades(tmp_path, report):
    report["options"] |= {"loss": "quadratic", "task": "regress", "batch_size": None}
    report["test"] = {}
    report["history"][-1]["loss"] = 0.001
    figure = plots.history(report)
    assert titles(figure)[0].startswith("Quadratic loss (half squared error")
    assert "R²" in titles(figure)[1]
    assert "log scale" in figure.axes[0].get_ylabel()
    plots.save(figure, tmp_path / "history.svg")


def test_history_takes_what_train_returned(report):
    network = nnxp.MLP([1, 1], output="identity", backend="numpy")
    x, t = [[0.0], [1.0]], [0.0, 2.0]
    trained = nnxp.train(network, x, t, epochs=3, batch_size=None, validation=(x, t))
    figure = nnxp.plots.history(trained)
    assert titles(figure) == [
        "Quadratic loss (half squared error per sample)", "Validation R² (1 is perfect)"
    ]  # fmt: skip
    assert figure.get_suptitle() == "Training, 3 epochs"
    assert figure.axes[0].lines[0].get_ydata().tolist() == [e.loss for e in trained.epochs]
    epochs = [nnxp.Epoch(**epoch) for epoch in report["history"]]
    losses, _ = plots.history(nnxp.History("accuracy", epochs)).axes
    assert (losses.get_title(), losses.get_ylabel()) == ("Loss (per sample)", "loss")
    assert "no epochs" in line(plots.history, nnxp.History())


def marked(figure):
    """The epoch and the height of the ring in each panel."""
    return [
        tuple(float(each) for each in panel.lines[-1].get_xydata()[0])
        for panel in figure.axes
        if panel.lines[-1].get_marker() == "o" and len(panel.lines[-1].get_xydata()) == 1
    ]


def test_the_best_epoch_is_marked(report):
    for row, loss in zip(report["history"], (0.9, 0.4, 0.6, 0.5), strict=True):
        row["validation_loss"] = loss
    metric = [row["validation_metric"] for row in report["history"]]
    assert marked(plots.history(report)) == [(2, 0.4), (2, metric[1])]
    # That of early stopping, which may watch another figure.
    assert marked(plots.history(report | {"best_epoch": 4})) == [(4, 0.5), (4, metric[3])]
    trained = nnxp.History("f1", [nnxp.Epoch(**epoch) for epoch in report["history"]])
    trained.best_epoch = 3
    figure = plots.history(trained)
    assert marked(figure) == [(3, 0.6), (3, metric[2])]
    assert titles(figure)[1] == "Validation F1 (1 is perfect)"
    for row in report["history"]:
        row |= {"validation_loss": None, "validation_metric": None}
    assert marked(plots.history(report)) == []


def test_a_report_names_its_metric(report):
    report["metric"] = "rmse"
    assert titles(plots.history(report))[1] == "Validation RMSE (unit of the targets)"
    report["metric"] = "a_users_own"
    panel = plots.history(report).axes[1]
    assert (panel.get_title(), panel.get_ylabel()) == ("Validation a_users_own", "a_users_own")


# --- learning rate


def test_the_learning_rate_curve_marks_the_suggestion(digits, tmp_path):
    network = nnxp.MLP([64, 16, 10], backend="numpy")
    found = nnxp.find_learning_rate(network, digits.x, digits.y, batch_size=32)
    figure = plots.learning_rate(found)
    (panel,) = figure.axes
    steps, smoothed, suggestion = panel.lines
    np.testing.assert_array_equal(steps.get_xydata(), np.stack([found.rates, found.losses], 1))
    np.testing.assert_array_equal(smoothed.get_ydata(), found.smoothed)
    assert suggestion.get_xdata() == [found.suggestion] * 2
    assert suggestion.get_label() == f"suggestion: {found.suggestion:g}"
    assert panel.get_xscale() == "log"
    low, high = panel.get_ylim()
    assert low < found.losses.min()
    assert found.losses[0] < high < 3 * found.losses[0]
    plots.save(figure, tmp_path / "rate.png")


# --- confusion matrix


def cells(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_a_confusion_matrix_has_scikit_learns_counts(digits, tmp_path):
    network = nnxp.MLP([64, 10], backend="numpy")
    figure = plots.confusion_matrix(network, digits.x_test, digits.y_test)
    predicted = network.predict_classes(digits.x_test)
    expected = confusion_matrix(digits.y_test, predicted)
    shares = confusion_matrix(digits.y_test, predicted, normalize="true")
    panel = figure.axes[0]
    np.testing.assert_allclose(panel.images[0].get_array(), shares)
    for text, count, share in zip(cells(figure), expected.flat, shares.flat, strict=True):
        assert text.split("\n")[0] == str(count)
        if count:
            assert float(text.split()[1]) == pytest.approx(100 * share, abs=0.05)
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("assigned class", "true class")
    right = 100 * np.trace(expected) / 360
    assert figure.get_suptitle() == f"64-10: {right:.2f} % of 360 samples are right"
    one_hot = plots.confusion_matrix(network, digits.x_test, np.eye(10)[digits.y_test])
    assert cells(one_hot) == cells(figure)
    plots.save(figure, tmp_path / "confusion.png")


def test_a_confusion_matrix_of_a_single_output_and_of_many_classes():
    x = np.array([[-1.0], [-2.0], [1.0], [3.0]])
    one = nnxp.MLP([1, 1], output="sigmoid", backend="numpy", parameters=[([[1.0]], [0.0])])
    figure = plots.confusion_matrix(one, x, [0, 1, 1, 1], ["no", "a long name of a class"], "moons")
    assert cells(figure) == ["1\n100 %", "0", "1\n33.3 %", "2\n66.7 %"]
    panel = figure.axes[0]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["no", "a long name of a …"]
    assert figure.get_suptitle() == "moons: 75.00 % of 4 samples are right"
    for number, texts, ticks in ((20, 400, 20), (60, 0, 30)):
        many = nnxp.MLP([1, number], backend="numpy")
        figure = plots.confusion_matrix(many, x, [0, 1, 2, number - 1])
        assert len(cells(figure)) == texts
        assert len(figure.axes[0].get_xticks()) == ticks


def test_a_confusion_matrix_needs_classes(digits):
    network = nnxp.MLP([64, 10], output="sigmoid", backend="numpy")
    both = np.eye(10)[digits.y] + np.eye(10)[0]
    assert "one for each sample" in line(plots.confusion_matrix, network, digits.x, both)
    assert "one for each sample" in line(plots.confusion_matrix, network, digits.x, both / 2)
    assert "2 names" in line(plots.confusion_matrix, network, digits.x, digits.y, ["a", "b"])
    assert "0 to 9" in line(plots.confusion_matrix, network, digits.x, digits.y + 1)


def test_a_report_that_is_none_is_named_by_its_place(report):
    assert "history" in line(plots.history, [])
    assert "history" in line(plots.history, report | {"history": []})
    assert "'options'" in line(plots.history, {"history": report["history"]})
    report["history"][2]["loss"] = "low"
    assert "history[2]: 'loss' is 'low'" in line(plots.history, report)
    report["history"][1] = None
    assert "history[1]" in line(plots.history, report)


# --- boundary


@pytest.mark.parametrize(("outputs", "output"), [(2, "softmax"), (2, "step"), (1, "sigmoid")])
def test_regions_and_points_of_the_plane(moons, outputs, output):
    network = nnxp.MLP([2, 10, outputs], output=output, backend="numpy")
    figure = plots.boundary(network, moons)
    (panel,) = figure.axes
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("x", "y")
    names = ["upper, training", "upper, test", "lower, training", "lower, test"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    drawn = dict(zip(names, panel.lines, strict=True))
    for part, x, y in (("training", moons.x, moons.y), ("test", moons.x_test, moons.y_test)):
        for number, name in enumerate(moons.classes):
            np.testing.assert_allclose(drawn[f"{name}, {part}"].get_xydata(), x[y == number])
    leads = plots._leads(network, moons.x)
    assert (np.argmax(leads, axis=0) == network.predict_classes(moons.x)).all()
    assert ((leads > 0).sum(axis=0) == 1).all()


def test_boundary_undoes_preprocessing_and_takes_any_class_name(tmp_path):
    rng = np.random.default_rng(0)
    x, kinds = 50 + 9 * rng.standard_normal((60, 2)), np.array(["$5", "_", "\\frac{$"] * 20)
    np.savez(tmp_path / "three.npz", x=x, y=kinds)
    data = datasets.load(tmp_path / "three.npz")
    figure = plots.boundary(nnxp.MLP([2, 8, 3], backend="numpy"), data)
    points = np.concatenate([drawn.get_xydata() for drawn in figure.axes[0].lines])
    np.testing.assert_allclose(np.sort(points, axis=0), np.sort(x, axis=0), rtol=1e-5)
    assert [text.get_text() for text in figure.legends[0].get_texts()][::2] == [
        f"{name}, training" for name in data.classes
    ]
    plots.save(figure, tmp_path / "three.pdf")


def test_boundary_needs_two_inputs_and_the_same_classes(moons, digits):
    assert "64 inputs" in line(plots.boundary, nnxp.MLP([64, 10], backend="numpy"), digits)
    assert "3 outputs" in line(plots.boundary, nnxp.MLP([2, 3], backend="numpy"), moons)


# --- deformations


def test_each_image_stands_beside_its_deformations(digits):
    deformation = nnxp.Deformation(rotate=20, shift=1)
    figure = plots.deformations(digits, deformation, count=2, versions=3, seed=4)
    shown = np.array([panel.images[0].get_array() for panel in figure.axes]).reshape(2, 4, 64)
    scale = digits.preprocessing.scale
    np.testing.assert_allclose(shown[:, 0], scale * digits.x[:2], rtol=1e-5)
    for step in range(3):
        expected = scale * deformation.apply(digits.x[:2], seed=4, step=step)
        np.testing.assert_allclose(shown[:, step + 1], expected, atol=1e-4)


def test_deformations_need_images(moons, digits):
    assert "moons: a sample has shape (2,), not that of an image" in line(
        plots.deformations, moons, "rotate=5"
    )
    assert "did you mean 'rotate'" in line(plots.deformations, digits, "rotat=5")


# --- digits


def test_misread_digits_are_shown_with_both_classes(digits):
    network = nnxp.MLP([64, 10], backend="numpy")
    read = network.predict_classes(digits.x_test)
    wrong = np.flatnonzero(read != digits.y_test)
    figure = plots.digits(network, digits, count=7)
    shown = [panel for panel in figure.axes if panel.images]
    assert f"{len(wrong)} of 360 test images misread" in figure.get_suptitle()
    assert "the first 7" in figure.get_suptitle()
    assert [panel.get_title() for panel in shown] == [
        f"read {read[i]}\nis {digits.y_test[i]}" for i in wrong[:7]
    ]
    for panel, i in zip(shown, wrong, strict=False):
        image = panel.images[0].get_array()
        np.testing.assert_allclose(image, 16 * digits.x_test[i].reshape(8, 8))


def test_no_digits_to_show_is_said(digits, moons):
    network = nnxp.MLP([64, 10], backend="numpy")
    assert "image" in line(plots.digits, nnxp.MLP([2, 2], backend="numpy"), moons)
    for count in (0, 101, 2.5, "9"):
        assert "1 to 100" in line(plots.digits, network, digits, count=count)
    right = nnxp.MLP([64, 10], backend="numpy", parameters=[(np.zeros((64, 10)), np.eye(10)[0])])
    zeros = digits.y_test == 0
    only = {"x_test": digits.x_test[zeros], "y_test": digits.y_test[zeros]}
    assert "read rightly" in line(plots.digits, right, datasets.Dataset(**vars(digits) | only))


# --- weights


@pytest.mark.slow
def test_weights_are_images_on_one_symmetric_scale(backend):
    network = nnxp.MLP([6, 120, 2], backend=backend)
    network.metadata = {"shape": [2, 3]}
    figure = plots.weights(network)
    *panels, bar = figure.axes
    weight = to_numpy(network.parameters[0][0])
    assert len(panels) == 100
    assert "the first 100 of 120" in figure.get_suptitle()
    assert bar.get_ylabel() == "weight"
    for unit in (0, 99):
        (image,) = panels[unit].images
        np.testing.assert_array_equal(image.get_array(), weight[:, unit].reshape(2, 3))
        low, high = image.get_clim()
        assert low == -high
        assert math.isclose(high, np.abs(weight[:, :100]).max())


def test_weights_take_a_shape_or_guess_a_square():
    network = nnxp.MLP([16, 5, 2], backend="numpy")
    assert plots.weights(network).axes[0].images[0].get_array().shape == (4, 4)
    assert plots.weights(network, (2, 8)).axes[0].images[0].get_array().shape == (2, 8)
    assert "(3, 5)" in line(plots.weights, network, (3, 5))
    assert "7 inputs" in line(plots.weights, nnxp.MLP([7, 2], backend="numpy"))


# --- files


@pytest.mark.slow
@pytest.mark.parametrize("suffix", MAGIC)
def test_the_same_figure_is_the_same_bytes(tmp_path, report, suffix):
    figure = plots.history(report)
    for name, drawn in (("a", figure), ("b", figure), ("c", plots.history(report))):
        plots.save(drawn, tmp_path / (name + suffix.upper()))
    first, *others = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert first.startswith(MAGIC[suffix])
    assert others == [first, first]


def test_another_suffix_is_refused_and_what_was_there_stays(tmp_path, report):
    (tmp_path / "a.jpg").write_text("a cat")
    message = line(plots.save, plots.history(report), tmp_path / "a.jpg")
    for word in ("a.jpg", ".png", ".svg", ".pdf"):
        assert word in message
    assert (tmp_path / "a.jpg").read_text() == "a cat"


def test_what_is_no_picture_is_not_overwritten(tmp_path, report):
    (tmp_path / "model.safetensors").write_text("months of training")
    (tmp_path / "a.png").symlink_to("model.safetensors")
    assert "a.png" in line(plots.save, plots.history(report), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_text() == "months of training"


def test_a_notebook_shows_a_figure_also_without_pyplot():
    figure = pickle.loads(pickle.dumps(plots.activations("numpy")))
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_users_own_settings_neither_show_nor_change(tmp_path, report):
    plots.save(plots.history(report), tmp_path / "a.svg")
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 30}):
        plots.save(plots.history(report), tmp_path / "b.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_without_matplotlib_one_line_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert 'pip install "nnxp[plot]"' in line(plots.activations)


def test_every_letter_can_be_read_in_print(report, moons, digits):
    network = nnxp.MLP([64, 10], backend="numpy")
    for figure in (
        plots.activations("numpy"),
        plots.history(report),
        plots.boundary(nnxp.MLP([2, 2], backend="numpy"), moons),
        plots.digits(network, digits),
        plots.weights(network),
    ):
        assert figure.get_figwidth() == 7
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert min(t.get_fontsize() for t in figure.findobj(matplotlib.text.Text)) >= 9
