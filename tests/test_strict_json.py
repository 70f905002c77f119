"""JSON that others wrote: what is read is what the standard library reads; the rest is refused."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnxp import strict_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)  # fmt: skip


@pytest.mark.promise("damage")
@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_what_json_writes_comes_back(value):
    assert strict_json.loads(json.dumps(value)) == value
    assert strict_json.loads(json.dumps(value, ensure_ascii=True).encode()) == value


REFUSED = {
    "nothing": "",
    "no JSON": "{",
    "two values": "1 2",
    "NaN": '{"a": NaN}',
    "infinity": "[Infinity]",
    "negative infinity": "[-Infinity]",
    "too large for a float": "[1e999]",
    "too many digits": "1" * 5000,
    "a key twice": '{"b": 2, "a": 1, "c": 3, "a": 1}',
    "a key twice, one escaped": '{"a": 1, "\\u0061": 1}',
    "a key twice inside": '[{"b": {"a": 1, "a": 1}}]',
    "not UTF-8": b'"\xff"',
    "one level too deep": "[" * 101 + "]" * 101,
    "a thousand deep": "[" * 1000 + "]" * 1000,
    "objects too deep": '{"a":' * 101 + "1" + "}" * 101,
    "deeper than Python": "[" * 10**6,
    "closed, deeper than Python": "[" * 10**6 + "]" * 10**6,
    "more lists than are read": "[" + "[],[]," * 2**20 + "[]]",
    "more keys than are read": "{" + '"a":1,' * 2**21 + '"b":1}',
}


@pytest.mark.promise("damage")
def test_what_is_no_json_or_too_much_is_a_value_error(cases):
    for name, text in REFUSED.items():
        with cases(name):
            with pytest.raises(ValueError, match=r".") as error:
                strict_json.loads(text)
            assert len(str(error.value)) < 200


def test_numbers_that_are_not_finite_may_be_let_in():
    one, two, three = strict_json.loads("[NaN, -Infinity, 1e999]", finite=False)
    assert one != one
    assert (two, three) == (-float("inf"), float("inf"))
    with pytest.raises(ValueError, match="twice"):
        strict_json.loads(REFUSED["a key twice"], finite=False)


def test_the_key_is_named():
    with pytest.raises(ValueError, match="has 'a' twice"):
        strict_json.loads(REFUSED["a key twice"])


@pytest.mark.promise("memory")
def test_values_up_to_the_limits_are_read():
    assert strict_json.loads("[" * 100 + "]" * 100)
    numbers = "[" + "0," * (2**21 - 1) + "0]"
    objects = "[" + "{}," * (2**21 // 7) + "0]"  # seven each, with the comma: 2**21 with the [
    assert len(strict_json.loads(numbers)) == 2**21
    assert len(strict_json.loads(objects)) == 2**21 // 7 + 1
    for text in (numbers, objects):
        with pytest.raises(ValueError, match="more than 2,097,152 values"):
            strict_json.loads(text.replace("0]", "0,0]"))
    assert strict_json.loads('"' + "x" * 10**7 + '"')


def test_the_depth_is_below_what_functions_can_follow():
    assert sys.getrecursionlimit() / 5 > strict_json.DEEPEST
