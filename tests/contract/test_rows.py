"""`Rows` stand where an array does: whatever is asked of both, they answer alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recs_core.contract.errors import DataError
from recs_core.contract.rows import Rows, held, is_finite


@given(number=st.integers(0, 40), size=st.integers(1, 7), width=st.sampled_from([(), (3,)]), data=st.data())
def test_rows_answer_as_the_array_does(number, size, width, data):
    whole = np.random.default_rng(number).normal(size=(number, *width)).astype(np.float32)
    rows = Rows([whole[rank::size] for rank in range(size)])
    assert rows.shape == whole.shape and rows.dtype == whole.dtype and len(rows) == number
    np.testing.assert_array_equal(np.asarray(rows), whole)
    for step in range(1, 9):
        for first in range(step):
            np.testing.assert_array_equal(rows[first::step], whole[first::step])
    codes = np.array(data.draw(st.lists(st.integers(0, number - 1), max_size=9)) if number else [], np.int32)
    np.testing.assert_array_equal(rows[codes], whole[codes])
    np.testing.assert_array_equal(rows[codes[:, None]], whole[codes[:, None]])
    assert [len(part) for part in rows.here()] == [held(number, rank, size) for rank in range(size)]


def test_a_part_that_is_elsewhere_is_not_read_as_anything():
    rows = Rows([None, np.array([1.0, 4.0]), None], number=7)
    assert rows.shape == (7,)
    np.testing.assert_array_equal(rows[1::3], [1.0, 4.0])
    np.testing.assert_array_equal(rows[[4, 1]], [4.0, 1.0])
    for asked in (lambda: np.asarray(rows), lambda: rows[[1, 2]], lambda: rows[0::3], lambda: rows[:]):
        with pytest.raises(DataError, match="is on another worker"):
            asked()


@pytest.mark.parametrize("parts", [
    [np.zeros((2, 3)), np.zeros((3, 3))],
    [np.zeros((2, 3)), np.zeros((2, 4))],
    [np.zeros((2, 3)), np.zeros((2, 3), np.float32)],
])  # fmt: skip
def test_parts_that_do_not_fit_one_another_are_refused(parts):
    with pytest.raises(DataError, match="part [01] of 2 is float"):
        Rows(parts)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_found_in_any_part(bad):
    for place in range(5):
        whole = np.zeros(5)
        assert is_finite(whole) and is_finite(Rows([whole[::2], whole[1::2]]))
        whole[place] = bad
        assert not is_finite(whole) and not is_finite(Rows([whole[::2], whole[1::2]]))
