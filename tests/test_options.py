"""Options of the wrong kind end in one line that names them, through the public calls."""

import inspect
import warnings
from itertools import cycle, islice

import numpy as np
import pytest

import nnxp
from nnxp import InputError, NnxpError, class_weights, linalg, options, predictions, schedules
from nnxp.backends.base import Backend
from nnxp.errors import shown
from nnxp.gradient_check import gradcheck
from nnxp.initializers import he


def train(network=None, **changed):
    network = network or nnxp.MLP([3, 4, 2], backend="numpy")
    x, t = np.eye(3), [0, 1, 0]
    return nnxp.train(network, x, t, **{"epochs": 1, "batch_size": 2} | changed)


def check(network=None, **changed):
    network = network or nnxp.MLP([3, 4, 2], backend="numpy")
    return gradcheck(network, np.eye(3), [0, 1, 0], **changed)


WRONG = [
    ({"optimizer": nnxp.MLP}, "optimizer must be an optimizer, .*, not the class MLP"),
    ({"optimizer": lambda: 3}, "optimizer <function .* makes 3, which is no optimizer"),
    ({"optimizer": "adma"}, "unknown optimizer 'adma': did you mean 'adam'"),
    ({"optimizer": 0.1}, "optimizer must be .* not 0.1"),
    ({"schedule": nnxp.schedules.Cosine}, "schedule must be .* not the class Cosine"),
    ({"schedule": "cosin"}, "unknown schedule 'cosin': did you mean 'cosine'"),
    ({"schedule": 0.1}, "schedule must be .* not 0.1"),
    ({"schedule": lambda *_: float("nan")}, "the schedule's rate must be .* not nan"),
    ({"schedule": lambda *_: float("inf")}, "the schedule's rate must be a finite .* not inf"),
    ({"schedule": lambda *_: -0.1}, "the schedule's rate must be .* not -0.1"),
    ({"regularization": 0.01}, r"regularization must be an nnxp.Regularization\(.*\), not 0.01"),
    ({"regularization": nnxp.Regularization}, "not the class Regularization"),
    ({"augment": 3}, r"augment must be an nnxp.Deformation\(rotate=12\), a text, .* not 3"),
    ({"augment": nnxp.Deformation}, "augment must be .* not the class Deformation"),
    ({"augment": [3]}, "augment must be a string, not 3"),
    ({"augment": []}, "Deformation deforms nothing"),
    ({"loss": None}, "unknown loss None: .*known are auto, quadratic"),
    ({"loss": 3}, "unknown loss 3"),
    (
        {"validation": (np.eye(3),)},
        r"validation must be .* or a pair \(x, targets\), or None, not ",
    ),
    ({"validation": (np.eye(3), [0, 1, 0], [1, 1, 1])}, "validation must be .*pair"),
    ({"validation": True}, "validation must be .* not True"),
    ({"validation": "0.1"}, "validation must be .* not '0.1'"),
    ({"validation": 5}, "validation must be .* not 5"),
    ({"validation": float("nan")}, "validation must be .* not nan"),
    ({"callbacks": nnxp.EarlyStopping()}, r"callbacks must be a list of functions, \[f\] for"),
    ({"callbacks": [nnxp.EarlyStopping]}, "callbacks must be"),
    ({"callbacks": [None]}, r"callbacks must be .* not \[None\]"),
    ({"progress": 3}, "progress must be a function, or None, not 3"),
    ({"epochs": True}, "epochs must be a whole number, 0 or more, not True"),
    ({"epochs": "3"}, "epochs must be a whole number, 0 or more, not '3'"),
    ({"epochs": 10**30}, "epochs must be a whole number, 0 or more, not 1000"),
    ({"batch_size": True}, "batch_size must be"),
    ({"seed": 1.0}, "seed must be a whole number, 0 or more, not 1.0"),
    ({"diagnose": "yes"}, "diagnose must be True or False, not 'yes'"),
    ({"stream": 1}, "stream must be True or False, or None, not 1"),
    ({"scale_targets": "yes"}, "scale_targets must be \"auto\", True or False, not 'yes'"),
    ({"network": "digits"}, "network must be an nnxp.MLP, not 'digits'"),
    ({"sample_weight": "balanced"}, "sample_weight must be numbers, not str"),
]


