"""Data on disk: its readers, its orders and trainings on it, against the same data in memory."""

import logging
import os
import threading
from itertools import pairwise

import numpy as np
import pytest

import nnxp
from nnxp.data import batches, sources
from nnxp.data.sources import Blocks, Mapped, Selected, Shards, Sliced
from nnxp.errors import DataError, InputError

ROWS, FEATURES = 1000, 6


@pytest.fixture
def small(monkeypatch):
    """Sizes so that little data has many blocks and several buffers, and stays on disk."""
    shrink(monkeypatch)


def shrink(monkeypatch):
    monkeypatch.setattr(sources, "LOADED_BYTES", 0)
    monkeypatch.setattr(sources, "BLOCK_BYTES", 4 * FEATURES * 32)
    monkeypatch.setattr(sources, "BUFFER_BYTES", 4 * FEATURES * 200)
    monkeypatch.setattr(sources, "_SCAN_BYTES", 4 * FEATURES * 70)
    monkeypatch.setattr("nnxp.data.feeds.READ_BYTES", 4 * (FEATURES + 3) * 100)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int64)


class Slices:
    """What has a shape, a dtype and slices, and nothing else; it notes what is read."""

    def __init__(self, x):
        self.x, self.shape, self.dtype, self.reads = x, x.shape, x.dtype, []

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.reads.append((rows.start, rows.stop))
        return self.x[rows]


def mapped(folder, x, name="x.npy"):
    np.save(folder / name, x)
    return np.load(folder / name, mmap_mode="r")


def kinds(folder, x):
    """A source of each kind of the same rows."""
    cuts = [0, 100, 130, 640, ROWS]
    parts = [mapped(folder, x[a:b], f"{a}.npy") for a, b in pairwise(cuts)]
    every_second = np.repeat(x, 2, axis=0)
    return {
        "mapped": Mapped(mapped(folder, x)),
        "mapped, by blocks": Mapped(mapped(folder, x), by_blocks=True),
        "a part of a mapping": Mapped(mapped(folder, np.vstack([x[:7], x]), "y.npy")[7:]),
        "sliced": Sliced(Slices(x)),
        "shards": Shards([Mapped(part) for part in parts], "folder"),
        "shards, by blocks": Shards([Mapped(part) for part in parts], "folder").in_blocks(),
        "shards of blocks": Shards([Sliced(Slices(np.array(part))) for part in parts], "folder"),
        "selected": Selected(Mapped(mapped(folder, every_second, "z.npy")), np.arange(ROWS) * 2),
        "selected blocks": Selected(Sliced(Slices(every_second)), np.arange(ROWS) * 2 + 1),
    }


def test_every_kind_returns_the_rows(small, tmp_path, data):
    x, _ = data
    rng = np.random.default_rng(1)
    for name, source in kinds(tmp_path, x).items():
        assert source.shape == x.shape, name
        assert len(source) == ROWS
        np.testing.assert_array_equal(source[123:456], x[123:456], name)
        np.testing.assert_array_equal(source[5:5, ...], x[5:5], name)
        np.testing.assert_array_equal(source.load(), x, name)
        order = rng.permutation(ROWS)
        np.testing.assert_array_equal(source[order], x[order], name)
        some = np.sort(rng.choice(ROWS, 300, replace=False))
        for rows in (None, some):
            wanted = x if rows is None else x[rows]
            parts = list(source.scan(rows))
            assert len(parts) > 1
            assert [part.start for part, _ in parts[1:]] == [part.stop for part, _ in parts[:-1]]
            np.testing.assert_array_equal(np.concatenate([each for _, each in parts]), wanted, name)
        with pytest.raises(TypeError, match="consecutive rows"):
            source[0:10:2]


def read_all(reader, pieces, x, dtype=np.float32):
    """Read an order in pieces, and compare with the rows of x."""
    for rows in pieces:
        out = np.empty((len(rows), FEATURES), dtype)
        reader.take(rows, out)
        reader.ahead()
        np.testing.assert_array_equal(out, x[rows])


