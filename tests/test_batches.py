import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnxp import InputError
from nnxp.batches import STEPS_PER_CHUNK, chunks, shuffled, split
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


def test_purposes_have_streams_of_their_own():
    drawn = [generator(0, purpose).random() for purpose in Purpose]
    drawn += [generator(0, Purpose.BATCHES, 1).random(), np.random.default_rng(0).random()]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(InputError, match="seed must be a whole number, 0 or more"):
        generator(seed, Purpose.PARAMETERS)