@pytest.mark.promise("bad use")
@pytest.mark.parametrize(("changed", "says"), WRONG, ids=[*range(len(WRONG))])
def test_wrong_options_of_train_are_one_line(changed, says):
    with pytest.raises(InputError, match=says) as caught:
        train(**changed)
    assert "\n" not in str(caught.value)


@pytest.mark.promise("bad use")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nnxp.MLP([2, 2], backend=True), "backend must be a backend's name or"),
        (lambda: nnxp.MLP([2, 2], backend=np), "backend must be .* not <module 'numpy'"),
        (lambda: nnxp.MLP.load("m", backend=True), "backend must be"),
        (lambda: nnxp.Perceptron(2, backend=True), "backend must be"),
        (lambda: nnxp.Perceptron(2, device=1.0), "device must be a string"),
        (lambda: check(step=0), "step must be a finite number above 0, not 0"),
        (lambda: check(step=float("nan")), "step must be"),
        (lambda: check(elements=0), "elements must be a whole number, 1 or more, not 0"),
        (lambda: check(elements=-1), "elements must be"),
        (lambda: check(seed=-1), "seed must be a whole number"),
        (lambda: check("digits"), "network must be an nnxp.MLP, not 'digits'"),
        (lambda: nnxp.MLP([2, 2], device=0), "device must be a string, or None, not 0"),
        (lambda: nnxp.MLP({2, 3}), r"sizes must be a list of 2 or more, .* not \{2, 3\}"),
        (lambda: nnxp.linalg.whitening(np.eye(3), epsilon="0"), "epsilon must be .* not '0'"),
        (lambda: nnxp.MLP(784), "sizes must be a list of 2 or more, .* not 784"),
        (lambda: nnxp.MLP([2, 3, 2], hidden=None), "unknown activation None"),
        (lambda: nnxp.MLP([2, 2], output=np.tanh), "unknown activation <ufunc .*; or give a pair"),
        (lambda: nnxp.MLP([2, 2], output=(np.tanh, 3)), "unknown activation .*; or give a pair"),
        (lambda: nnxp.MLP([2, 2], initializer=None), "unknown initializer None"),
        (lambda: nnxp.MLP([2, 2], seed=-1), "seed must be a whole number, 0 or more, not -1"),
        (lambda: nnxp.MLP([2, 2], dtype=None), "dtype must be float32 or float64, not None"),
        (lambda: nnxp.MLP([2, 2], dtype=np.int32), "dtype must be float32 or float64, not the cl"),
        (lambda: nnxp.MLP([2, 2], parameters=["ab"]), "parameters must be numbers, not str"),
        (lambda: nnxp.MLP([2, 2], parameters=[1]), r"parameters must be a list of \(weight, bias"),
        (lambda: nnxp.MLP([2, 2]).evaluate(np.eye(2), [0, 1], loss=0), "unknown loss 0"),
        (lambda: nnxp.EarlyStopping(patience=float("nan")), "patience must be a whole number"),
        (lambda: nnxp.EarlyStopping(min_delta=None), "min_delta must be a finite"),
        (lambda: nnxp.EarlyStopping(monitor=1), "unknown monitor 1"),
        (lambda: nnxp.Regularization(dropout="0.5"), "dropout must be .* not '0.5'"),
        (lambda: nnxp.Regularization(dropout=[0.5, None]), r"dropout must be .* not \[0.5, None\]"),
        (lambda: nnxp.Regularization(l2=None), "l2 must be a finite number, 0 or more, not None"),
        (
            lambda: nnxp.schedules.Step(every=2.5),
            "every must be a whole number, 1 or more, not 2.5",
        ),
        (lambda: nnxp.SGD(np.ones(3)), "learning_rate must be .* not array"),
        (lambda: nnxp.Perceptron(True), "features must be a whole number, 1 or more, not True"),
        (lambda: nnxp.backends.get("numpy", tf32="yes"), "tf32 must be True or False, or None"),
        (lambda: nnxp.backends.get("numpy", executor=3), "executor must be a string, or None"),
    ],
)
def test_wrong_options_elsewhere_are_one_line(make, says):
    with pytest.raises(InputError, match=says) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_names_work_where_objects_do():
    by_name = train(epochs=3, optimizer="adam", schedule="cosine,warmup=1", validation=0.34)
    by_object = train(
        epochs=3,
        optimizer=nnxp.Adam(),
        schedule=nnxp.schedules.Cosine(warmup=1),
        validation=np.float32(0.34),
    )
    assert [e.loss for e in by_name.epochs] == [e.loss for e in by_object.epochs]


