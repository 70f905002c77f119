"""Predictions as a table."""

import csv
import io

import numpy as np
import pytest

from nnxp import MLP, InputError, predictions


def table(text):
    header, *rows = csv.reader(io.StringIO(text))
    return header, rows


@pytest.mark.parametrize(
    ("outputs", "options", "lines"),
    [
        ([[0.25, 0.75]], {"classes": ["cat", "dog"]}, ["prediction,cat,dog", "dog,0.25,0.75"]),
        ([[0.25, 0.75]], {}, ["prediction,0,1", "1,0.25,0.75"]),
        ([[1.5], [-2.0]], {}, ["prediction", "1.5", "-2"]),
        ([[1.5], [-2.0]], {"task": "regress"}, ["prediction", "1.5", "-2"]),
        ([[1, 2]], {"task": "regress"}, ["prediction_0,prediction_1", "1,2"]),
        ([[0.1, 0.9]], {"task": "multilabel"}, ["prediction_0,prediction_1", "0.1,0.9"]),
        ([[0.5]], {"classes": ["a, b"]}, ['prediction,"a, b"', '"a, b",0.5']),
    ],
)
def test_a_line_has_the_prediction_and_the_outputs(outputs, options, lines):
    assert predictions.to_csv(outputs, **options) == "".join(f"{line}\n" for line in lines)


def test_outputs_of_every_library_are_written_and_float32_survives(backend):
    network = MLP([3, 4, 2], backend=backend)
    outputs = network.predict(network.backend.asarray(np.eye(3, dtype=np.float32)))
    _, rows = table(predictions.to_csv(outputs))
    written = np.array([row[1:] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(written, network.predict(np.eye(3, dtype=np.float32)))
    assert [int(row[0]) for row in rows] == written.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("outputs", "classes", "says"),
    [
        ([0.5, 0.5], None, r"outputs must be \(samples, outputs\), not \(2,\)"),
        ([[0.5, 0.5]], ["a"], "1 names of classes for 2 outputs"),
    ],
)
def test_outputs_that_are_no_table_are_refused(outputs, classes, says):
    with pytest.raises(InputError, match=says):
        predictions.to_csv(outputs, classes)
