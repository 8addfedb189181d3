"""A column of strings where numbers or lists were meant: the error names the reason and what to type."""

from __future__ import annotations

import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.columns import as_lists, as_numbers
from recs_core.contract.errors import DataError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["2.5", "1,299.00", None], "such as '1,299.00': its thousands separators make a number text"),
        (["1,299", "12,000,000"], "pandas.read_csv(…, thousands=',')"),
        (["-1,299.5", "2"], "thousands=','"),
        (["1'299"], 'thousands="\'"'),
        (["1 299", "3"], "thousands=' '"),
        (["1\xa0299"], "thousands='\\xa0'"),
        (["1.299,00", "2.5"], "such as '1.299,00': its thousands separators make a number text"),
        (["1.299.000"], "thousands='.', decimal=','"),
        (["12,99"], "decimal=','"),
        (["1,299", "$5"], "the first that is no number is '1,299'"),
        (["3", "cheap"], "the first that is no number is 'cheap'"),
        (["3", "1e5", " 7 ", ".5"], "got strings: convert them"),
    ],
)
def test_why_numbers_are_text(values: list[str | None], said: str) -> None:
    with pytest.raises(DataError) as caught:
        as_numbers(pa.array(values), "Numeric('price')")
    message = str(caught.value)
    assert message.startswith("Numeric('price') needs numbers, got strings") and said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a|b", "c"], "such as 'a|b'; of a CSV file from_table(lists={COLUMN: '|'})"),
        (["a|b", "c"], "--list 'COLUMN=|'"),
        (["a, b", None], "--list 'COLUMN=,'"),
        (["a", "b", "c|d"], "got strings"),
    ],
)
def test_why_lists_are_text(values: list[str | None], said: str) -> None:
    with pytest.raises(DataError) as caught:
        as_lists(pa.array(values), "Bag('tags')")
    message = str(caught.value)
    assert message.startswith("Bag('tags') needs a list column of strings or integers, got strings")
    assert message.endswith(said) if said == "got strings" else said in message
    assert "\n" not in message


def test_a_price_with_separators_is_left_out_of_a_recipe_with_the_reason() -> None:
    items = {"item": [f"i{n}" for n in range(9)], "price": ["1,299.00", "2.50", "3.00"] * 3}
    data = recs.Interactions.from_table(
        {"user": ["a", "b"], "item": ["i1", "i2"]}, query="user", candidate="item", candidates=items
    )
    chosen = recs.recipes.choose("features", data)
    assert [feature.name for feature in chosen.candidate.features] == ["item"]
    assert any("price: left out, strings, such as '1,299.00': its thousands" in reason for reason in chosen.reasons)