def test_functions_and_classes_work_where_names_do():
    """The functions of nnxp's own pieces, alone or in pairs, and the class of an optimizer."""
    relu = nnxp.kernels.relu, nnxp.kernels.relu_backward
    losses = []
    for hidden, output, loss, optimizer, initializer, backend in (
        ("relu", "identity", "huber", "rmsprop", "he", "numpy"),
        (relu, nnxp.kernels.identity, nnxp.kernels.huber, nnxp.RMSprop,
         he, nnxp.backends.backend_class("numpy")),
        ([relu], "identity", (nnxp.kernels.huber, nnxp.kernels.huber_gradient), nnxp.RMSprop(),
         "he", "numpy"),
    ):  # fmt: skip
        network = nnxp.MLP([3, 4, 1], hidden, output, initializer=initializer, backend=backend)
        assert (network.hidden, network.output) == (("relu",), "identity")
        history = nnxp.train(
            network, np.eye(3), [0.5, 1, 2], loss=loss, optimizer=optimizer, epochs=3, batch_size=2
        )
        assert history.loss == "huber"
        losses.append([epoch.loss for epoch in history.epochs])
    assert losses[0] == losses[1] == losses[2]


def test_numpys_numbers_are_taken_for_pythons(backend):
    """A `np.float64` upcasts float32 arrays on NumPy and is refused by array-api-strict."""
    x, t = np.random.default_rng(0).standard_normal((9, 3)), [0, 1, 1] * 3
    losses = []
    for number, whole in ((np.float64, np.int64), (float, int)):
        regularization = nnxp.Regularization(
            number(0.01), l2=number(0.01), max_norm=number(1.5), dropout=[number(0.25)]
        )
        assert type(regularization.l2) is float
        network = nnxp.MLP([whole(3), whole(4), whole(2)], backend=backend, seed=whole(1))
        history = nnxp.train(
            network,
            x,
            t,
            epochs=whole(2),
            batch_size=whole(4),
            seed=whole(2),
            optimizer=nnxp.SGD(number(0.1), momentum=number(0.5)),
            schedule=nnxp.schedules.Step(whole(1), number(0.5)),
            regularization=regularization,
        )
        losses.append([epoch.loss for epoch in history.epochs])
    assert losses[0] == losses[1]


def test_numpys_dtypes_are_names_of_them():
    assert nnxp.MLP([2, 2], dtype=np.float64).dtype == nnxp.MLP([2, 2], dtype="float64").dtype
    assert nnxp.Perceptron(2, dtype=np.dtype("float32")).dtype == "float32"


def test_a_schedule_may_return_a_numpy_number(backend):
    network = nnxp.MLP([3, 2], backend=backend)
    nnxp.train(
        network, np.eye(3), [0, 1, 0], epochs=2, batch_size=2, schedule=lambda *_: np.float64(0.1)
    )


def test_pythons_own_errors_of_a_call_stay():
    with pytest.raises(TypeError, match=r"train\(\) got an unexpected keyword argument 'epoch'"):
        train(epoch=3)


def test_an_error_shows_a_large_value_in_one_short_line():
    assert shown(list(range(10_000))) == repr(list(range(30)))[:57] + "..."
    assert shown(np.eye(3)) == "array([[1., 0., 0.], ..."


def test_a_rule_for_no_argument_is_a_mistake():
    with pytest.raises(AssertionError):
        options.checked(epoch=options.whole(0))(lambda epochs: epochs)


