"""Conditions as text: what they keep, against three-valued logic in Python; and bad text, typed by hand."""

from __future__ import annotations

import re
from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract.errors import DataError
from recs_core.where import Filters, parse
from recs_core.where.grammar import LONGEST
from tests.where.test_values import PYTHON

TABLE = pa.table(
    {
        "price": [5.0, None, 10.0, -2.5, 1000.0],
        "stock": [1, 2, None, 4, 0],
        "country": ["UK", 'the "north"', None, "it's", "and"],
        "sold out": [True, False, None, True, False],
        "since": [date(2024, 1, 1), None, date(2024, 6, 1), date(2023, 1, 1), date(2025, 1, 1)],
        "or2": ["x", "x", "y", None, "y"],
    }
)
ROWS = TABLE.to_pylist()


def kept(text: str) -> list[int]:
    return Filters(TABLE).kept(parse(text, TABLE.schema)).tolist()


# A condition as (text, row → True, False or None)


def quoted(value):
    if isinstance(value, bool):
        return st.sampled_from(["true", "TRUE"] if value else ["false", "False"])
    if isinstance(value, str):
        return st.sampled_from(["'" + value.replace("'", "''") + "'", '"' + value.replace('"', '""') + '"'])
    return st.just(f"'{value.isoformat()}'" if isinstance(value, date) else repr(value))


COLUMN = st.sampled_from(TABLE.column_names)


@st.composite
def one_test(draw):
    column = draw(COLUMN)
    name = column if column.isidentifier() and draw(st.booleans()) else f"`{column}`"
    known = [row[column] for row in ROWS if row[column] is not None]
    more = {"price": [7, 1e3, -2.5], "stock": [1.5, 99], "country": ["FR", ""]}.get(column, [])
    kind = draw(st.sampled_from(["sign", "in", "null"]))
    if kind == "null":
        negated = draw(st.booleans())
        return f"{name} is {'not ' if negated else ''}null", lambda row: (row[column] is None) != negated
    if kind == "in":
        values = draw(st.lists(st.sampled_from(known + more), min_size=1, max_size=3))
        negated, listed = draw(st.booleans()), ", ".join([draw(quoted(value)) for value in values])
        return (
            f"{name} {'NOT ' if negated else ''}in ({listed})",
            lambda row: None if row[column] is None else (row[column] in values) != negated,
        )
    sign, value = draw(st.sampled_from(sorted(PYTHON))), draw(st.sampled_from(known + more))
    space = draw(st.sampled_from(["", " "]))
    return (
        f"{name}{space}{sign}{space}{draw(quoted(value))}",
        lambda row: None if row[column] is None else PYTHON[sign](row[column], value),
    )


def negated(one):
    text, holds = one
    return f"not ({text})", lambda row: None if holds(row) is None else not holds(row)


def joined(pair, word):
    (left, l_holds), (right, r_holds) = pair
    decides = word == "or"

    def holds(row):
        found = {l_holds(row), r_holds(row)}
        return decides if decides in found else None if None in found else not decides

    return f"({left}) {word} ({right})", holds