@pytest.mark.parametrize("piece", [64, 333])
def test_an_order_of_blocks_reads_each_block_once(small, data, piece):
    slices = Slices(data[0])
    source = Sliced(slices)
    order = batches.shuffled_blocks(source.blocks, 3, 1)
    pieces = np.split(order, range(piece, ROWS, piece))
    reader = source.reader(pieces)
    read_all(reader, pieces, data[0])
    assert len(reader.free) * reader.page == len(reader.pool)
    assert len(slices.reads) == len(set(slices.reads)) == len(source.blocks.bounds) - 1
    assert len(reader.pool) <= 4 * source.blocks.buffer


def test_an_order_that_jumps_reads_blocks_again_and_says_so(small, data, caplog):
    slices = Slices(data[0])
    source = Sliced(slices)
    pieces = np.split(np.random.default_rng(0).permutation(ROWS), 10)
    reader = source.reader(pieces)
    with caplog.at_level(logging.INFO, "nnxp"):
        read_all(reader, pieces, data[0], np.float64)
    assert len(slices.reads) > len(source.blocks.bounds)
    assert caplog.text.count("blocks are read more than once") == 1


def test_blocks_of_very_different_sizes(small, data, monkeypatch):
    slices = Slices(data[0])
    source = Sliced(slices)
    source.blocks = Blocks(np.array([0, 1, 2, 2, 3, 700, 701, 705, ROWS]), 50)
    order = batches.shuffled_blocks(source.blocks, 0, 1)
    assert sorted(order) == list(range(ROWS))
    pieces = np.split(order, range(90, ROWS, 90))
    reader = source.reader(pieces)
    read_all(reader, pieces, data[0])
    assert len(slices.reads) == len(set(slices.reads)) == 7


def test_a_training_on_disk_comes_to_the_bits_of_one_in_memory(small, tmp_path, data):
    x, t = data
    weight = np.linspace(0.5, 2.0, ROWS)

    def trained(x, **options):
        network = nnxp.MLP([FEATURES, 8, 2], seed=1, backend="numpy")
        options = {"epochs": 2, "batch_size": 40, "validation": 0.2, "seed": 4} | options
        history = nnxp.train(network, x, t, sample_weight=weight, **options)
        figures = [(each.validation_loss, each.validation_metric) for each in history.epochs]
        losses.append([each.loss for each in history.epochs])
        return [array.tolist() for layer in network.parameters for array in layer], figures

    losses = []
    wanted = trained(x)
    sets = kinds(tmp_path, x)
    exact = ["mapped", "a part of a mapping", "shards", "selected"]
    for name in exact:
        assert trained(sets[name]) == wanted, name
    assert trained(mapped(tmp_path, x, "w.npy")) == wanted
    # A chunk of another length rounds the sum of its losses in another way.
    np.testing.assert_allclose(losses, np.array(losses[:1] * len(losses)), rtol=1e-6)
    kept = [trained(sets[name]) for name in ("mapped, by blocks", "sliced")]
    assert kept[0] == kept[1] != wanted
    assert trained(sets["mapped"], shuffle="blocks") == kept[0]
    ordered = trained(x, shuffle=False)
    assert [trained(each, shuffle=False) for each in sets.values()] == [ordered] * len(sets)
    mirrored = {"shuffle": lambda samples, epoch: np.arange(samples)[::-1]}
    assert trained(sets["sliced"], **mirrored) == trained(x, **mirrored)


def test_evaluation_and_prediction_on_disk(small, tmp_path, data):
    x, t = data
    network = nnxp.MLP([FEATURES, 5, 2], seed=1)
    wanted, outputs = network.evaluate(x, t), network.predict(x)
    for name, source in kinds(tmp_path, x).items():
        assert network.evaluate(source, t) == wanted, name
        np.testing.assert_array_equal(network.predict(source), outputs)
    np.testing.assert_array_equal(network.predict(Slices(x)), outputs)
    np.testing.assert_array_equal(network.predict(mapped(tmp_path, x)), outputs)


