"""Tables: csv with and without pyarrow, parquet, DataFrames; text and missing values."""

import datetime
import decimal
import hashlib
import json
import re
import sys
from unittest import mock

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import fail, succeed, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import nnxp
from nnxp import datasets
from nnxp.datasets import csv_arrow, csv_files, tables
from nnxp.datasets.csv_files import CsvFile
from nnxp.datasets.splits import content_hashes
from nnxp.datasets.texts import MISSING
from nnxp.errors import DataError, InputError, ModelError


@pytest.fixture
def write(tmp_path):
    """Write a file, and return its path."""

    def written(content, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def refused(data, **options):
    """The one line with which data is refused, without its folder."""
    with pytest.raises((DataError, InputError)) as error:
        datasets.load(data, **options)
    text = str(error.value)
    assert "\n" not in text
    return text[text.rfind("/data.") + 1 :]


# --- with and without pyarrow


def outcome(path, **options):
    """What a csv is read as, or the error."""
    try:
        raw = tables.read(CsvFile(path), **options)
    except DataError as error:
        return str(error)
    return (
        raw.x.shape, raw.x.tobytes(), raw.y.tolist(), raw.features, raw.target, raw.header,
        raw.categories, raw.delimiter, raw.decimal, content_hashes(raw),
    )  # fmt: skip


def check_alike(folder, content, options):
    """Check that a csv is read alike with pyarrow and without; return whether pyarrow read it."""
    path = folder / "data.csv"
    path.write_bytes(content)
    read, columns = csv_arrow.read, []

    def spy(*arguments):
        columns.append(read(*arguments))
        return columns[-1]

    # A sample of two rows leaves the faults of other rows to pyarrow.
    with (
        mock.patch.multiple(csv_files, LARGE=0, SAMPLE=2),
        mock.patch.object(csv_arrow, "read", spy),
    ):
        fast = outcome(path, **options)
    with (
        mock.patch.multiple(csv_files, LARGE=0, SAMPLE=2),
        mock.patch.object(csv_arrow, "available", return_value=False),
    ):
        assert fast == outcome(path, **options)
    return bool(columns) and columns[0] is not None


NUMBERS = st.one_of(
    st.integers(-1000, 1000).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32).map(repr),  # nan and inf too
    st.from_regex(r"\A[ +-]?[0-9_]{0,20}[.,]?[0-9]{0,20}([eE][+-]?[0-9]{1,3})?[ \t]?\Z"),
    st.sampled_from(
        ["1_000", "0x10", "1d5", "١", "+-1", "nan(1)", "infinity", "1e999", "1 2", "NAN"]
    ),
)
GAPS = st.sampled_from([*sorted(MISSING), " ", " NA "])
WORDS = st.one_of(
    st.sampled_from(["red", "green", "blue", "01", "1,5", 'a "b"', "x\ny", "größe", "NA"]),
    st.text(max_size=5),
)
CELLS = {"numbers": NUMBERS, "text": WORDS, "gaps": st.one_of(NUMBERS, GAPS)}


@st.composite
def contents(draw):
    """A csv of any delimiter and any columns, quoted where needed or everywhere, and damaged."""
    delimiter = draw(st.sampled_from(",;\t|"))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r", "\n\n"]))
    kinds = draw(st.lists(st.sampled_from(["numbers", *CELLS]), min_size=1, max_size=4))
    rows = draw(st.lists(st.tuples(*(CELLS[kind] for kind in kinds)), max_size=8))
    quoted = draw(st.booleans())

    def field(text):
        plain = not any(sign in text for sign in (delimiter, '"', "\r", "\n"))
        return text if plain and not quoted else '"' + text.replace('"', '""') + '"'

    lines = [[f"c{i}" for i in range(len(kinds))], *rows]
    text = end.join(delimiter.join(map(field, line)) for line in lines)
    content = bytearray((text + draw(st.sampled_from([end, ""]))).encode())
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        place = draw(st.integers(0, len(content)))
        damage = draw(st.sampled_from(b'",;\n\r\0\xff x'))
        content[place : place + draw(st.integers(0, 2))] = bytes([damage])
    return bytes(content)


alike = given(
    content=contents(),
    options=st.fixed_dictionaries({"one_hot": st.booleans(), "impute": st.booleans()}),
)
in_one_folder = [HealthCheck.function_scoped_fixture]


@settings(max_examples=60, deadline=None, suppress_health_check=in_one_folder)
@alike
def test_a_csv_is_read_alike_with_and_without_pyarrow(tmp_path, content, options):
    check_alike(tmp_path, content, options)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=in_one_folder)
@alike
def test_any_csv_is_read_alike_with_and_without_pyarrow(tmp_path, content, options):
    check_alike(tmp_path, content, options)


PAST_THE_SAMPLE = b"a,b,y\n" + b"1,2,u\n3,4,v\n" * 2


