"""Numbers that no tower of float32 can hold are refused where they come in, by row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from recs_core.contract.errors import BadRows
from recs_core.contract.feature_kinds import Clock, Numeric
from recs_core.contract.features import Feature, Known

LARGEST = float(np.finfo(np.float32).max)
BEYOND = r"1 of 2 rows hold a number beyond ±3.4e\+38, as large as float32 has, the first is row 1; mend or drop them"


@pytest.mark.parametrize("feature", [Numeric("x"), Numeric("x", standardise=False), Clock("x")])
@pytest.mark.parametrize("number", [1e39, -1e300])
def test_a_number_beyond_float32(feature: Feature, number: float) -> None:
    """The mean of such numbers, or their standard deviation, is infinite in float64 too."""
    values = pa.array([1.0, number])
    with pytest.raises(BadRows, match=BEYOND):
        feature.learn(values)
    with pytest.raises(BadRows, match=BEYOND):
        feature.encode(values, Known({"mean": 0.0, "deviation": 1.0}))


@pytest.mark.parametrize("feature", [Numeric("x"), Clock("x")])
def test_a_number_that_standardising_takes_beyond_float32(feature: Feature) -> None:
    with pytest.raises(BadRows, match=BEYOND):
        feature.encode(pa.array([1.0, 1e37]), Known({"mean": 0.0, "deviation": 1e-9}))


def test_the_largest_numbers_that_float32_holds_are_taken() -> None:
    values = pa.array([-LARGEST, LARGEST])
    feature = Numeric("x")
    np.testing.assert_allclose(feature.encode(values, Known(feature.learn(values))), [[-1], [1]])
