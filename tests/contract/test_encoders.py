"""Buckets of times, held to whole numbers worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.encoders import time_buckets
from recs_core.contract.errors import SpecError


@pytest.mark.parametrize(
    ("ago", "bucket"),
    [
        (-5.0, 0),  # later, as in a history that is not in order
        (0.0, 0),
        (0.5, 0),
        (1.0, 0),
        (1.351, 0),  # e^0.301 = 1.35121
        (1.352, 1),
        (60.0, 13),  # ln 60 = 4.094
        (3_600.0, 27),  # ln 3,600 = 8.189
        (86_400.0, 37),  # ln 86,400 = 11.367
        (31_556_952.0, 57),  # a year: ln = 17.267
        (1e30, 127),
    ],
)
def test_a_bucket_by_hand(ago: float, bucket: int) -> None:
    assert time_buckets(np.array([[1e9 + ago]]), np.array([[1e9]])).tolist() == [[[bucket]]]


def test_rows_look_back_from_when_they_are_asked() -> None:
    found = time_buckets(np.array([[60.0, 3_600.0]]), np.array([[0.0, 60.0]]))
    assert found.dtype == np.uint8
    assert found.tolist() == [[[13, 0], [27, 27]]]


def test_each_layer_has_a_bias_that_starts_at_zero() -> None:
    parts = recs.SelfAttention(layers=2, heads=4, time="request").parts(8, 20)
    assert [parts[f"layer_{i}/time"] for i in range(2)] == [((128, 4), "zeros")] * 2
    assert not [name for name in recs.SelfAttention().parts(8, 20) if "time" in name]


@pytest.mark.parametrize("time", ["now", True, 1])
def test_another_time_is_refused(time: object) -> None:
    with pytest.raises(SpecError, match="time is 'history', 'request' or None"):
        recs.SelfAttention(time=time)  # type: ignore[arg-type]