@pytest.mark.parametrize(
    ("content", "by_pyarrow"),
    [
        (PAST_THE_SAMPLE, True),
        (PAST_THE_SAMPLE.replace(b"\n", b"\r\n"), True),
        (PAST_THE_SAMPLE.replace(b"\n", b"\n\n"), True),
        (PAST_THE_SAMPLE.replace(b",", b";"), True),
        (PAST_THE_SAMPLE + b'"1","2","u, v"\n', True),
        (PAST_THE_SAMPLE + b" 1 , 2\t, u \n", True),
        (PAST_THE_SAMPLE + "1,2,größe\n".encode(), True),
        (PAST_THE_SAMPLE + b"1,x,u\n", True),
        (PAST_THE_SAMPLE + b"x,NA,u\n", True),
        (PAST_THE_SAMPLE + b"x,y,u\n", True),
        (PAST_THE_SAMPLE + b"NA,2,NA\n", True),
        (PAST_THE_SAMPLE + b"1,2,u", True),
        (PAST_THE_SAMPLE + b'1,2,"u\nv"\n', False),
        (PAST_THE_SAMPLE + b'1,2,"u ""v"""\n', False),
        (PAST_THE_SAMPLE + b'1,2,"u"v\n', False),
        (PAST_THE_SAMPLE + b'1,2,u"\n', False),
        (PAST_THE_SAMPLE + b'1,2,"u\n1,2,"v\n', False),
        (PAST_THE_SAMPLE + b'1,2,"u\n', False),
        (PAST_THE_SAMPLE + b"1,2,u\r3,4,v\n", False),
        (PAST_THE_SAMPLE + b"1,2,u\r", False),
        (PAST_THE_SAMPLE + b"1,2,\0\n", False),
        (PAST_THE_SAMPLE + b"1,2,\xff\n", False),
        (PAST_THE_SAMPLE + b"1,2\n", False),
        (PAST_THE_SAMPLE + b"1,2,u,3\n", False),
        (PAST_THE_SAMPLE + b"1,nan(1),u\n", False),
        (PAST_THE_SAMPLE + b"1,1e999,u\n", False),
        (PAST_THE_SAMPLE + b"1,inf,u\n", False),
        (PAST_THE_SAMPLE + b"1,2," + b"u" * 140_000 + b"\n", False),
        (PAST_THE_SAMPLE + b"\xef\xbb\xbf1,2,u\n", True),
        (b"\xef\xbb\xbf" + PAST_THE_SAMPLE, True),
        (b"a,b,y\n", False),
        (b"a,b,y\n\n", False),
        (b'"a\n",b,y\n1,2,u\n', False),
    ],
)  # fmt: skip
def test_pyarrow_reads_what_is_flawless(tmp_path, content, by_pyarrow):
    for options in ({}, {"one_hot": True, "impute": True}):
        assert check_alike(tmp_path, content, options) is by_pyarrow


def test_columns_that_are_left_out_are_checked_too(tmp_path):
    content = b"id," + PAST_THE_SAMPLE.replace(b"\n", b"\n7,").removesuffix(b"7,")
    assert check_alike(tmp_path, content, {"drop": ["id"]})
    assert not check_alike(tmp_path, content + b"\xff,1,2,u\n", {"drop": ["id"]})


def test_without_the_extra_a_large_file_says_so(write, caplog, monkeypatch):
    caplog.set_level("INFO", "nnxp")
    monkeypatch.setattr(csv_files, "LARGE", 1000)
    path = write("a,y\n" + "1.25,u\n2.5,v\n" * 100)
    expected = datasets.load(path)
    assert "nnxp[tables]" not in caplog.text
    monkeypatch.setattr(csv_arrow, "available", lambda: False)
    data = datasets.load(path)
    assert 'data.csv: pip install "nnxp[tables]" reads large files faster' in caplog.text
    np.testing.assert_array_equal(data.x, expected.x)
    assert data.split == expected.split


# --- how a csv is written

ROWS = [("a", "b", "y"), *[(str(i), f"{i / 4}", "uv"[i % 2]) for i in range(8)]]


def text_of(rows, delimiter=","):
    return "".join(delimiter.join(row) + "\n" for row in rows)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(write, caplog, delimiter):
    caplog.set_level("INFO", "nnxp")
    expected = datasets.load(write(text_of(ROWS), "expected.csv"))
    data = datasets.load(write(text_of(ROWS, delimiter)))
    np.testing.assert_array_equal(data.x, expected.x)
    assert data.delimiter == delimiter
    assert ("divides fields (found; see delimiter)" in caplog.text) is (delimiter != ",")