def test_an_open_backend_is_one():
    assert isinstance(nnxp.backends.get(nnxp.backends.get("numpy")), Backend)


# --- every argument of the public calls


class Odd:
    """Something that no argument takes."""


STRANGE = (
    None, True, -1, 1.5, float("nan"), 10**30, 1j, "", "x" * 300, "a\nb", b"x", [], {}, {1: 2},
    [[1, 2], [3]], [None], ["a"], [[1, "a"]], Odd(), Odd, lambda *a: None, np.ones(0),
    np.ones((0, 3)), np.ones((2, 2, 2)), np.full((3, 3), np.nan), np.full((3, 3), 1j),
    np.array(["a", "b"]), np.array([None, 1], object), np.array([1, 2], "M8[s]"),
    np.ma.masked_array(np.eye(3), np.eye(3)), range(3), float("inf"), 0, [[]], (), set(), object,
    np.float16(3), 2**63, 1e308, "1e999", np, "a\0b",
)  # fmt: skip
"""What is wrong for most arguments."""


ELSEWHERE = {"resume", "checkpoint", "verbose"}
"""Arguments that take places of checkpoints, and what prints."""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """By name: a public function or method, and arguments with which it works, in a folder."""
    monkeypatch.chdir(tmp_path)
    data, rows = nnxp.datasets.load("moons", n=40), np.random.default_rng(0).normal(size=(9, 3))
    network, plane = nnxp.MLP([3, 4, 2]), nnxp.MLP([2, 3, 2])
    neuron = nnxp.Perceptron(2)
    network.save("model.safetensors")
    np.savez("book.npz", W1=np.ones((2, 3)), b1=np.ones(3), W2=np.ones((3, 2)), b2=np.ones(2))
    of_x = {"x": np.eye(3)}
    given = {**of_x, "targets": np.array([0, 1, 0])}
    many = {"x": np.tile(np.eye(3), (9, 1)), "targets": np.tile([0, 1, 0], 9)}
    step = {"epochs": 1, "batch_size": 2}
    history = nnxp.train(network, **given, **step)
    weights = {"class_weight": "balanced", "y": given["targets"], "classes": ["u", "v"]}
    logged = {"path": "log.csv"}

    return {
        "MLP": (nnxp.MLP, {"sizes": [3, 4, 2]}),
        "predict": (network.predict, of_x),
        "predict_classes": (network.predict_classes, of_x),
        "forward": (network.forward, of_x),
        "evaluate": (network.evaluate, given),
        "loss_and_gradients": (network.loss_and_gradients, given),
        "summary": (network.summary, {}),
        "save": (network.save, {"path": "new.safetensors"}),
        "load": (nnxp.MLP.load, {"path": "model.safetensors"}),
        "from_weights": (nnxp.MLP.from_weights, {"path": "book.npz"}),
        "train": (nnxp.train, {"network": network, **given, **step}),
        "find_learning_rate": (
            nnxp.find_learning_rate,
            {"network": network, **many, "batch_size": 2, "steps": 20},
        ),
        "gradcheck": (gradcheck, {"network": network, **given}),
        "SGD": (nnxp.SGD, {}),
        "Adam": (nnxp.Adam, {}),
        "AdamW": (nnxp.AdamW, {}),
        "RMSprop": (nnxp.RMSprop, {}),
        "ClipNorm": (nnxp.ClipNorm, {"optimizer": nnxp.SGD(), "max_norm": 1.0}),
        "Regularization": (nnxp.Regularization, {}),
        "EarlyStopping": (nnxp.EarlyStopping, {}),
        "ModelCheckpoint": (nnxp.ModelCheckpoint, logged),
        "CSVLog": (nnxp.CSVLog, logged),
        "TensorBoardLog": (nnxp.TensorBoardLog, {"folder": "logs"}),
        "Perceptron": (nnxp.Perceptron, {"features": 2}),
        "Perceptron.train": (neuron.train, {"x": [[0, 0], [0, 1]], "t": [0, 1]}),
        "Perceptron.predict": (neuron.predict, {"x": [[0, 0], [0, 1]]}),
        "class_weights": (class_weights.class_weights, weights),
        "sample_weights": (class_weights.sample_weights, weights),
        "schedules.get": (schedules.get, {"text": "cosine"}),
        "Step": (schedules.Step, {}),
        "Exponential": (schedules.Exponential, {}),
        "Cosine": (schedules.Cosine, {}),
        "Plateau": (schedules.Plateau, {}),
        "backends.get": (nnxp.backends.get, {"name": "numpy"}),
        "backends.of": (nnxp.backends.of, of_x),
        "backend_class": (nnxp.backends.backend_class, {"name": "numpy"}),
        "datasets.load": (nnxp.datasets.load, {"name_or_path": "moons"}),
        "load_features": (nnxp.datasets.load_features, {"name_or_path": "moons", "like": {}}),
        "described": (nnxp.datasets.described, {"network_metadata": {}, "sizes": [3, 4, 2]}),
        "weights.read": (nnxp.weights.read, {"path": "book.npz"}),
        "to_onnx": (nnxp.onnx.to_onnx, {"model": network}),
        "onnx.save": (nnxp.onnx.save, {"model": network, "path": "model.onnx"}),
        "to_csv": (predictions.to_csv, {"outputs": np.ones((3, 2))}),
        "report": (nnxp.reports.training, {"network": network, "history": history}),
        "executors.names": (nnxp.executors.names, {"backend": "numpy"}),
        "by_name": (nnxp.executors.by_name, {"name": "eager"}),
        "vector_norm": (linalg.vector_norm, of_x),
        "matrix_norm": (linalg.matrix_norm, of_x),
        "gram_schmidt": (linalg.gram_schmidt, {"a": np.eye(3)}),
        "whitening": (linalg.whitening, {"x": rows}),
        "metrics.get": (nnxp.metrics.get, {"metric": "accuracy"}),
        "plots.activations": (nnxp.plots.activations, {}),
        "plots.history": (nnxp.plots.history, {"training": history}),
        "plots.confusion": (nnxp.plots.confusion_matrix, {"network": network, **given}),
        "plots.boundary": (nnxp.plots.boundary, {"network": plane, "data": data}),
        "plots.weights": (nnxp.plots.weights, {"network": plane, "shape": (1, 2)}),
        "plots.save": (
            nnxp.plots.save,
            {"figure": nnxp.plots.history(history), "path": "history.png"},
        ),
    }


