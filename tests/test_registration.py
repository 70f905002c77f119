"""Pieces that users add by name: in this process, and by entry points in every process."""

import copy
import logging
import pickle
import sys
from textwrap import dedent

import numpy as np
import pytest
from command_line import environment
from processes import completed, python

import nnxp
from nnxp import MLP, InputError, ModelError, kernels, registry
from nnxp.arrays import namespace
from nnxp.backends import BACKENDS, Backend
from nnxp.kernels import ACTIVATIONS
from nnxp.objectives import LOSSES
from nnxp.optimizers import OPTIMIZERS

REGISTRIES = (ACTIVATIONS, LOSSES, OPTIMIZERS, BACKENDS)


def gaussian(z):
    return namespace(z).exp(-z * z)


def gaussian_backward(dy, y, z):
    return -2.0 * dy * y * z


def cubic(z):
    return z * z * z


def cubic_backward(dy, y, z):
    return 3.0 * dy * z * z


def doubled(y, targets, sample_weight=None):
    return 2.0 * kernels.quadratic(y, targets, sample_weight)


def doubled_gradient(y, targets, sample_weight=None):
    return 2.0 * kernels.quadratic_gradient(y, targets, sample_weight)


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
    """What a test adds is gone after it."""
    for each in REGISTRIES:
        monkeypatch.setattr(each, "_pieces", dict(each._pieces))
        monkeypatch.setattr(each, "_unlisted", set(each._unlisted))
    yield
    for clear in registry._caches:
        clear()


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 3))
    return x, (x[:, 0] > 0).astype(int)


def losses(data, hidden, backend="numpy", **options):
    network = MLP([3, 5, 2], hidden, backend=backend)
    options = {"epochs": 3, "batch_size": 8} | options
    return [epoch.loss for epoch in nnxp.train(network, *data, **options).epochs]


# --- in this process


def test_a_registered_activation_works_by_name_and_as_a_pair(backend, data):
    pair = nnxp.register_activation("gaussian", gaussian, gaussian_backward)
    by_name = losses(data, "Gaussian", backend)
    assert by_name == losses(data, [pair], backend) == losses(data, gaussian, backend)
    assert by_name[-1] < by_name[0]
    network = MLP([3, 5, 2], "gaussian", backend=backend)
    assert "5 gaussian" in repr(network)
    assert all(check.passed for check in nnxp.gradcheck(network, *data))


def test_a_registered_loss_works_by_name_and_as_a_pair(backend, data):
    nnxp.register_loss("doubled", doubled, doubled_gradient)
    found = losses(data, "tanh", backend, loss="doubled", optimizer=nnxp.SGD(0.05))
    same = losses(data, "tanh", backend, loss=(doubled, doubled_gradient), optimizer=nnxp.SGD(0.05))
    plain = losses(data, "tanh", backend, loss="quadratic", optimizer=nnxp.SGD(0.1))
    assert found == same == pytest.approx([2 * loss for loss in plain], rel=1e-4)
    network = MLP([3, 5, 2], "tanh", backend=backend)
    assert network.evaluate(*data, loss="doubled")["loss"] == pytest.approx(
        2 * network.evaluate(*data, loss="quadratic")["loss"], rel=1e-6
    )


def test_a_registered_optimizer_works_by_name(data):
    nnxp.register_optimizer("lively", lambda learning_rate=0.3: nnxp.SGD(learning_rate, 0.5))
    expected = losses(data, "tanh", optimizer=nnxp.SGD(0.3, 0.5))
    assert losses(data, "tanh", optimizer="lively") == expected
    with pytest.raises(InputError, match="lively has no momentum; it takes learning_rate"):
        nnxp.optimizers.get("lively", momentum=0.9)


def test_a_registered_backend_works_by_name_and_as_a_class(data):
    class Mine(nnxp.backends.backend_class("numpy")):
        name = "mine"

    nnxp.register_backend("mine", Mine)
    assert losses(data, "tanh", "mine") == losses(data, "tanh", Mine) == losses(data, "tanh")
    assert nnxp.backends.get("mine").executor == "eager"
    assert "mine" in [each.name for each in nnxp.backends.availability()]


