import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recs_core.contract.errors import DataError
from recs_core.contract.vocabulary import Vocabulary

INT64 = st.integers(-(2**63), 2**63 - 1)
# Any text that UTF-8 can hold: surrogates cannot.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.one_of(st.lists(INT64, min_size=1, unique=True), st.lists(TEXT, min_size=1, unique=True)), st.randoms())
def test_decode_undoes_encode(ids, random):
    vocabulary = Vocabulary(ids)
    asked = random.choices(ids, k=2 * len(ids))
    codes = vocabulary.encode(asked)
    assert codes.dtype == np.int32
    assert codes.tolist() == [ids.index(value) for value in asked]
    assert vocabulary.decode(codes).to_pylist() == asked


@given(st.lists(INT64, unique=True, min_size=1), st.lists(INT64))
def test_unknown_ids_are_minus_one_whether_few_or_many_are_asked(ids, asked):
    expected = [ids.index(value) if value in ids else -1 for value in asked]
    assert Vocabulary(ids).encode(asked).tolist() == expected


@given(st.one_of(st.lists(TEXT), st.lists(INT64)))
def test_from_values_keeps_the_order_of_first_appearance(values):
    distinct = list(dict.fromkeys(values))
    vocabulary, codes = Vocabulary.with_codes(values)
    assert vocabulary.ids.to_pylist() == distinct
    assert codes.tolist() == [distinct.index(value) for value in values]
    assert Vocabulary.from_values(values) == vocabulary


def test_few_of_many_with_repeats():
    vocabulary = Vocabulary(["a", "b", "c", "d", "e", "f"])
    assert vocabulary.encode(["f", "x", "f", "a"]).tolist() == [5, -1, 5, 0]


def test_large_integers_are_exact():
    ids = [2**53 + 1, 2**53, 2**63 - 1]
    assert Vocabulary(ids).encode([2**53]).tolist() == [1]
    assert Vocabulary(ids).decode([0, 2]).to_pylist() == [2**53 + 1, 2**63 - 1]


@pytest.mark.parametrize(
    "values",
    [
        pa.chunked_array([["b"], ["a"]]),
        pa.array(["b", "a"]).dictionary_encode(),
        pa.array(["b", "a"], pa.large_string()),
        pa.array(["b", "a"], pa.string_view()),
        pl.Series(["b", "a"]),
        np.array(["b", "a"]),
        ("b", "a"),
    ],
)
def test_any_sequence_of_strings(values):
    assert Vocabulary(["a", "b"]).encode(values).tolist() == [1, 0]


def test_pandas_series():
    pandas = pytest.importorskip("pandas")
    assert Vocabulary(["a", "b"]).encode(pandas.Series(["b", "a"], index=[7, 9])).tolist() == [1, 0]
    assert Vocabulary([3, 4]).encode(pandas.Series([4, 5], dtype="int32")).tolist() == [1, -1]


def test_minus_one_decodes_to_null():
    assert Vocabulary([7, 8]).decode([1, -1]).to_pylist() == [8, None]


def test_no_values_have_no_codes():
    assert Vocabulary([7, 8]).encode([]).tolist() == []
    assert len(Vocabulary([])) == 0
    assert Vocabulary([]).encode(["a"]).tolist() == [-1]


def test_equal_by_ids():
    assert Vocabulary(["a", "b"], "x") == Vocabulary(["a", "b"], "y")
    assert Vocabulary(["a", "b"]) != Vocabulary(["b", "a"])
    assert Vocabulary(["1"]) != Vocabulary([1])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Vocabulary(["a", "b", "a", "b", "c"], "item_id"), ["item_id", "unique", "'a', 'b'"]),
        (lambda: Vocabulary([1, None]), ["null", "row 1"]),
        (lambda: Vocabulary([1.5]), ["double", "strings or integers"]),
        (lambda: Vocabulary([True]), ["bool"]),
        (lambda: Vocabulary([1, "a"]), ["one type"]),
        (lambda: Vocabulary([2**63]), ["int64"]),
        (lambda: Vocabulary(np.array([2**63], np.uint64)), ["int64", "use strings"]),
        (lambda: Vocabulary(["a"], "item_id").encode([1]), ["item_id", "strings", "'a'", "integers", "such as 1"]),
        (lambda: Vocabulary([1], "item_id").encode(["1"]), ["integers", "strings"]),
        (lambda: Vocabulary(["a"]).encode(["a", None]), ["null", "row 1"]),
        (lambda: Vocabulary(["a"]).encode("a"), ["list", "'a'"]),
        (lambda: Vocabulary(["a"]).decode([1]), ["codes 0 to 0", "1"]),
        (lambda: Vocabulary(["a"]).decode([-2]), ["-2"]),
    ],
)
def test_refusals_are_one_line_that_names_the_fault(make, words):
    with pytest.raises(DataError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