def refuses_or_takes(function, arguments):
    """The call works, or raises an error of nnxp of one line; the system may refuse a place."""
    line = "it works"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "Glyph")  # matplotlib's, for a strange title
            function(**arguments)
    except NnxpError as error:
        line = str(error)
    except OSError as error:  # the system refuses a place to write to
        line = "" if error.filename != arguments.get("path") else str(error.strerror)
    assert line, "no message, or one that does not name the place"
    assert line.isprintable(), line


def arguments_of(calls, values):
    """For each argument of each call: the function and its arguments with each value."""
    for name, (function, good) in calls.items():
        for argument in inspect.signature(function).parameters:
            for value in () if argument in ELSEWHERE else values():
                label = f"{name} {argument}={shown(value)}"
                yield label, function, {**good, argument: value}


@pytest.mark.promise("bad use")
def test_an_argument_is_right_or_refused_in_a_line(calls, cases):
    pytest.importorskip("matplotlib")
    pytest.importorskip("tensorboard")
    pytest.importorskip("ndonnx")
    turn = cycle(STRANGE)
    some = islice(arguments_of(calls, lambda: [next(turn)]), None, None, 5)
    for label, function, arguments in some:
        with cases(label):
            refuses_or_takes(function, arguments)


@pytest.mark.slow
@pytest.mark.promise("bad use")
def test_every_argument_with_every_strange_value(calls, cases):
    every = list(arguments_of(calls, lambda: STRANGE))
    assert len(every) > 7000
    for label, function, arguments in cases.drawn(every, 4):
        with cases(label):
            refuses_or_takes(function, arguments)
