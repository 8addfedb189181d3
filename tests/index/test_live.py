"""An index without its retired candidates: built without them, or restored with them."""

from __future__ import annotations

import numpy as np
import pytest

from recs_core.contract.batch import Ragged
from recs_core.index.exact import ExactIndex
from recs_core.index.live import LiveIndex
from recs_core.plugin.manager import load_index

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(60, 8)).astype(np.float32)
QUERIES = RANDOM.normal(size=(5, 8)).astype(np.float32)
RETIRED = np.arange(0, 60, 3)
EXCLUDE = Ragged.of([[1, 2, 3], [], [4], [59], [0, 1]])


@pytest.mark.parametrize("name", ["exact", "int8"])
@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize("allow", [None, np.arange(20), np.array([0, 3, 6])])
def test_none_that_is_retired_comes_back(name: str, restored: bool, allow: np.ndarray | None) -> None:
    index = load_index(name)
    if restored:
        index.build(VECTORS)
        searched = LiveIndex(VECTORS, index, RETIRED, built=True)
    else:
        searched = LiveIndex(VECTORS, index, RETIRED)
    exact = ExactIndex()
    exact.build(VECTORS)
    left = np.setdiff1d(np.arange(60) if allow is None else allow, RETIRED)
    found = searched.search(QUERIES, 50, exclude=EXCLUDE, allow=allow)
    due = exact.search(QUERIES, 50, exclude=EXCLUDE, allow=left)
    assert found.ids.tolist() == due.ids.tolist()
    np.testing.assert_array_equal(found.scores, due.scores)
