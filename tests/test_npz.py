"""npz archives: what is read, and what is refused before it is unpacked."""

import io
import zipfile

import numpy as np
import pytest

from nnxp import npz
from nnxp.errors import DataError


def header(shape, dtype=np.float64):
    """An array file that declares a shape and holds no values."""
    file = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    declared = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, declared)
    return file.getvalue()


def archive(path, **members):
    """Write an archive with these bytes as its members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_come_back_by_name_with_their_dtype_and_shape(tmp_path, write):
    arrays = {
        "W1": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int8).reshape(3, 2)),
        "number": np.array(7, np.uint16),
        "empty": np.zeros((0, 4), np.float32),
        "text": np.array(["cat", "dog"]),
    }
    write(tmp_path / "arrays.npz", **arrays)
    found = npz.load(str(tmp_path / "arrays.npz"))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_an_archive_without_arrays_is_an_empty_dictionary(tmp_path):
    np.savez(tmp_path / "nothing.npz")
    assert npz.load(tmp_path / "nothing.npz") == {}


@pytest.mark.promise("nothing runs")
def test_pickled_objects_are_refused_and_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    np.savez(tmp_path / "trap.npz", x=np.array([Trap()], dtype=object))
    with pytest.raises(DataError, match=r"trap\.npz: not a readable npz archive"):
        npz.load(tmp_path / "trap.npz")
    assert not (tmp_path / "sprung").exists()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.npz: No such file"):
        npz.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("content", [b"", b"W1,b1\n1,2\n", b"PK\x03\x04"], ids=len)
def test_a_file_that_is_no_archive_is_refused_with_the_cure(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"x\.npz: not a readable .* write it with numpy\.savez"):
        npz.load(tmp_path / "x.npz")


@pytest.mark.promise("damage")
def test_a_changed_byte_is_noticed(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.full(100, 3.0))
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.index(np.float64(3.0).tobytes())] ^= 1
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(DataError, match="CRC"):
        npz.load(tmp_path / "x.npz")


def written(version):
    """An array file in a version of the format."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ones(3), version=version)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_arrays_of_both_versions_of_the_format_are_read(tmp_path, version):
    found = npz.load(archive(tmp_path / "x.npz", x=written(version)))
    np.testing.assert_array_equal(found["x"], np.ones(3))


def test_the_version_for_records_with_foreign_names_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"x\.npz: .*array format \(3, 0\)"):
        npz.load(archive(tmp_path / "x.npz", x=written((3, 0))))


@pytest.mark.promise("memory")
@pytest.mark.parametrize("values", [2, 4], ids=["too few", "too many"])
def test_an_array_that_does_not_hold_what_it_declares_is_refused(tmp_path, values):
    path = archive(tmp_path / "x.npz", x=header((3,)) + bytes(8 * values))
    with pytest.raises(DataError, match=r"x\.npy declares 24 bytes"):
        npz.load(path)


@pytest.mark.promise("memory")
def test_a_terabyte_that_is_only_declared_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"x\.npy declares 8,000,000,000,000 bytes"):
        npz.load(archive(tmp_path / "x.npz", x=header((10**12,))))


@pytest.mark.promise("memory")
def test_an_archive_that_unpacks_into_a_great_deal_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "SMALLEST_BOMB", 2**16)
    zeros = np.zeros(2**14)
    np.savez_compressed(tmp_path / "bomb.npz", x=zeros)
    with pytest.raises(DataError, match=r"would unpack into 131,200 bytes, over 200 times"):
        npz.load(tmp_path / "bomb.npz")
    np.savez(tmp_path / "plain.npz", x=zeros)
    assert npz.load(tmp_path / "plain.npz")["x"].shape == zeros.shape


def test_small_archives_may_unpack_into_any_multiple_of_their_size(tmp_path):
    np.savez_compressed(tmp_path / "zeros.npz", x=np.zeros(2**16))
    assert 200 * (tmp_path / "zeros.npz").stat().st_size < 8 * 2**16
    assert not npz.load(tmp_path / "zeros.npz")["x"].any()


@pytest.mark.promise("damage")
def test_a_name_that_stands_there_twice_is_refused(tmp_path):
    path = archive(tmp_path / "x.npz", xx=written((1, 0)), yx=written((1, 0)))
    path.write_bytes(path.read_bytes().replace(b"yx.npy", b"xx.npy"))
    with pytest.raises(DataError, match=r"x\.npz: has 'xx\.npy' 2 times"):
        npz.load(path)


@pytest.mark.promise("memory")
def test_more_arrays_than_anyone_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "MOST_ARRAYS", 3)
    np.savez(tmp_path / "x.npz", *range(4))
    with pytest.raises(DataError, match=r"x\.npz: has 4 arrays, more than 3"):
        npz.load(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", *range(3))
    assert len(npz.load(tmp_path / "x.npz")) == 3


@pytest.mark.promise("memory")
@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_numpy_does_not_write_is_refused(tmp_path, kind):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", kind) as file:
        file.writestr("x.npy", written((1, 0)))
    with pytest.raises(DataError, match=f"compression {kind}"):
        npz.load(tmp_path / "x.npz")


def test_names_reach_a_terminal_without_control_characters(tmp_path):
    path = archive(tmp_path / "x.npz", **{"\x1b[2J": header((3,))})
    with pytest.raises(DataError, match="declares 24 bytes") as error:
        npz.load(path)
    assert str(error.value).isprintable()
