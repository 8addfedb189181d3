"""How many rows of its query come before a row: counted one by one, and by the search that batches use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.data.rows import strictly_earlier


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=1, max_size=5))
@pytest.mark.parametrize("timed", [True, False])
def test_rows_before_and_not_at_the_same_moment(timed: bool, moments: list[list[int]]) -> None:
    starts, times, counted = [], [], []
    for own in map(sorted, moments):
        for place, time in enumerate(own):
            starts.append(len(times) - place)
            times.append(float(time))
            counted.append(sum(other < time for other in own) if timed else place)
    rows = np.arange(len(times))[::-1]
    found = strictly_earlier(rows, np.array(starts)[rows], np.array(times) if timed else None)
    assert found.tolist() == counted[::-1]