def test_data_is_read_while_steps_run(small, data, monkeypatch):
    """The third chunk is read before the steps of the first have ended."""
    x, t = data
    third = threading.Event()

    class Watched(Sliced):
        finite = True

        def reader(self, order):
            reader = super().reader(order)
            take, calls = reader.take, []

            def counted(rows, out):
                calls.append(threading.current_thread())
                take(rows, out)
                if len(calls) == 3:
                    third.set()

            reader.take = counted
            return reader

    monkeypatch.setattr("nnxp.data.feeds.READ_BYTES", 4 * FEATURES * 40)
    seen = []

    def progress(samples):
        assert third.wait(10), "the next chunk is not read while this one is in progress"
        seen.append(samples)

    network = nnxp.MLP([FEATURES, 2])
    nnxp.train(network, Watched(Slices(x)), t, epochs=1, batch_size=20, progress=progress)
    assert sum(seen) == ROWS


def test_a_value_that_is_not_finite_is_named_with_its_file(small, tmp_path, data):
    x, t = data
    x = x.copy()
    x[700, 3] = np.nan
    network = nnxp.MLP([FEATURES, 2])
    with pytest.raises(InputError, match=r"x holds nan at row 60 of .*640\.npy, column 3"):
        nnxp.train(network, kinds(tmp_path, x)["shards"], t, epochs=1, batch_size=10)
    with pytest.raises(InputError, match=r"row 700 of x|row 700 of Slices"):
        network.evaluate(Slices(x), t)


def test_a_library_that_fails_is_one_line(small, data):
    x, t = data

    class Broken(Slices):
        def __getitem__(self, rows):
            raise OSError("disk on fire")

    with pytest.raises(DataError, match=r"rows 0 to \d+ cannot be read \(disk on fire\)"):
        nnxp.train(nnxp.MLP([FEATURES, 2]), Broken(x), t, epochs=1, batch_size=10)


def test_a_file_that_is_cut_or_replaced_meanwhile_is_named(small, tmp_path, data):
    x, t = data
    network = nnxp.MLP([FEATURES, 2])
    path = tmp_path / "x.npy"

    def train(change):
        source = Mapped(mapped(tmp_path, x))
        nnxp.train(network, source, t, epochs=2, batch_size=10,
                   callbacks=[lambda network, history: change()])  # fmt: skip

    with pytest.raises(DataError, match=r"x\.npy: was cut to 1,000 bytes"):
        train(lambda: os.truncate(path, 1000))

    def replace():
        np.save(tmp_path / "new.npy", x)
        os.replace(tmp_path / "new.npy", path)

    with pytest.raises(DataError, match="another file took its place"):
        train(replace)


def test_pages_of_a_private_mapping_are_not_dropped(small, tmp_path, data):
    """Changes of a memmap of mode "c" are nowhere else."""
    np.save(tmp_path / "x.npy", data[0])
    x = np.load(tmp_path / "x.npy", mmap_mode="c")
    x[0, 0] = 42.0
    nnxp.train(nnxp.MLP([FEATURES, 2]), x, data[1], epochs=1, batch_size=10)
    assert x[0, 0] == 42.0
    shared = np.load(tmp_path / "x.npy", mmap_mode="r+")
    shared[1, 1] = 43.0
    nnxp.train(nnxp.MLP([FEATURES, 2]), shared, data[1], epochs=1, batch_size=10)
    assert np.load(tmp_path / "x.npy")[1, 1] == shared[1, 1] == 43.0


def test_what_is_small_is_loaded(tmp_path, data):
    assert sources.find(mapped(tmp_path, data[0])) is None
    assert sources.find(Slices(data[0])) is None
    assert sources.find(data[0]) is None
    assert isinstance(sources.find(Sliced(Slices(data[0]))), Sliced)