def test_of_two_delimiters_that_one_is_taken_which_divides_the_rows_too(write):
    rows = [("price, in EUR", "b|c", "y"), *ROWS[1:]]
    assert datasets.load(write(text_of(rows, ";"))).features == ("price, in EUR", "b|c")
    both = "a,b;c,y\n1,2;3,4\n5,6;7,8\n"
    assert refused(write(both)) == (
        "data.csv:1: its delimiter may be comma or semicolon: say which (delimiter, --delimiter)"
    )
    assert datasets.load(write(both), delimiter=";", one_hot=True, task="classify").features == (
        "a,b",
    )


def test_a_delimiter_may_be_given(write):
    assert datasets.load(write(text_of(ROWS, "~")), delimiter="~").features == ("a", "b")
    assert datasets.load(write(text_of(ROWS, "\t")), delimiter="tab").features == ("a", "b")
    for wrong in ("", ",,", "x", '"', "\n", "."):
        with pytest.raises(
            InputError, match=r'delimiter must be one character such as ";", or "tab"'
        ):
            datasets.load("moons", delimiter=wrong)


def test_decimal_commas_are_found_where_no_number_has_a_point(write):
    rows = [("a", "b", "price"), *[(f"{i},5", f"{i}", f"{i},25") for i in range(8)]]
    data = datasets.load(write(text_of(rows, ";")), preprocess="none")
    assert data.decimal == ","
    assert data.task == "regress"
    assert sorted(np.concatenate([data.x, data.x_test])[:, 0]) == [i + 0.5 for i in range(8)]
    assert sorted(np.concatenate([data.y, data.y_test])[:, 0]) == [i + 0.25 for i in range(8)]
    rows.append(("1.5", "2", "3"))
    assert refused(write(text_of(rows, ";"))).startswith("data.csv:2: 'a' is '0,5', not a finite")
    assert refused(write("a;b;y\n1,5;2;u\n1.000,5;3;v\n")).startswith(
        "data.csv:3: 'a' is '1.000,5'"
    )


# --- missing values


@pytest.mark.parametrize("word", sorted(MISSING))
def test_a_missing_number_is_refused_with_its_place_or_filled_in(write, word):
    rows = [*ROWS, (word, "3", "u")]
    what = f"{word!r}, missing" if word else "empty"
    assert refused(write(text_of(rows))) == (
        f"data.csv:10: 'a' is {what}: fill it in (impute, --impute), or leave row or column out"
    )
    data = datasets.load(write(text_of(rows)), impute=100, preprocess="none")
    assert 100 in np.concatenate([data.x, data.x_test])[:, 0]
    assert data.filled == {"a": 1}


@pytest.mark.parametrize("impute", ["mean", "median", "most_frequent", 7])
@pytest.mark.parametrize("kind", ["csv", "npz", "frame"])
def test_missing_numbers_are_filled_in_as_by_scikit_learn(tmp_path, impute, kind):
    from sklearn.impute import SimpleImputer

    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (200, 3)).astype(float)
    x[rng.random(x.shape) < 0.2] = np.nan
    y = np.arange(200) / 200
    frame = pd.DataFrame(x, columns=list("abc")).assign(y=y)
    path = tmp_path / f"data.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    data = datasets.load(frame if kind == "frame" else path, impute=impute, preprocess="none")
    rows = (200 * data.y.ravel()).round().astype(int)
    test = (200 * data.y_test.ravel()).round().astype(int)
    constant = isinstance(impute, int)
    imputer = SimpleImputer(
        strategy="constant" if constant else str(impute),
        fill_value=impute if constant else None,
    ).fit(x[rows])
    np.testing.assert_allclose(data.x, imputer.transform(x[rows]), rtol=1e-6)
    np.testing.assert_allclose(data.x_test, imputer.transform(x[test]), rtol=1e-6)
    assert sum(data.filled.values()) == np.isnan(x).sum()


def test_what_is_filled_in_is_logged(write, caplog):
    caplog.set_level("INFO", "nnxp")
    rows = [("a", "c", "y"), *[("" if i < 3 else "4", "pq"[i % 2], "uv"[i % 2]) for i in range(20)]]
    rows[20] = ("4", "", "v")
    datasets.load(write(text_of(rows)), impute="mean", one_hot=True)
    assert "data.csv: filled in 3 of 20 values of 'a' with 4" in caplog.text
    assert "data.csv: filled in 1 of 20 values of 'c' with 'p'" in caplog.text
    assert "data.csv: 'c' has 2 categories" in caplog.text


def test_a_column_without_values_cannot_be_filled_in(write):
    rows = [("a", "b", "y"), *[("", str(i), "uv"[i % 2]) for i in range(8)]]
    assert "'a' has no value in the rows to train on" in refused(
        write(text_of(rows)), impute="mean"
    )
    assert datasets.load(write(text_of(rows)), impute=0).filled == {"a": 8}


