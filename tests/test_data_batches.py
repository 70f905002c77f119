import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nnxp
from nnxp import InputError
from nnxp.data.batches import (
    MACS_PER_LONG_CHUNK,
    STEPS_PER_CHUNK,
    STEPS_PER_LONG_CHUNK,
    chunks,
    labels_of,
    long_chunk,
    shuffled,
    split,
)
from nnxp.randomness import Purpose, generator

sizes = st.integers(1, 500)


@given(sizes, st.integers(1, 60))
def test_every_sample_is_visited_once_an_epoch(samples, batch_size):
    visited = np.concatenate([c.ravel() for c in chunks(shuffled(samples, 0, 1), batch_size)])
    np.testing.assert_array_equal(np.sort(visited), np.arange(samples))


@given(st.integers(1, 20_000), st.integers(1, 60), st.integers(1, STEPS_PER_CHUNK))
def test_chunks_are_whole_batches_of_at_most_two_lengths_and_a_rest(samples, batch_size, most):
    shapes = [chunk.shape for chunk in chunks(np.arange(samples), batch_size, most)]
    rest = samples % batch_size
    if rest:
        assert shapes.pop() == (1, rest)
    assert all(shape[1] == batch_size and 1 <= shape[0] <= most for shape in shapes)
    lengths = {shape[0] for shape in shapes}
    assert not lengths or max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
@given(multiply_adds=st.integers(1, 2**44))
def test_a_long_chunk_is_bounded_by_its_steps_and_its_work(device, multiply_adds):
    most = long_chunk(multiply_adds, device)
    work = MACS_PER_LONG_CHUNK[device.partition(":")[0]]
    assert 1 <= most <= STEPS_PER_LONG_CHUNK
    assert most == 1 or most * multiply_adds <= work
    assert most == STEPS_PER_LONG_CHUNK or (most + 1) * multiply_adds > work


def test_orders_differ_between_epochs_and_seeds_and_can_be_made_again():
    orders = [tuple(shuffled(100, seed, epoch)) for seed in (0, 1) for epoch in (1, 2)]
    assert len(set(orders)) == 4
    assert tuple(shuffled(100, 0, 2)) == orders[1]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.floats(0, 1), st.integers(0, 99))
def test_split_takes_every_row_once_and_each_label_in_proportion(labels, share, seed):
    labels = np.array(labels)
    kept, held = split(labels, share, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(len(labels)))
    if share < 1:
        assert set(labels[kept]) == set(labels)
    spare = len(labels) - (len(set(labels)) if share < 1 else 0)
    assert len(held) == min(round(share * len(labels)), spare)
    for label in np.unique(labels):
        of_label = np.sum(labels == label) - (share < 1)
        fair = len(held) / max(spare, 1) * of_label
        assert abs(np.sum(labels[held] == label) - fair) <= 1


def split_by_unique(labels, share, seed):
    """Which rows are held out, by definition; models that were trained depend on it."""
    rows = generator(seed, Purpose.SPLIT).permutation(len(labels))
    by_label = rows[np.argsort(labels[rows], kind="stable")]
    if share < 1:
        by_label = np.delete(by_label, np.unique(labels[by_label], return_index=True)[1])
    count = min(round(share * len(rows)), len(by_label))
    places = (np.arange(count) + 0.5) * (len(by_label) / max(count, 1))
    held = by_label[places.astype(np.int64)]
    return np.setdiff1d(rows, held), np.sort(held)


@given(
    st.integers(1, 200), st.integers(1, 70), st.sampled_from([0.02, 0.5, 1.0]), st.floats(0, 1),
    st.integers(0, 99),
)  # fmt: skip
def test_the_same_rows_are_held_out_as_ever(samples, outputs, density, share, seed):
    rng = np.random.default_rng(seed)
    rows = (rng.uniform(size=(samples, outputs)) < density).astype(np.float64)
    ranks = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    np.testing.assert_array_equal(labels_of(rows), ranks)
    for found, expected in zip(
        split(ranks, share, seed), split_by_unique(ranks, share, seed), strict=True
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["classes", "one-hot"])
def test_a_validation_share_sorts_no_rows_and_classes_once(monkeypatch, kind):
    """To sort rows takes seconds where there are a million."""
    sorts = []
    unique, argsort = np.unique, np.argsort
    monkeypatch.setattr(np, "unique", lambda a, **o: (sorts.append((a.ndim, o)), unique(a, **o))[1])
    monkeypatch.setattr(np, "argsort", lambda a, **o: (sorts.append((1, o)), argsort(a, **o))[1])
    classes = np.arange(60) % 3
    targets = np.eye(3)[classes] if kind == "one-hot" else classes
    network = nnxp.MLP([2, 3], backend="numpy")
    nnxp.train(network, np.ones((60, 2)), targets, epochs=1, batch_size=8, validation=0.2)
    assert len(sorts) == (2 if kind == "one-hot" else 1)
    assert all(ndim == 1 and "axis" not in options for ndim, options in sorts)


def test_purposes_have_streams_of_their_own():
    drawn = [generator(0, purpose).random() for purpose in Purpose]
    drawn += [generator(0, Purpose.BATCHES, 1).random(), np.random.default_rng(0).random()]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(InputError, match="seed must be a whole number, 0 or more"):
        generator(seed, Purpose.PARAMETERS)


def test_a_validation_share_that_takes_fewer_rows_says_so(caplog):
    caplog.set_level("INFO", "nnxp")
    network = nnxp.MLP([2, 9], backend="numpy")
    for share, says in ((0.5, "validation: 1 rows, not 5: each class"), (0.01, "validation: none")):
        nnxp.train(
            network, np.ones((10, 2)), np.arange(10) % 9, epochs=1, batch_size=8, validation=share
        )
        assert says in caplog.text
        caplog.clear()
    nnxp.train(network, np.ones((36, 2)), np.arange(36) % 9, epochs=1, batch_size=8, validation=0.5)
    assert "validation" not in caplog.text