def test_stream_false_loads_data_on_disk(small, tmp_path, data, caplog):
    with caplog.at_level(logging.INFO, "nnxp"):
        nnxp.train(nnxp.MLP([FEATURES, 2]), mapped(tmp_path, data[0]), data[1], epochs=1,
                   batch_size=10, stream=False)  # fmt: skip
    assert "on the host" in caplog.text


def test_the_log_says_how_rows_are_shuffled(small, tmp_path, data, caplog):
    x, t = data
    with caplog.at_level(logging.INFO, "nnxp"):
        for each in (mapped(tmp_path, x), Slices(x)):
            nnxp.train(nnxp.MLP([FEATURES, 2]), each, t, epochs=1, batch_size=10)
        nnxp.train(nnxp.MLP([FEATURES, 2]), x, t, epochs=1, batch_size=10, shuffle="blocks")
    assert "more than once" not in caplog.text
    assert "x.npy in chunks of 11 steps (3.52 kB), rows at random" in caplog.text
    assert "blocks of 32 rows at random, shuffled in a buffer of 200 rows" in caplog.text
    assert "shuffled exactly, not by blocks: the data is in memory" in caplog.text


def test_a_fingerprint_sees_a_change_in_its_runs(small, data):
    x = data[0]
    first = Sliced(Slices(x)).fingerprint("float32")
    assert first == Sliced(Slices(x.astype(np.float64))).fingerprint("float32")
    for row in (0, 500, ROWS - 1):
        changed = x.copy()
        changed[row, 2] += 1
        assert Sliced(Slices(changed)).fingerprint("float32") != first


def test_shards_must_be_alike(tmp_path, data):
    x = data[0]
    one = Mapped(mapped(tmp_path, x))
    for other, text in ((x[:, :5], "5 features, float32"), (x.astype(np.float64), "float64")):
        with pytest.raises(DataError, match=rf"other\.npy: has .*{text}.*x\.npy has 6, float32"):
            Shards([one, Mapped(mapped(tmp_path, np.ascontiguousarray(other), "other.npy"))], "f")


def test_a_diverging_training_on_disk_names_the_step(small, tmp_path, data):
    """The steps run again while the first pass has not ended."""
    x, t = data
    network = nnxp.MLP([FEATURES, 2])
    errors = []
    for each in (x, mapped(tmp_path, x)):
        network = nnxp.MLP([FEATURES, 16, 2], "relu", "identity", seed=1)
        with pytest.raises(nnxp.DivergenceError) as caught:
            nnxp.train(network, each, np.eye(2)[t], epochs=9, batch_size=5, scale_targets=False,
                       optimizer=nnxp.SGD(30.0))  # fmt: skip
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_a_training_on_disk_goes_on_from_a_checkpoint_in_mid_epoch(tmp_path, data, monkeypatch):
    shrink(monkeypatch)
    x, t = data
    for name, source in (("rows", mapped(tmp_path, x)), ("blocks", Slices(x))):

        def train(source=source, name=name, **options):
            network = nnxp.MLP([FEATURES, 8, 2], seed=1)
            nnxp.train(network, source, t, epochs=3, batch_size=20, seed=2, **options)
            return [array.tolist() for layer in network.parameters for array in layer]

        class Stop(Exception):
            pass

        seen = []

        def stop(samples, seen=seen):
            seen.append(samples)
            if sum(seen) > 1700:
                raise Stop

        often = nnxp.Checkpoints(tmp_path / name, every=5)
        with pytest.raises(Stop):
            train(checkpoint=often, progress=stop)
        assert 1000 < sum(seen) < 2000
        assert train(resume=str(tmp_path / name)) == train()
    changed = x.copy()
    changed[-1] += 1
    with pytest.raises(InputError, match="its x had other values"):
        nnxp.train(nnxp.MLP([FEATURES, 8, 2], seed=1), mapped(tmp_path, changed, "n.npy"), t,
                   epochs=3, batch_size=20, seed=2, resume=str(tmp_path / "rows"))  # fmt: skip