CONDITIONS = st.recursive(
    one_test(),
    lambda inner: (
        inner.map(negated)
        | st.tuples(inner, inner).map(lambda pair: joined(pair, "and"))
        | st.tuples(inner, inner).map(lambda pair: joined(pair, "or"))
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=200)
@given(CONDITIONS)
def test_conditions_keep_the_rows_of_which_they_are_true(condition):
    text, holds = condition
    assert kept(text) == [i for i, row in enumerate(ROWS) if holds(row) is True], text


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ('price < 10 and country = "UK"', [0]),
        ("country = 'UK' or country = 'and' and price > 2000", [0]),  # and binds first
        ("not country = 'UK' and price < 0", [3]),  # not binds first of all
        ("not not price < 0", [3]),
        ("price>=1e1", [2, 4]),
        ("price > -3 and price < +0", [3]),
        ("since >= '2024-01-01' and since < '2025-01-01'", [0, 2]),
        ("`sold out` = true", [0, 3]),
        ("country in ('it''s', \"UK\")", [0, 3]),
        ("country not in ('UK')", [1, 3, 4]),  # not the null
        (" price\n is\tNOT null ", [0, 2, 3, 4]),
        ("or2 = 'x' or or2 is null", [0, 1, 3]),
        ("stock < 1.5", [0, 4]),
    ],
)
def test_by_hand(text, due):
    assert kept(text) == due


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "where, character 1: expected a column; ▸ marks the place: ▸"),
        ("price <", "character 8: expected a value; ▸ marks the place: price <▸"),
        (
            "price < 10 and and country = 'UK'",
            "character 16: expected a column; ▸ marks the place: price < 10 and ▸and",
        ),
        ("country = UK", "character 11: expected a value, write 'UK' if it is a string"),
        ("country = 'UK", "character 11: a ' that nothing closes"),
        ("`sold out = true", "character 1: a ` that nothing closes"),
        ("price < 10 andd stock = 1", "character 12: expected and, or, or the end"),
        ("10 < price", "character 1: expected a column, the column stands first"),
        ("price == 10", "character 7: expected =, !=, <, <=, >, >=, in, not in, is null or is not null"),
        ("price <> 10", "character 7: expected ="),
        ("price", "character 6: expected ="),
        ("price not = 3", "character 11: expected in"),
        ("price & 3", "character 7: '&' means nothing here, write and"),
        ("price; drop", "character 6: ';' means nothing here"),
        ("__import__('os')", "character 1: there is no column '__import__' to filter by; there is price (double), "),
        ("(price < 1", "character 11: expected )"),
        ("price < 1)", "character 10: expected and, or, or the end"),
        ("price in ()", "character 11: expected a value"),
        ("price in (1 2)", "character 13: expected )"),
        ("price in 1", "character 10: expected ("),
        ("price = null", "character 9: nothing equals null, write is null"),
        ("price is 3", "character 10: expected null"),
        ("price < 'x'", "character 9: column 'price' holds double, and 'x' is no number"),
        ("country in ('UK', 3)", "character 13: column 'country' holds string, and 3 is no string"),
        ("since > 'soon'", "character 9: column 'since' holds date32[day], and 'soon' is no time"),
        ("price < 10abc", "character 9: '1' means nothing here"),
        ("price < 1" + "0" * 400, "character 9: column 'price' holds double, and 1000"),
        (
            "(" * 60 + "price < 1" + ")" * 60,
            "character 51: more than 50 conditions within one another",
        ),
        ("not " * 60 + "price < 1", "more than 50 conditions within one another"),
        ("price = 1 or " * 1000, "is 13,000 characters long, the most that is read is 10,000"),
    ],
)
def test_text_that_is_no_condition(text, said):
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        parse(text, TABLE.schema)
    assert "\n" not in str(caught.value)


PIECES = ["price", "stock", "country", "and", "or", "not", "in", "is", "null", "true", *"'\"`(),<>=!1.-eü\n "]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.characters(), max_size=30).map("".join))
def test_any_text_is_a_condition_or_an_error_of_ours(text):
    try:
        parse(text, TABLE.schema)
    except DataError as error:
        assert "\n" not in str(error)


@settings(deadline=None)
@given(CONDITIONS, st.data())
def test_a_condition_cut_anywhere_is_one_or_an_error_of_ours(condition, data):
    text = condition[0][: data.draw(st.integers(0, len(condition[0])))]
    try:
        parse(text, TABLE.schema)
    except DataError as error:
        assert "character" in str(error)


def test_a_long_row_of_conditions_is_read():
    text = " or ".join(f"stock={n}" for n in range(750))
    assert len(text) <= LONGEST and kept(text) == [0, 1, 3, 4]