@pytest.mark.parametrize("impute", ["mean", 0])
def test_missing_targets_and_infinite_numbers_are_never_filled_in(write, impute):
    rows = [*ROWS, ("1", "2", "")]
    assert refused(write(text_of(rows)), impute=impute) == (
        "data.csv:10: 'y' is empty: fill it in, or leave the row out"
    )
    for word in ("inf", "1e999", "NAN"):
        rows[-1] = (word, "2", "u")
        line = refused(write(text_of(rows)), impute=impute)
        assert line.startswith(f"data.csv:10: 'a' is {word!r}, not a finite number: fill it in")


def test_a_wrong_strategy_is_told_the_nearest():
    assert "did you mean 'median'?" in refused("moons", impute="medain")
    assert "unknown impute 'a number'" in refused("moons", impute="a number")
    for wrong in (np.nan, True, [1]):
        assert "impute must be mean, median, most_frequent or a finite" in refused(
            "moons", impute=wrong
        )


# --- text


def towns(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "town": rng.choice(["Oslo", "Bonn", "Rome"], n),
            "size": rng.normal(size=n).round(3),
            "month": rng.integers(1, 4, n),
            "rent": np.arange(n) + 0.5,
        }
    )


def test_text_is_refused_with_the_cure_and_one_hot_as_by_scikit_learn(tmp_path):
    from sklearn.preprocessing import OneHotEncoder

    frame = towns()
    path = tmp_path / "data.csv"
    frame.to_csv(path, index=False)
    assert refused(path) == (
        f"data.csv:2: 'town' is {frame.town[0]!r}, not a finite number: one-hot encode it "
        "(one_hot, --one-hot), or leave the column out (drop, --drop)"
    )
    data = datasets.load(path, one_hot=True, one_hot_columns=["month"])
    rows = (data.y.ravel() - 0.5).astype(int)
    numbers = frame["size"].to_numpy()[rows]
    expected = np.column_stack(
        [
            OneHotEncoder(sparse_output=False)
            .fit(frame[["town"]])
            .transform(frame[["town"]])[rows],
            (numbers - numbers.mean()) / numbers.std(),
            OneHotEncoder(sparse_output=False).fit_transform(frame[["month"]])[rows],
        ]
    )
    np.testing.assert_allclose(data.x, expected, rtol=1e-5, atol=1e-6)
    assert data.encoding.categories == (("Bonn", "Oslo", "Rome"), None, ("1", "2", "3"))
    assert data.shape == (7,)
    assert data.encoding.names(data.features)[:4] == ["town=Bonn", "town=Oslo", "town=Rome", "size"]


@pytest.mark.parametrize("preprocess", ["none", "standardize", "pca", "zca"])
def test_categories_go_through_every_preprocessing(preprocess):
    data = datasets.load(towns(), one_hot=True, preprocess=preprocess)
    network = nnxp.MLP((data.x.shape[1], 3, 1), output="identity", backend="numpy")
    network.metadata = data.metadata()
    known = datasets.described(network.metadata, network.sizes)
    again = datasets.load(towns(), like=known)
    np.testing.assert_array_equal(again.x_test, data.x_test)
    assert again.trained_on


def test_a_category_of_test_rows_alone_does_not_break_evaluation(caplog):
    caplog.set_level("INFO", "nnxp")
    frame = towns()
    test = (datasets.load(frame, one_hot=True).y_test.ravel() - 0.5).astype(int)
    frame.loc[test[0], "town"] = "Kyiv"
    data = datasets.load(frame, one_hot=True)
    assert "'town' has 4 categories, 1 of which are in no row to train on" in caplog.text
    assert data.x_test.shape[1] == 6
    assert datasets.load(frame, like=json_copy(data.metadata())).trained_on


def json_copy(metadata):
    return json.loads(json.dumps(metadata))


def test_an_unknown_category_is_refused_with_those_that_are_known(write):
    like = json_copy(datasets.load(towns(), one_hot=True).metadata())
    path = write("rent,month,size,town\n1,2,3,Oslo\n1,2,3, Bonn \n1,2,3,Kyiv\n")
    line = refused(path, like=like)
    assert line == (
        "data.csv:4: 'town' is 'Kyiv', none of the categories that the model knows, 'Bonn', "
        "'Oslo', 'Rome'"
    )
    with pytest.raises(DataError, match=r"data\.csv:4: 'town' is 'Kyiv'"):
        datasets.load_features(path, like=like)
    path = write("month,size,town\n2,3,Oslo\n2,3,Bonn\n")
    x = datasets.load_features(path, like=like)
    np.testing.assert_array_equal(x[:, :3], [[0, 1, 0], [1, 0, 0]])
    line = refused(write("rent,month,size,town\n1,2,x,Oslo\n"), like=like)
    assert line == (
        "data.csv:2: 'size' is 'x', not a finite number, and the model was trained on numbers there"
    )
    line = refused(write("rent,month,size,town\n1,2,,Oslo\n"), like=like)
    assert line.startswith("data.csv:2: 'size' is empty: fill it in (the model was trained to fill")


