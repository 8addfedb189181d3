"""Answers by Ray Data are those of `recs recommend --queries` on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import recs_core_ray
from recs_core_ray import answers
from recs_core_ray.answers import Answers

import recs_core as recs
from recs_core.contract.errors import BundleError, DataError
from recs_core.runtime.answering import Question
from recs_core.runtime.batch import Job, recommend_file


def on_one_machine(asked: dict[str, Any], **question: Any) -> pa.Table:
    """What `recs recommend --queries` answers to the same queries in one file."""
    queries, out = asked["to"].with_name("all.parquet"), asked["to"].with_name("one.parquet")
    pq.write_table(pq.read_table(asked["queries"].parent), queries)
    recommend_file(recs.load(asked["bundle"], runtime="numpy"), Job(queries, out, "digest", **question))
    return pq.read_table(out)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries in many pieces, answers in many files."""
    from ray.data import DataContext

    monkeypatch.setattr(answers, "PART_ROWS", 16)
    monkeypatch.setattr(DataContext.get_current(), "target_max_block_size", 256)


def test_answers_are_those_of_one_machine_in_order(cluster: Any, small_pieces: None, asked: dict[str, Any]) -> None:
    how = {"k": 7, "exclude": "seen", "where": "price < 6"}
    assert recs_core_ray.recommend(**asked, **how) == asked["to"]
    files = sorted(asked["to"].iterdir())
    assert len(files) > 1
    found = pa.concat_tables(map(pq.read_table, files))
    due = on_one_machine(asked, k=7, exclude_seen=True, where="price < 6")
    assert found.schema == due.schema and len(found) == 150
    assert found["user"].to_pylist() == due["user"].to_pylist()
    assert found["item"].to_pylist() == due["item"].to_pylist()
    for mine, theirs in zip(found["score"].to_pylist(), due["score"].to_pylist(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
    assert not list(asked["to"].parent.glob(".*"))


def test_of_an_id_that_cannot_be_answered_the_error_is_ours_and_nothing_is_left(
    cluster: Any, asked: dict[str, Any]
) -> None:
    pq.write_table(pa.table({"user": pa.array([100, None], pa.int32()), "note": ["x", "x"]}), last(asked))
    before = sorted(asked["to"].parent.iterdir())
    with pytest.raises(DataError) as caught:
        recs_core_ray.recommend(**asked)
    assert "column 'user': null id in row " in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(asked["to"].parent.iterdir()) == before


def test_no_queries_have_no_answers_in_a_folder_that_can_be_read(cluster: Any, asked: dict[str, Any]) -> None:
    empty = asked["to"].with_name("empty.parquet")
    pq.write_table(pa.table({"user": pa.array([], pa.int64())}), empty)
    found = pq.read_table(recs_core_ray.recommend(asked["bundle"], empty, to=asked["to"]))
    assert found.column_names == ["user", "item", "score"] and len(found) == 0


def test_files_that_differ_are_refused_before_anything_is_made(asked: dict[str, Any]) -> None:
    pq.write_table(pa.table({"user": ["a"], "note": ["x"]}), last(asked))
    with pytest.raises(DataError, match="column 'user' holds string, in .*q0.parquet int32: write them alike"):
        recs_core_ray.recommend(**asked)
    assert not asked["to"].exists()


def test_a_process_answers_by_no_other_bundle_than_was_checked(asked: dict[str, Any]) -> None:
    digest = recs.bundle.info(asked["bundle"]).manifest["digest"]
    how = {"bundle": asked["bundle"], "index": None, "question": Question(k=3), "source": "q"}
    of_one = Answers(["user"], digest=digest, **how)
    table = pa.table({"user": [100, 101]})
    expected = recs.load(asked["bundle"], runtime="numpy").recommend([100, 101], 3).ids
    assert of_one(table)["item"].to_pylist() == expected.tolist()
    with pytest.raises(BundleError, match="is another bundle than when the job began; start the job again"):
        Answers(["user"], digest="other", **how)


def last(asked: dict[str, Any]) -> Path:
    return asked["queries"].with_name("q9.parquet")
