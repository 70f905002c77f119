"""safetensors files: what the library writes is read; a header that is wrong is a ValueError."""

import json
import os
import struct
import threading

import numpy as np
import pytest
import safetensors.numpy

from nnxp import safetensors as ours


def framed(header, body=b""):
    """A file of a header, JSON or bytes, and a body."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + body


def entry(shape, start, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def read(path):
    with path.open("rb") as file:
        header = ours.read_header(file)
        return header.metadata, ours.arrays(header.content + ours.read_body(file, header))


ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(7.0),
    "empty": np.zeros((0, 3), np.int64),
    "bits": np.array([True, False]),
}


def test_what_the_library_writes_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(safetensors.numpy.save(ARRAYS, {"key": "\u00e4\n"}))
    metadata, found = read(path)
    assert metadata == {"key": "\u00e4\n"}
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    assert ours.dump(ARRAYS, {"key": "\u00e4\n"}) == path.read_bytes()


def test_a_pipe_is_read_as_a_file_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    content = safetensors.numpy.save(ARRAYS)
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[content])
    writer.start()
    _, found = read(tmp_path / "pipe")
    writer.join()
    np.testing.assert_array_equal(found["b"], ARRAYS["b"])


WRONG = {
    "nothing": b"",
    "seven bytes": bytes(7),
    "no header": bytes(8),
    "2^63 bytes": struct.pack("<Q", 2**63) + b"{}",
    "2^64-1 bytes": b"\xff" * 8 + b"{}",
    "a byte too long": struct.pack("<Q", 3) + b"{}",
    "a list": framed([]),
    "a number": framed(1),
    "metadata that are no object": framed({"__metadata__": []}),
    "metadata that are no text": framed({"__metadata__": {"a": 1}}),
    "no object for an array": framed({"a": 1}),
    "no type": framed({"a": {"shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "more than the three": framed({"a": entry([1], 0, 4) | {"url": "x"}}, bytes(4)),
    "a negative shape": framed({"a": entry([-1], 0, 4)}, bytes(4)),
    "a shape of text": framed({"a": entry(["1"], 0, 4)}, bytes(4)),
    "a shape of True": framed({"a": entry([True], 0, 4)}, bytes(4)),
    "a shape of 1.0": framed({"a": entry([1.0], 0, 4)}, bytes(4)),
    "no list of offsets": framed({"a": entry([1], 0, 4) | {"data_offsets": 4}}, bytes(4)),
    "three offsets": framed({"a": entry([1], 0, 4) | {"data_offsets": [0, 4, 4]}}, bytes(4)),
    "an array twice": framed(
        b'{"a":%b,"a":%b}' % ((json.dumps(entry([1], 0, 4)).encode(),) * 2), bytes(4)
    ),
    "overlapping": framed({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "the same place twice": framed({"a": entry([2], 0, 8), "b": entry([2], 0, 8)}, bytes(8)),
    "a gap": framed({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
    "too short": framed({"a": entry([4], 0, 16)}, bytes(12)),
    "too long": framed({"a": entry([1], 0, 4)}, bytes(12)),
    "backwards": framed({"a": entry([1], 4, 0)}, bytes(4)),
    "another size": framed({"a": entry([2], 0, 4)}, bytes(4)),
    "a terabyte": framed({"a": entry([10**12], 0, 4 * 10**12)}, bytes(12)),
    "a terabyte in no bytes": framed({"a": entry([10**12], 0, 0)}),
    "more than an address": framed({"a": entry([2**62, 2**62], 0, 0)}),
    "offsets beyond an address": framed({"a": entry([2**62], 0, 10**30)}),
    "nothing of too much": framed({"a": entry([0, 2**62], 0, 0)}),
    "a hundred dimensions": framed({"a": entry([1] * 100, 0, 4)}, bytes(4)),
    "bfloat16": framed({"a": entry([1], 0, 2, "BF16")}, bytes(2)),
    "an unknown type": framed({"a": entry([1], 0, 4, "pickle")}, bytes(4)),
    "a type of no text": framed({"a": entry([1], 0, 4, ["F32"])}, bytes(4)),
    "NaN": framed(b'{"a":NaN}'),
    "bytes after the header": framed(b'{"a":%b}\0' % json.dumps(entry([1], 0, 4)).encode(),
                                     bytes(4)),
}  # fmt: skip


@pytest.mark.promise("memory")
def test_what_is_wrong_is_a_value_error_of_one_short_line(tmp_path, cases):
    for name, content in WRONG.items():
        (tmp_path / "x").write_bytes(content)
        with cases(name):
            with pytest.raises(ValueError, match=r".") as error:
                read(tmp_path / "x")
            text = str(error.value)
            assert text.isprintable(), text
            assert len(text) < 500, text


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path):
    """Mapped into memory, as by the library's own `safe_open`, it would kill the process."""
    path = tmp_path / "x"
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(10**5)}))
    with path.open("rb") as file:
        header = ours.read_header(file)
        os.truncate(path, 1000)
        with pytest.raises(ValueError, match="does not hold the 800,000 bytes"):
            ours.read_body(file, header)


def test_what_would_not_be_read_is_not_written():
    with pytest.raises(ValueError, match=r"header too large|more than"):
        ours.dump({}, {"key": "x" * 100_000_001})
    with pytest.raises(ValueError, match="values"):
        ours.dump({}, {"key": "," * 2**21 + ","})
    with pytest.raises(ValueError, match=r"."):
        ours.dump({"a": np.array(["text"])}, {})
    content = ours.dump({}, {"key": "value"})
    assert ours.parse_header(content).metadata == {"key": "value"}


def test_a_file_may_end_with_its_header(tmp_path):
    (tmp_path / "x").write_bytes(ours.dump({}, {"key": "value"}))
    assert read(tmp_path / "x") == ({"key": "value"}, {})


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ({"__metadata__": []}, "its metadata is not text"),
        ({"__metadata__": {"a": 1}}, "its metadata is not text"),
        ({"a": entry([-1], 0, 4)}, "its header says nothing right of 'a'"),
        ({"a": entry([True], 0, 4)}, "its header says nothing right of 'a'"),
    ],
)
def test_a_wrong_header_is_refused_before_the_arrays_are_read(header, says):
    with pytest.raises(ValueError, match=says):
        ours.parse_header(framed(header))


@pytest.mark.promise("memory")
@pytest.mark.parametrize("end", [2**62, 10**30])
def test_a_pipe_that_claims_more_than_there_is_memory_is_an_error(end):
    reading, writing = os.pipe()
    os.close(writing)
    header = ours.parse_header(framed({"a": entry([1], 0, end)}))
    with open(reading, "rb") as file, pytest.raises(ValueError, match="bytes: more than there are"):
        ours.read_body(file, header)