def test_an_id_is_no_category(write):
    rows = [("id", "y"), *[(f"n{i}", "uv"[i % 2]) for i in range(50)]]
    line = refused(write(text_of(rows)), one_hot=True)
    assert line.startswith(
        "data.csv:1: 'id' has 50 different texts in 50 rows, which tell rows apart more than"
    )
    assert datasets.load(write(text_of(rows)), one_hot_columns=["id"]).x.shape[1] == 50
    rows = [("id", "y"), *[(f"n{i % 1001}", "uv"[i % 2]) for i in range(3003)]]
    line = refused(write(text_of(rows)), one_hot_columns=["id"])
    assert "'id' has 1,001 different texts in 3,003 rows, more than the 1,000 that become" in line


def test_a_word_among_amounts_is_no_category(write):
    rows = [("a", "b", "y"), *[(f"{i}.5", "1", "uv"[i % 2]) for i in range(30)], ("abc", "1", "u")]
    line = refused(write(text_of(rows)), one_hot=True)
    assert line.startswith("data.csv:32: 'a' is 'abc', and most others are numbers: fill it in")
    line = refused(write(text_of(rows)))
    assert line == (
        "data.csv:32: 'a' is 'abc', not a finite number: fill it in, or leave row or column out "
        "(drop, --drop)"
    )


def test_a_word_among_decimal_commas_is_no_category(write):
    rows = [("a", "b", "y"), *[(f"{i},5", "1", "uv"[i % 2]) for i in range(30)], ("abc", "1", "u")]
    line = refused(write(text_of(rows, ";")), one_hot=True)
    assert line.startswith("data.csv:32: 'a' is 'abc', and most others are numbers: fill it in")


def test_na_among_text_is_a_category_and_an_empty_field_is_missing(write):
    rows = [("c", "a", "y"), *[(["NA", "NO", ""][i % 3], str(i), "uv"[i % 2]) for i in range(30)]]
    assert "data.csv:4: 'c' is empty: fill it in" in refused(write(text_of(rows)), one_hot=True)
    data = datasets.load(write(text_of(rows)), one_hot=True, impute="mean")
    assert data.encoding.categories[0] == ("NA", "NO")
    assert data.filled == {"c": 10}


def test_columns_may_be_dropped(write):
    path = write(text_of([("id", *ROWS[0]), *[(f"n{row[0]}", *row) for row in ROWS[1:]]]))
    assert datasets.load(path, drop=["id"]).features == ("a", "b")
    assert "no column 'nr'; there are id, a, b, y" in refused(path, drop=["nr"])
    assert "'y' is the target, and no feature" in refused(path, drop=["y"])


@pytest.mark.parametrize(
    "options",
    [{"drop": ["a"]}, {"one_hot": True}, {"delimiter": ";"}, {"impute": "mean"}, {"impute": 0}],
    ids=str,
)
def test_options_of_tables_are_for_tables_and_for_new_models(options):
    (name,) = options
    line = refused("digits", **options)
    assert line.startswith(f"{name} ")
    assert line.endswith(" is for tables, and digits is none")
    if name != "delimiter":
        assert "are those of the model" in refused(towns(), like={"features": ["size"]}, **options)


def test_an_npz_has_no_categories_for_a_model_that_takes_them(tmp_path):
    like = json_copy(datasets.load(towns(), one_hot=True).metadata())
    np.savez(tmp_path / "data.npz", x=np.ones((3, 3)), y=np.ones(3))
    for load in (datasets.load, datasets.load_features):
        with pytest.raises(
            DataError, match="has no names of columns, and the model has categories"
        ):
            load(tmp_path / "data.npz", like=like)


# --- the model remembers


def test_the_content_is_known_in_a_file_of_another_kind(tmp_path):
    frame = towns()
    frame.loc[3, "size"] = np.nan
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.to_csv(tmp_path / "other.csv", index=False, sep=";", quoting=1)
    frame.to_parquet(tmp_path / "data.parquet")
    sources = [
        tmp_path / "data.csv", tmp_path / "other.csv", tmp_path / "data.parquet", frame,
        pl.from_pandas(frame),
    ]  # fmt: skip
    trained = datasets.load(sources[0], one_hot=True, impute="median")
    for source in sources:
        again = datasets.load(source, like=json_copy(trained.metadata()))
        assert again.trained_on
        np.testing.assert_array_equal(again.x_test, trained.x_test)
        alone = datasets.load(source, one_hot=True, impute="median")
        assert alone.split == trained.split
    renamed = datasets.load(frame.replace("Oslo", "Osaka"), one_hot=True, impute="median")
    assert renamed.split.content != trained.split.content
    frame.loc[0, "town"] = "Bonn" if frame.town[0] == "Oslo" else "Oslo"
    assert not datasets.load(frame, like=json_copy(trained.metadata())).trained_on


