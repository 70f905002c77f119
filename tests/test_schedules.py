import math

import numpy as np
import pytest
from conftest import require
from hypothesis import given
from hypothesis import strategies as st

from nnxp import MLP, SGD, EarlyStopping, InputError, schedules, train
from nnxp.history import Epoch, History
from nnxp.schedules import Constant, Cosine, Exponential, Plateau, Step

EPOCHS = 12


def rates(rule, base=0.4, losses=None):
    """The rate of every epoch; `losses` is what each epoch's validation loss turns out to be."""
    found, history = [], History()
    for epoch in range(1, EPOCHS + 1):
        found.append(rule(base, epoch, EPOCHS, history))
        loss = losses[epoch - 1] if losses else 1.0
        history.epochs.append(Epoch(epoch, loss, loss, -loss, 1.0, 1.0, found[-1]))
    return found


def torchs(make, losses=None):
    import torch

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    rule = make(torch.optim.lr_scheduler, optimizer)
    found = []
    for epoch in range(EPOCHS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rule.step(*([losses[epoch]] if losses else []))
    return found


PAIRS = {
    "step": (Step(3, 0.5), lambda s, o: s.StepLR(o, 3, 0.5)),
    "exponential": (Exponential(0.9), lambda s, o: s.ExponentialLR(o, 0.9)),
    "cosine": (
        Cosine(floor=0.1),
        lambda s, o: s.CosineAnnealingLR(o, EPOCHS - 1, eta_min=0.04),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_rates_are_torchs(name):
    require("torch")
    ours, theirs = PAIRS[name]
    np.testing.assert_allclose(rates(ours), torchs(theirs), rtol=1e-12)


def test_plateau_is_torchs():
    require("torch")
    losses = [5, 4, 4, 4.5, 4, 3.9, 3.95, 3.95, 4, 4, 4, 4.0]
    # torch waits for more than `patience` bad epochs, nnxp for as many.
    theirs = torchs(
        lambda s, o: s.ReduceLROnPlateau(o, factor=0.5, patience=1, threshold=0.0, eps=0.0), losses
    )
    for monitor in ("validation_loss", "loss", "validation_metric"):
        ours = rates(Plateau(monitor, patience=2, factor=0.5), losses=losses)
        assert ours == pytest.approx(theirs)
    assert min(theirs) < 0.2


class Watched(list):
    """The epochs of a history; counts how many are read."""

    reads = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        self.reads += len(found) if isinstance(key, slice) else 1
        return found

    def __iter__(self):
        for each in super().__iter__():
            self.reads += 1
            yield each


@pytest.mark.parametrize("monitor", ["loss", "validation_loss", "validation_metric"])
def test_an_epoch_is_read_a_constant_number_of_times(monitor):
    """Whatever its schedule and callbacks: a training must not take longer the longer it is."""
    rng = np.random.default_rng(0)
    x, t, epochs = rng.standard_normal((10, 2)), rng.integers(0, 2, 10), 200

    def watch(network, history):
        if len(history.epochs) == 1:
            history.epochs = Watched(history.epochs)

    history = train(
        MLP([2, 2], backend="numpy"), x, t, epochs=epochs, batch_size=None, validation=0.3,
        schedule=Plateau(monitor), callbacks=[watch, EarlyStopping(monitor, patience=epochs)],
    )  # fmt: skip
    assert len(history.epochs) == epochs < history.epochs.reads < 6 * epochs


def plateau(rule, base, losses):
    """The rate after these losses, by the definition."""
    best, waited = math.inf, 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == rule.patience:
            base, waited = base * rule.factor, 0
    return base


def history_of(losses):
    return History(epochs=[Epoch(i, loss, loss, -loss, 1, 1, 1) for i, loss in enumerate(losses)])


LOSSES = st.lists(st.integers(0, 5), max_size=30)


@given(LOSSES, LOSSES, st.integers(1, 4))
def test_one_plateau_serves_many_trainings(ours, theirs, patience):
    """In turn, as threads do; with a history that is given whole, cut, or written anew."""
    rule = Plateau("loss", patience)
    first, second = history_of([]), history_of([])
    for i in range(max(len(ours), len(theirs)) + 1):
        for history, losses, base in ((first, ours, 0.4), (second, theirs, 0.3)):
            assert rule(base, i, 99, history) == plateau(rule, base, losses[:i])
            history.epochs += history_of(losses).epochs[i : i + 1]
    assert rule(0.4, 1, 99, history_of(ours)) == plateau(rule, 0.4, ours)
    assert rule(0.2, 1, 99, first) == plateau(rule, 0.2, ours)
    rule(0.4, 1, 99, first)
    del first.epochs[len(ours) // 2 :]
    assert rule(0.4, 1, 99, first) == plateau(rule, 0.4, ours[: len(ours) // 2])
    first.epochs = history_of(theirs).epochs
    assert rule(0.4, 1, 99, first) == plateau(rule, 0.4, theirs)
    assert Plateau("loss", patience + 1)(0.4, 1, 99, first) == plateau(
        Plateau("loss", patience + 1), 0.4, theirs
    )


def test_cosine_warms_up_to_the_base_and_ends_at_the_floor():
    found = rates(Cosine(warmup=3, floor=0.25))
    assert found[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert found[-1] == pytest.approx(0.1)
    assert found[3:] == sorted(found[3:], reverse=True)


def test_constant_is_constant():
    assert set(rates(Constant())) == {0.4}


def test_training_follows_the_schedule(backend):
    """Two epochs at two rates are two trainings of one epoch at a rate each."""
    rng = np.random.default_rng(0)
    x, t = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    network, other = (MLP([3, 2], backend=backend, dtype="float64") for _ in range(2))
    history = train(
        network, x, t, optimizer=SGD(0.5), schedule=Step(1, 0.1), epochs=2, batch_size=None
    )
    for rate in (0.5, 0.05):
        train(other, x, t, optimizer=SGD(rate), epochs=1, batch_size=None)
    np.testing.assert_allclose(network.predict(x), other.predict(x), rtol=1e-9)
    assert [epoch.learning_rate for epoch in history.epochs] == pytest.approx([0.5, 0.05])


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("constant", Constant()),
        ("step,every=5, factor=0.2", Step(5, 0.2)),
        ("exponential,factor=0.9", Exponential(0.9)),
        ("cosine,warmup=2", Cosine(2)),
        ("plateau,monitor=loss,patience=4", Plateau("loss", 4)),
    ],
)
def test_a_schedule_is_read_from_text(text, made):
    assert schedules.get(text) == made


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cosin", "unknown schedule 'cosin': did you mean 'cosine'"),
        ("step,evry=3", "unknown option of schedule step 'evry': did you mean 'every'"),
        ("step,every=x", "every must be a whole number, 1 or more, not 'x'"),
        ("step,every=2.5", "every must be a whole number, 1 or more, not 2.5"),
        ("step,every=0", "every must be a whole number, 1 or more, not 0"),
        ("exponential,factor=-1", "factor must be a finite number above 0"),
        ("cosine,floor=2", r"floor must be a number in \[0, 1\], not 2"),
        ("plateau,factor=1", r"factor must be a number in \(0, 1\), not 1"),
        ("plateau,monitor=los", "unknown monitor 'los': did you mean 'loss'"),
    ],
)
def test_wrong_schedules_are_refused(text, says):
    with pytest.raises(InputError, match=says):
        schedules.get(text)


def test_a_plateau_without_validation_data_says_what_it_needs():
    x, t = np.eye(2), [0, 1]
    with pytest.raises(InputError, match="validation_loss needs validation data"):
        train(MLP([2, 2], backend="numpy"), x, t, schedule=Plateau(), epochs=3, batch_size=1)


def test_every_schedule_has_a_name():
    made = [schedules.get(name) for name in schedules.SCHEDULES]
    assert len({type(each) for each in made}) == len(schedules.SCHEDULES) == 5