def test_all_lists_of_names_have_what_is_registered(data):
    nnxp.register_activation("gaussian", gaussian, gaussian_backward)
    assert "gaussian" in ACTIVATIONS
    assert list(ACTIVATIONS)[-1] == "gaussian"
    with pytest.raises(InputError, match=r"did you mean 'gaussian'.* softmax, gaussian"):
        MLP([3, 2], output="gausian")
    nnxp.register_loss("doubled", doubled, doubled_gradient)
    with pytest.raises(InputError, match=r"known are auto, quadratic, .* doubled"):
        MLP([3, 2]).evaluate(*data, loss="huge")


@pytest.mark.parametrize(
    ("add", "says"),
    [
        (lambda: nnxp.register_activation("relu", cubic, cubic_backward), "'relu' is nnxp's own"),
        (lambda: nnxp.register_activation("auto", cubic, cubic_backward), "'auto' is nnxp's own"),
        (lambda: nnxp.register_activation("My act", cubic, cubic_backward),
         "activation must be lower-case letters and digits joined by '_', not 'My act'"),
        (lambda: nnxp.register_activation(3, cubic, cubic_backward), "not 3"),
        (lambda: nnxp.register_activation("cubic", cubic, None), "'cubic' must be a pair of fun"),
        (lambda: nnxp.register_loss("mse", 1, 2), "loss 'mse' must be a pair of functions, .value"),
        (lambda: nnxp.register_optimizer("lion", nnxp.SGD(0.1)), "'lion' must be a class or"),
        (lambda: nnxp.register_backend("mine", nnxp.MLP), "must be a subclass of nnxp.backends.B"),
        (lambda: nnxp.register_backend("my_own", type("A", (Backend,), {"name": "my_own"})),
         "joined by '-', not 'my_own'"),
        (lambda: nnxp.register_backend("mine", nnxp.backends.backend_class("numpy")),
         "whose name is 'mine'"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_is_one_line(add, says):
    with pytest.raises(InputError, match=says) as caught:
        add()
    assert "\n" not in str(caught.value)


def test_a_pair_without_a_name_gets_one_that_no_list_shows(data):
    network = MLP([3, 4, 4, 2], [(cubic, cubic_backward), (lambda z: z, lambda dy, y: dy)])
    assert network.hidden == ("cubic", "lambda")
    assert not {"cubic", "lambda"} & set(ACTIVATIONS)
    assert MLP([3, 4, 2], (cubic, cubic_backward)).hidden == ("cubic",)
    other = MLP([3, 4, 2], (lambda z: 2 * z, lambda dy, y: 2 * dy))
    assert other.hidden == ("lambda_2",)
    np.testing.assert_array_equal(
        other.forward(data[0]), MLP([3, 4, 2], "identity").forward(2 * data[0])
    )


def test_one_function_alone_has_no_derivative():
    with pytest.raises(InputError, match=r"unknown activation <function cubic.*; or give a pair"):
        MLP([3, 2], output=cubic)


def test_registering_again_replaces_also_what_was_compiled(backend, data):
    nnxp.register_activation("changing", gaussian, gaussian_backward)
    first = losses(data, "changing", backend)
    nnxp.register_activation("changing", cubic, cubic_backward)
    assert losses(data, "changing", backend) != first
    assert losses(data, "changing", backend) == losses(data, (cubic, cubic_backward), backend)


def test_a_model_names_what_it_needs(tmp_path, data, monkeypatch, caplog):
    nnxp.register_activation("gaussian", gaussian, gaussian_backward)
    nnxp.register_loss("doubled", doubled, doubled_gradient)
    network = MLP([3, 5, 2], "gaussian")
    nnxp.train(network, *data, loss="doubled", epochs=1, batch_size=8)
    path = tmp_path / "model.safetensors"
    network.save(path)
    assert nnxp.checkpoint.describe(path)["needs"] == [
        {"kind": "activation", "name": "gaussian", "source": __name__},
        {"kind": "loss", "name": "doubled", "source": __name__},
    ]
    again = MLP.load(path)
    assert (again.hidden, again.loss) == (("gaussian",), "doubled")
    np.testing.assert_array_equal(again.forward(data[0]), network.forward(data[0]))
    caplog.set_level(logging.INFO, "nnxp")
    monkeypatch.setattr(gaussian, "__module__", "elsewhere")
    MLP.load(path)
    assert f"'gaussian' is that of elsewhere, and was that of {__name__}" in caplog.text
    for each, name in ((LOSSES, "doubled"), (ACTIVATIONS, "gaussian")):
        del each[name]
        says = f"needs the {each.kind} '{name}' of .* nnxp.register_{each.kind}"
        with pytest.raises(ModelError, match=says) as caught:
            MLP.load(path)
        assert "\n" not in str(caught.value)


def test_a_model_of_our_own_pieces_needs_nothing(tmp_path):
    MLP([3, 5, 2], "gelu").save(tmp_path / "model.safetensors")
    assert "needs" not in nnxp.checkpoint.describe(tmp_path / "model.safetensors")


def test_a_pair_without_a_name_is_in_no_model_file(tmp_path, data):
    """Another program may have another function of this name."""
    path = tmp_path / "model.safetensors"
    network = MLP([3, 5, 2], (cubic, cubic_backward))
    with pytest.raises(InputError, match=r"activation 'cubic' has no name .* nnxp.register_act"):
        network.save(path)
    nnxp.register_activation("cubic", cubic, cubic_backward)
    network.save(path)
    np.testing.assert_array_equal(MLP.load(path).forward(data[0]), network.forward(data[0]))
    del ACTIVATIONS["cubic"]
    assert MLP([3, 5, 2], (cubic, cubic_backward)).hidden == ("cubic",)
    with pytest.raises(ModelError, match="needs the activation 'cubic'"):
        MLP.load(path)


def test_a_pickle_carries_what_this_process_alone_has(data):
    network = MLP([3, 5, 2], (gaussian, gaussian_backward))
    content, expected = pickle.dumps(network), network.forward(data[0])
    del ACTIVATIONS["gaussian"]
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.forward(data[0]), expected)
    del ACTIVATIONS["gaussian"]
    nnxp.register_activation("gaussian", cubic, cubic_backward)  # another of this name
    again = pickle.loads(content)
    assert again.hidden == ("gaussian_2",)
    np.testing.assert_array_equal(again.forward(data[0]), expected)
    assert copy.deepcopy(network).hidden == network.hidden


# --- by entry points


@pytest.fixture
def package(tmp_path):
    """The environment of processes that have a package of pieces."""
    site = tmp_path / "site"
    info = site / "my_pieces-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-pieces\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        dedent("""
            [nnxp.activations]
            gaussian = my_pieces:gaussian
            broken = my_pieces.missing:piece
            formless = my_pieces:number
            relu = my_pieces:gaussian
            [nnxp.losses]
            doubled = my_pieces:doubled
            [nnxp.optimizers]
            lively = my_pieces:Lively
            [nnxp.backends]
            mine = my_pieces:Mine
            broken = my_pieces.missing:Mine
        """)
    )
    (site / "my_pieces.py").write_text(
        dedent("""
            from dataclasses import dataclass
            from nnxp import SGD, kernels
            from nnxp.arrays import namespace
            from nnxp.backends.numpy import NumPyBackend

            number = 3
            gaussian = (
                lambda z: namespace(z).exp(-z * z),
                lambda dy, y, z: -2.0 * dy * y * z,
            )
            doubled = (
                lambda y, t, w=None: 2.0 * kernels.quadratic(y, t, w),
                lambda y, t, w=None: 2.0 * kernels.quadratic_gradient(y, t, w),
            )

            @dataclass(frozen=True)
            class Lively(SGD):
                learning_rate: float = 0.3

            class Mine(NumPyBackend):
                name = "mine"
        """)
    )
    paths = [str(site), *filter(None, sys.path)]
    return environment(tmp_path, PYTHONPATH=":".join(paths))


def nnxp_process(folder, variables, *words):
    return completed([sys.executable, "-m", "nnxp", *words], cwd=folder, env=variables, timeout=60)


@pytest.mark.slow
def test_the_command_line_has_the_pieces_of_installed_packages(tmp_path, package):
    words = [
        "train", "moons", "--hidden", "8", "--activation", "gaussian", "--loss", "doubled",
        "--optimizer", "lively", "--backend", "mine", "--epochs", "5",
    ]  # fmt: skip
    done = nnxp_process(tmp_path, package, *words)
    assert "entry point my_pieces:gaussian of nnxp.activations is left out" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "gaussian, softmax with doubled" in done.stdout
    assert "on mine " in done.stdout
    done = nnxp_process(tmp_path, package, "evaluate", "model.safetensors", "moons")
    assert "accuracy" in done.stdout
    done = nnxp_process(tmp_path, package, "gradcheck", "--activation", "gaussian")
    assert "all within" in done.stdout
    # Without the package the model says what it lacks.
    without = environment(tmp_path, PYTHONPATH=":".join(filter(None, sys.path)))
    done = nnxp_process(tmp_path, without, "evaluate", "model.safetensors", "moons")
    assert done.returncode == 2
    assert done.stderr == (
        "nnxp: model.safetensors: needs the activation 'gaussian' of my-pieces 1.5, which is not "
        "registered here: install or import it, or call nnxp.register_activation('gaussian', ...) "
        "first\n"
    )


@pytest.mark.slow
def test_help_errors_and_completion_have_them_too(tmp_path, package):
    text = nnxp_process(tmp_path, package | {"COLUMNS": "1000"}, "train", "--help").stdout
    for name in ("gaussian", "doubled", "lively", "mine"):
        assert name in text
    done = nnxp_process(tmp_path, package, "train", "moons", "--optimizer", "livly")
    assert "did you mean 'lively'" in done.stderr
    for words, offered in (
        ("nnxp train --activation gau", ["gaussian"]),
        ("nnxp train --activation relu,gau", ["relu,gaussian"]),
        ("nnxp train --loss dou", ["doubled"]),
        ("nnxp train --backend nu", ["numpy"]),
    ):
        asked = {"_NNXP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
        code = "import sys; sys.argv = ['nnxp']; from nnxp import cli; cli.main()"
        done = python(code, env=package | asked, cwd=tmp_path, check=True)
        assert done.stdout.split() == offered


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", "nnxp: activation 'broken' of my_pieces.missing:piece does not load: Module"),
        ("formless", "nnxp: activation 'formless' of my_pieces:number must be a pair of functions"),
    ],
)
def test_a_package_that_does_not_load_is_one_line(tmp_path, package, name, says):
    done = nnxp_process(tmp_path, package, "train", "moons", "--activation", name)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_backends_lists_those_of_packages(tmp_path, package):
    done = nnxp_process(tmp_path, package, "backends")
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: line for line in done.stdout.splitlines() if line[0] != " "}
    assert "usable: cpu" in lines["mine"]
    assert "'broken' of my_pieces.missing:Mine does not load" in lines["broken"]


@pytest.mark.slow
def test_worker_processes_have_them(tmp_path, package):
    script = tmp_path / "script.py"
    script.write_text(
        dedent("""
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context
            import nnxp

            def predicted(network, x):
                return network.predict(x).tolist()

            if __name__ == "__main__":
                network, x = nnxp.MLP([2, 3, 1], "gaussian", "identity"), [[0.5, 1.0]]
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    assert pool.submit(predicted, network, x).result() == predicted(network, x)
        """)
    )
    done = completed([sys.executable, script], env=package, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_entry_point_is_looked_for_while_our_own_pieces_do(tmp_path):
    code = (
        "import sys, nnxp; network = nnxp.MLP([2, 3, 2], 'gelu', backend='numpy');"
        "nnxp.train(network, [[0.0, 1.0]], [1], epochs=1, batch_size=1, optimizer='adam');"
        "from nnxp.cli import train;"
        "print([each for each in (nnxp.kernels.ACTIVATIONS, nnxp.optimizers.OPTIMIZERS)"
        " if '_installed' in vars(each)])"
    )
    done = python(code, env=environment(tmp_path), check=True)
    assert done.stdout == "[]\n"