def test_models_of_earlier_versions_know_their_content(write):
    """They hashed the text of targets."""
    path = write("a,b,y\n" + "".join(f"{i},{i * i},{i % 2}\n" for i in range(20)))
    digest = hashlib.sha256(repr(((20, 2), (20,))).encode())
    digest.update(np.array([[i, i * i] for i in range(20)], dtype="<f8").data)
    digest.update("\0".join(str(i % 2) for i in range(20)).encode())
    metadata = datasets.load(path).metadata()
    del metadata["encoding"]
    metadata["split"]["content"] = digest.hexdigest()
    assert datasets.load(path, like=metadata).trained_on


ENCODING = {"categories": [["x", "y"], None], "fill": ["x", 1.5]}


@pytest.mark.parametrize(
    "change",
    [
        {"categories": None}, {"categories": [["x", "y"]]}, {"fill": ["z", 1.5]}, {"fill": [0, 1]},
        {"fill": ["x", "1"]}, {"fill": ["x", True]}, {"fill": [["x"], 1.5]}, {"fill": {}},
        {"categories": [["x", "x"], None]}, {"categories": [["x", ""], None]},
        {"categories": [[], None]}, {"categories": ["xy", None]}, {"categories": [["x", 1], None]},
        {"categories": [["x", "y"], [None]]}, {"more": 1}, {"fill": ["x", float("nan")]},
        {"categories": [["x", "y", "z"], None]}, {"categories": [None, ["x", "y"]]},
    ],
    ids=str,
)  # fmt: skip
def test_the_encoding_of_a_model_file_is_checked(change):
    good = {
        "encoding": ENCODING, "features": ["a", "b"],
        "preprocessing": {"kind": "standardize", "shift": [0, 0, 1], "scale": [1, 1, 2]},
    }  # fmt: skip
    datasets.described(good, (3, 2))
    with pytest.raises(ModelError) as error:
        datasets.described(good | {"encoding": ENCODING | change}, (3, 2))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"features": ["a"]}, {"features": ["a", "b", "c"]},
        {"preprocessing": {"kind": "standardize", "shift": [0, 0], "scale": [1, 1]}},
        {
            "preprocessing": {"kind": "none", "shift": 0, "scale": 1}, "features": None,
            "encoding": {"categories": [None], "fill": [1]},
        },
    ],
    ids=str,
)  # fmt: skip
def test_an_encoding_that_does_not_fit_the_network_is_refused(change):
    good = {
        "encoding": ENCODING, "features": ["a", "b"],
        "preprocessing": {"kind": "standardize", "shift": [0, 0, 1], "scale": [1, 1, 2]},
    }  # fmt: skip
    with pytest.raises(ModelError):
        datasets.described(good | change, (3, 2))


def test_a_table_goes_through_the_command_line(tmp_path):
    frame = towns(200).assign(id=range(200))
    frame.loc[5, "size"] = np.nan
    frame.to_csv(tmp_path / "data.csv", index=False, sep=";", decimal=",")
    options = [
        "train", "data.csv", "--target", "rent", "--one-hot", "--one-hot-columns", "month",
        "--drop", "id", "--impute", "median", "--epochs", 3, "--report", "report.json",
    ]  # fmt: skip
    text = succeed(tmp_path, *options)
    assert "\ndelimiter semicolon, decimal comma\n" in text
    assert "\n7 features from 3 columns; categories: town 3, month 3\n" in text
    assert "\nmissing values filled in: size 1\n" in text
    report = json.loads((tmp_path / "report.json").read_text())["options"]
    assert report["delimiter"] == ";"
    assert report["columns"] == ["town", "size", "month"]
    assert report["categories"] == {"town": 3, "month": 3}
    assert report["filled"] == {"size": 1}
    text = succeed(tmp_path, *options, "--verbose")
    assert "data.csv: a semicolon divides fields, and numbers have decimal commas" in text
    assert "\ndata.csv: filled in 1 of 200 values of 'size' with " in text
    text = succeed(tmp_path, "evaluate", "model.safetensors", "data.csv")
    assert "40 samples, none of which was trained on" in text
    _, rows = table(succeed(tmp_path, "predict", "model.safetensors", "data.csv"))
    frame.drop(columns="rent").to_parquet(tmp_path / "new.parquet")
    assert table(succeed(tmp_path, "predict", "model.safetensors", "new.parquet"))[1] == rows
    frame.loc[7, "town"] = "Kyiv"
    frame.to_csv(tmp_path / "new.csv", index=False, sep="|")
    line = fail(tmp_path, "predict", "model.safetensors", "new.csv")
    assert "new.csv:9: 'town' is 'Kyiv', none of the categories that the model knows" in line
    assert "did you mean 'median'" in fail(tmp_path, "train", "data.csv", "--impute", "mdian")
    assert "data.csv:" in fail(
        tmp_path, "train", "data.csv", "--delimiter", ",", "--target", "rent"
    )


# --- DataFrames and parquet

FRAMES = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}


