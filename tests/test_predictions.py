"""Predictions as csv."""

import csv
import io
import tracemalloc

import numpy as np
import pytest

from nnxp import predictions
from nnxp.errors import InputError

OUTPUTS = np.array([[0.25, 0.75], [0.5, 0.5], [0.875, 0.125]], np.float32)


def test_a_class_has_its_name_and_its_number_otherwise():
    named = predictions.to_csv(OUTPUTS, ["cat", "dog"])
    assert named == "prediction,cat,dog\ndog,0.25,0.75\ncat,0.5,0.5\ncat,0.875,0.125\n"
    numbered = predictions.to_csv(OUTPUTS)
    assert numbered == "prediction,0,1\n1,0.25,0.75\n0,0.5,0.5\n0,0.875,0.125\n"


@pytest.mark.parametrize("task", ["multilabel", "regress"])
def test_other_tasks_have_the_outputs_alone(task):
    text = predictions.to_csv(OUTPUTS, task=task)
    assert text == "prediction_0,prediction_1\n0.25,0.75\n0.5,0.5\n0.875,0.125\n"


@pytest.mark.parametrize("task", ["classify", "multilabel", "regress"])
def test_a_single_output_is_its_own_prediction(task):
    assert predictions.to_csv(OUTPUTS[:, :1], task=task) == "prediction\n0.25\n0.5\n0.875\n"


def test_names_that_csv_must_quote_come_back():
    names = ['a,b "c"', "two\nlines"]
    header, first, *_ = csv.reader(io.StringIO(predictions.to_csv(OUTPUTS, names)))
    assert header == ["prediction", *names]
    assert first[0] == names[1]


def test_every_float32_comes_back_as_it_was():
    bits = np.random.default_rng(0).integers(0, 0x7F800000, (1000, 2), dtype=np.uint32)
    values = bits.view(np.float32)
    text = predictions.to_csv(values, task="regress")
    read = np.loadtxt(io.StringIO(text), np.float32, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(read, values)


def test_the_outputs_of_any_library_are_taken(backend):
    expected = predictions.to_csv(OUTPUTS, ["cat", "dog"])
    assert predictions.to_csv(backend.asarray(OUTPUTS), ["cat", "dog"]) == expected


def test_no_samples_are_a_header():
    assert predictions.to_csv(np.zeros((0, 2)), ["cat", "dog"]) == "prediction,cat,dog\n"


@pytest.mark.parametrize("outputs", [1.0, [0.5, 0.5], np.zeros((2, 2, 2))], ids=np.ndim)
def test_what_is_no_matrix_is_refused(outputs):
    with pytest.raises(InputError, match=r"must be \(samples, outputs\), not \("):
        predictions.to_csv(outputs)


@pytest.mark.parametrize("count", [1, 3])
def test_as_many_names_as_outputs_are_needed(count):
    with pytest.raises(InputError, match=f"{count} names of classes for 2 outputs"):
        predictions.to_csv(OUTPUTS, ["a"] * count)


def test_the_parts_are_the_whole_and_take_little_memory():
    """As lists and text at once, these rows would take 44 MB."""
    outputs = np.random.default_rng(0).random((30_000, 10), np.float32)
    few = outputs[: 2 * predictions.PART_ROWS + 5]
    parts = list(predictions.csv_parts(few, task="regress"))
    assert len(parts) == 4
    assert "".join(parts) == predictions.to_csv(few, task="regress")
    read = np.loadtxt(io.StringIO("".join(parts)), np.float32, delimiter=",", skiprows=1)
    np.testing.assert_array_equal(read, few)
    tracemalloc.start()
    try:
        lines = sum(part.count("\n") for part in predictions.csv_parts(outputs))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lines == 30_001
    assert most < 15e6


def test_wrong_names_are_refused_before_the_first_part():
    with pytest.raises(InputError, match="1 names of classes for 2 outputs"):
        predictions.csv_parts(OUTPUTS, ["cat"])
