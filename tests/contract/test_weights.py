"""Initial weights: a table's rows are drawn block by block, each without those before it."""

from __future__ import annotations

import numpy as np
import pytest

from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.plans import TowerPlan
from recs_core.contract.randomness import generator
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import BLOCK, TABLE_SCALE, initial, table_rows

ROWS, WIDTH = 2 * BLOCK + 77, 3


def new_table(rows: int) -> np.ndarray:
    tower = TowerPlan.of("query", TowerSpec([Categorical("user", dim=WIDTH)]))
    return initial(tower, None, RetrievalSpec(), {"table/user": rows}, 1, seed=5)["table/user"]


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (1, BLOCK), (BLOCK - 1, BLOCK + 1), (BLOCK, 2 * BLOCK), (BLOCK + 9, ROWS), (9, 9)]
)
def test_a_part_of_a_table_is_what_the_whole_has_there(start: int, stop: int) -> None:
    whole = new_table(ROWS)
    part = table_rows("table/user", start, stop, WIDTH, seed=5)
    oov = max(0, 1 - start)
    np.testing.assert_array_equal(part[oov:], whole[start:stop][oov:])
    assert not whole[0].any() and part.dtype == whole.dtype == np.float32


def test_a_block_is_one_stream_and_a_longer_table_begins_as_a_shorter_one() -> None:
    stream = generator(5, "initial/table/user").standard_normal((BLOCK, WIDTH), np.float32) * np.float32(TABLE_SCALE)
    np.testing.assert_array_equal(new_table(100)[1:], stream[1:100])
    np.testing.assert_array_equal(new_table(ROWS)[1:BLOCK], stream[1:])


def test_rows_of_different_blocks_are_other_draws() -> None:
    rows = table_rows("table/user", 0, ROWS, WIDTH, seed=5)
    assert len(np.unique(rows[:, 0])) > 0.99 * ROWS
    assert abs(rows.std() / TABLE_SCALE - 1) < 0.01
    assert abs(np.corrcoef(rows[:BLOCK, 0], rows[BLOCK : 2 * BLOCK, 0])[0, 1]) < 5 / BLOCK**0.5