def columns(n=40):
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=n).tolist(), "b": list(range(n)), "c": ["p", "q", "r", "s"] * (n // 4),
        "d": [True, False] * (n // 2), "y": ["u", "v"] * (n // 2),
    }  # fmt: skip


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("parquet", [False, True])
def test_a_frame_is_read_as_the_csv_of_its_values(tmp_path, library, parquet):
    values = columns()
    values["a"][3], values["c"][5], values["b"][7], values["d"][9] = None, None, None, None
    frame = FRAMES[library](values)
    expected = pd.DataFrame(values).astype({"d": "Float64"}).to_csv(index=False)
    (tmp_path / "expected.csv").write_text(expected)
    expected = datasets.load(tmp_path / "expected.csv", one_hot=True, impute="mean")
    source = frame
    if parquet:
        source = tmp_path / "data.parquet"
        pq.write_table(
            pa.table(frame) if library != "pandas" else pa.Table.from_pandas(frame), source
        )
    data = datasets.load(source, one_hot=True, impute="mean")
    np.testing.assert_array_equal(data.x, expected.x)
    np.testing.assert_array_equal(data.y_test, expected.y_test)
    assert data.classes == expected.classes
    assert data.encoding == expected.encoding
    assert data.filled == expected.filled == {"a": 1, "b": 1, "c": 1, "d": 1}
    place = "data.parquet" if parquet else "DataFrame"
    assert refused(source, drop=["c"]).startswith(f"{place}, row 3 (from 0): 'a' is 'nan', missing")
    assert refused(source).startswith(f"{place}, row 0 (from 0): 'c' is 'p', text: one-hot encode")
    line = refused(source, target="a", drop=["c"], impute="mean", one_hot=True)
    assert line.startswith(
        f"{place}, row 3 (from 0): 'a' is 'nan', not a finite number: fill it in"
    )


@pytest.mark.promise("bad data")
@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (datetime.date(2020, 1, 2), "[Dd]ate"),
        (datetime.datetime(2020, 1, 2), "[Dd]atetime|timestamp"),
        (datetime.timedelta(1), "timedelta|[Dd]uration"),
        (b"x", "bytes"),
        ([1, 2], "list|ndarray"),
        ({"q": 1}, "dict|Struct"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_number_and_no_text_is_named_with_its_type(library, value, kind):
    frame = FRAMES[library]({**columns(), "b": [value] * 40})
    line = refused(frame, one_hot=True)
    assert re.match(
        rf"DataFrame: 'b' has values of type .*({kind}).*, not numbers or text: make", line
    )


def test_categories_of_pandas_and_polars_are_text_also_if_they_are_numbers():
    frame = pd.DataFrame(columns()).assign(b=pd.Categorical(np.arange(40) % 3))
    assert datasets.load(frame, one_hot=True).encoding.categories[1] == ("0", "1", "2")
    frame = pl.DataFrame(columns()).with_columns(pl.col("c").cast(pl.Categorical))
    assert datasets.load(frame, one_hot=True).encoding.categories[2] == ("p", "q", "r", "s")


def test_nullable_and_decimal_columns_are_numbers():
    values = pd.array([None, *range(39)], dtype="Int64")
    frame = pd.DataFrame(columns()).assign(b=values, a=[decimal.Decimal("1.5")] * 40)
    data = datasets.load(frame, one_hot=True, impute=-1, preprocess="none")
    assert data.filled == {"b": 1}
    assert (data.x[:, 0] == 1.5).all()


def test_the_index_of_pandas_is_in_the_place():
    frame = pd.DataFrame({"a": [1.0, np.inf], "y": [1, 2]}, index=["r0", "r1"])
    assert refused(frame).startswith("DataFrame, row 1 (from 0), index 'r1': 'a' is 'inf', not a")


@pytest.mark.promise("bad data")
def test_frames_that_are_none_are_refused():
    assert refused(pd.DataFrame({"a": [], "y": []})) == "DataFrame: has no rows"
    assert refused(pd.DataFrame()) == "DataFrame: has no columns"
    twice = pd.concat([pd.DataFrame({"a": [1], "y": [1]})] * 2, axis=1)
    assert refused(twice) == "DataFrame: two columns are called 'a': rename one"
    for wrong in (pl.LazyFrame({"a": [1]}), pd.Series([1]), pd.DataFrame):
        assert "must be a string, a path or a DataFrame" in refused(wrong)
    assert "delimiter ';' is for tables, and a DataFrame is none" in refused(twice, delimiter=";")


def test_columns_of_pandas_may_be_called_by_numbers():
    data = datasets.load(pd.DataFrame(np.random.default_rng(0).normal(size=(20, 3))))
    assert (data.features, data.target) == (("0", "1"), "2")


@pytest.mark.promise("bad data")
def test_what_is_no_parquet_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "data.parquet"
    assert refused(path) == "data.parquet: No such file or directory"
    for content in (b"", b"PAR1", b"a,y\n1,2\n" * 10):
        path.write_bytes(content)
        assert refused(path).startswith("data.parquet: is no parquet file, or damaged: ")
    pd.DataFrame(columns()).to_parquet(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        assert refused(path).startswith("data.parquet: is no parquet file, or damaged: ")
    path.write_bytes(whole)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert refused(path) == 'data.parquet: parquet needs pyarrow: pip install "nnxp[tables]"'


@pytest.fixture
def parquet(tmp_path):
    """A small parquet file with numbers, text and missing values."""
    path = tmp_path / "data.parquet"
    table = {"a": [1.5, 2.5, None, 4.5], "b": ["u", "v", "u", "v"], "y": ["p", "q", "p", "q"]}
    pq.write_table(pa.table(table), path)
    return path


LOAD = {"impute": "mean", "one_hot": True}


@pytest.mark.promise("bad data")
def test_parquet_cut_at_any_byte_is_refused(parquet, cases):
    whole = parquet.read_bytes()
    assert datasets.load(parquet, **LOAD).classes == ("p", "q")
    for end in range(len(whole)):
        parquet.write_bytes(whole[:end])
        with cases(end):
            assert refused(parquet, **LOAD)


@pytest.mark.slow
@pytest.mark.promise("bad data")
def test_parquet_with_any_bit_flipped_is_refused_or_read(parquet, cases):
    """The format has no checksum unless its writer asks for it: another value may be read."""
    whole = parquet.read_bytes()
    for bit in cases.drawn(range(8 * len(whole)), 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        parquet.write_bytes(damaged)
        with cases(bit):
            try:
                data = datasets.load(parquet, **LOAD)
            except (DataError, InputError) as error:
                assert str(error).isprintable()  # noqa: PT017
            else:
                assert np.isfinite(data.x).all()


@pytest.mark.promise("memory")
def test_a_parquet_bomb_is_refused(tmp_path):
    rows = 20_000_000
    column = pa.array(np.zeros(rows, dtype=np.int8))
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"a": column, "y": column}), path)
    assert path.stat().st_size < 200_000
    assert refused(path).startswith(
        "data.parquet: would unpack into 320,000,000 bytes, over 200 times its size"
    )


@pytest.mark.promise("memory")
def test_the_values_of_a_list_count_not_its_rows(tmp_path):
    values = pa.array(np.zeros(9_000_000, dtype=np.int8))
    lists = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
    pq.write_table(pa.table({"a": lists, "y": [1]}), tmp_path / "data.parquet")
    assert refused(tmp_path / "data.parquet").startswith(
        "data.parquet: would unpack into 72,000,00"
    )


@pytest.mark.promise("memory")
def test_a_long_text_in_many_rows_is_refused_and_a_short_one_is_not(tmp_path):
    """It is stored once, so the size of the file says nothing."""
    path = tmp_path / "data.parquet"
    for length in (10, 10**6):
        text = pa.DictionaryArray.from_arrays(
            np.arange(400, dtype=np.int32) % 2, ["x" * length, "y"]
        )
        lists = pa.ListArray.from_arrays(np.arange(401, dtype=np.int32), text)
        for column in (text, lists, pa.StructArray.from_arrays([text], ["x"])):
            pq.write_table(pa.table({"a": column, "y": np.arange(400)}), path)
            assert path.stat().st_size < 300_000
            if length == 10:
                assert tables.open_file(path).header == ("a", "y")
            else:
                assert refused(path).startswith("data.parquet: would unpack into 200,000,200 bytes")


@pytest.mark.promise("memory")
def test_a_table_of_more_columns_than_anyone_has_is_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(",".join(map(str, range(100_002))) + "\n")
    assert refused(path) == "data.csv:1: 100,002 columns, more than 100,000: no table"


@pytest.mark.parametrize("library", FRAMES)
def test_frames_of_numbers_are_trained_on_and_predicted_for(library):
    values = {"a": columns()["a"], "b": columns()["b"], "d": columns()["d"]}
    x = np.column_stack([*values.values()]).astype(float)
    t = np.arange(40) % 2
    outputs = []
    for given_x, given_t in ((x, t), (FRAMES[library](values), pd.Series(t))):
        network = nnxp.MLP((3, 4, 2), backend="numpy", seed=0)
        nnxp.train(network, given_x, given_t, epochs=2, batch_size=8)
        outputs.append(network.predict(given_x))
    np.testing.assert_array_equal(*outputs)
    for wrong in (columns()["c"], [None, *range(39)]):
        frame = FRAMES[library](values | {"b": wrong})
        with pytest.raises(
            InputError, match=r"x (has a column 'b' that is not of numbers|holds nan)"
        ):
            network.predict(frame)
    # NumPy would parse texts.
    with pytest.raises(InputError, match="column 'b' that is not of numbers"):
        network.predict(FRAMES[library](values | {"b": ["1"] * 40}))
