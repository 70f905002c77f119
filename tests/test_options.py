"""Options of the wrong kind end in one line that names them, through the public calls."""

import numpy as np
import pytest

import nnxp
from nnxp import InputError, options
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


@pytest.mark.parametrize(("changed", "says"), WRONG, ids=[*range(len(WRONG))])
def test_wrong_options_of_train_are_one_line(changed, says):
    with pytest.raises(InputError, match=says) as caught:
        train(**changed)
    assert "\n" not in str(caught.value)


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
