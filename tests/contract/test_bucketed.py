"""A number by its bucket: where borders belong, what is missing, what training data decides."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.features import Known


def rows(feature: recs.Bucketed, trained: list[float | None], asked: list[float | None]) -> list[int]:
    state = feature.learn(pa.array(trained, pa.float64()))
    feature.check_learnt(state)
    found = feature.encode(pa.array(asked, pa.float64()), Known(state))
    assert found.dtype == np.int32 and found.max() < feature.rows(state)
    return found.tolist()


def test_a_number_on_a_border_belongs_to_the_bucket_above_and_a_missing_one_to_row_0() -> None:
    feature = recs.Bucketed("price", edges=[1, 5])
    asked = [0.9, 1.0, 4.99, 5.0, 1e30, -1e30, None, float("nan")]
    assert rows(feature, [2.0], asked) == [1, 2, 2, 3, 3, 1, 0, 0]
    assert feature.rows(feature.learn(pa.array([2.0]))) == 4


def test_a_number_of_buckets_cuts_the_training_data_into_equal_parts() -> None:
    trained = [float(n) for n in range(100)] + [None]
    found = rows(recs.Bucketed("price", edges=4), trained, trained)
    assert np.bincount(found).tolist() == [1, 25, 25, 25, 25]


def test_borders_that_coincide_are_one() -> None:
    assert rows(recs.Bucketed("price", edges=4), [0.0] * 9 + [1.0], [0.0, 1.0, -1.0]) == [2, 2, 1]


@pytest.mark.parametrize("edges", [1, 0, True, [], [2, 1], [1, 1], [1, float("nan")], "12", None, 2.5])
def test_edges_that_cannot_be_meant_are_refused(edges: object) -> None:
    with pytest.raises(SpecError, match="edges must rise, or be ≥ 2"):
        recs.Bucketed("price", edges=edges)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [{}, {"edges": "ab"}, {"edges": [2.0, 1.0]}, {"edges": [None]}])
def test_a_damaged_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(DataError, match="has no ascending edges"):
        recs.Bucketed("price").check_learnt(state)


def test_json_both_ways() -> None:
    from recs_core.contract.as_json import from_json, to_json

    for feature in (recs.Bucketed("price", edges=[1, 5], dim=3), recs.Bucketed("price", edges=7)):
        assert from_json(to_json(feature)) == feature and hash(feature) is not None
