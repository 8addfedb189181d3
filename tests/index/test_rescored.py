"""Indexes around an engine: whatever the engine finds, filters hold, ties go by position, and no answer is short."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract.errors import BundleError, DataError
from recs_core.contract.manifest import IndexInfo
from recs_core.index import CandidateIndex, FilteredIndex, RescoredIndex
from recs_core.index.filters import ragged
from recs_core.index.int8 import Int8Index
from recs_core.index.made import Made
from recs_core.reference.topk import top_k

YES = dict.fromkeys(("exclude", "allow", "storable", "updatable"), True)


@dataclass
class Leaky(RescoredIndex):
    """An engine that finds anything: the excluded, the deleted, what is no position, and the same twice."""

    seed: int = 0
    info: ClassVar[IndexInfo] = IndexInfo("leaky", "m:Leaky", "for tests", recall_floor=0.1, capabilities=YES)
    pace: ClassVar[float] = 0

    def _make(self, vectors):
        self.size = len(vectors)

    def _find(self, plan, number):
        found = np.random.default_rng(self.seed).integers(-3, self.size + 3, (len(plan.queries), number))
        found[:, : number // 2] = found[:, :1]
        return found, None

    def _parts(self):
        return {}

    def _take(self, vectors, parts):
        self._make(vectors)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 40), share=st.sampled_from([0.0, 0.001, 0.1, 0.9]))
def test_whatever_an_engine_finds_nothing_leaks_and_no_answer_is_short(seed, k, share):
    random = np.random.default_rng(seed)
    vectors, queries = random.normal(size=(1500, 4)).astype(np.float32), random.normal(size=(6, 4)).astype(np.float32)
    allow = np.flatnonzero(random.random(1500) < share)
    exclude = ragged([random.integers(-1, 1500, 50) for _ in queries])
    index = Leaky(seed)
    index.build(vectors)
    index.delete(gone := random.integers(0, 1500, 200))
    left = np.setdiff1d(allow, gone)
    found = index.search(queries, k, exclude=exclude, allow=allow)
    due = top_k(queries, vectors, k, exclude=exclude, allow=left)
    for row, ids in enumerate(found.ids):
        there = ids[ids >= 0]
        assert len(there) == (due.ids[row] >= 0).sum()
        assert np.isin(there, left).all() and not exclude.holds(np.full(len(there), row), there).any()
        assert len(np.unique(there)) == len(there)
        np.testing.assert_array_equal(
            found.scores[row, : len(there)], (vectors[there].astype(float) @ queries[row]).astype(np.float32)
        )
        assert (np.diff(found.scores[row, : len(there)]) <= 0).all()


def clustered(rows, seed=0, dim=24):
    random = np.random.default_rng(seed)
    middles = np.random.default_rng(99).normal(size=(50, dim))
    return (middles[random.integers(50, size=rows)] + 0.5 * random.normal(size=(rows, dim))).astype(np.float32)


def recall(found, due):
    return np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found.ids, due.ids, strict=True)])


def test_int8_finds_nearly_all_and_scores_exactly():
    vectors, queries = clustered(20_000), clustered(100, seed=1)
    index = Int8Index(rescore=3)
    index.build(vectors)
    due = top_k(queries, vectors, 10)
    found = index.search(queries, 10)
    assert recall(found, due) >= 0.99
    same = found.ids == due.ids
    np.testing.assert_array_equal(found.scores[same], due.scores[same].astype(np.float32))


def test_int8_gives_a_query_the_same_answer_alone_and_among_others():
    vectors, queries = clustered(9_000), clustered(33, seed=1)
    index = Int8Index(rescore=20)
    index.build(vectors)
    together = index.search(queries, 10)
    for row in range(len(queries)):
        np.testing.assert_array_equal(index.search(queries[row : row + 1], 10).ids[0], together.ids[row])


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e15])
def test_int8_takes_vectors_of_any_length(scale):
    vectors, queries = (clustered(3000) * scale).astype(np.float32), clustered(20, seed=1)
    vectors[::7] = 0
    index = Int8Index()
    index.build(vectors)
    assert recall(index.search(queries, 10), top_k(queries, vectors, 10)) >= 0.9 or scale < 1e-39


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda parts: parts | {"codes": parts["codes"][:-1]}, "'codes'"),
        (lambda parts: parts | {"codes": parts["codes"].astype(np.int32)}, "'codes'"),
        (lambda parts: {"codes": parts["codes"]}, "'scales' of the index is missing"),
        (lambda parts: parts | {"scales": parts["scales"] * np.float32(np.nan)}, "NaN"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, says):
    vectors = clustered(2000)
    index = Int8Index()
    index.build(vectors)
    with pytest.raises(DataError, match=says):
        Int8Index().restore(vectors, change(index.parts()))
    with pytest.raises(BundleError, match="does not fit index 'int8'.*build it again"):
        Made("int8", "recs-core 0", change(index.parts())).restored(vectors)


def test_parts_of_an_index_with_deletes_are_refused():
    index = Int8Index()
    index.build(clustered(2000))
    index.delete(np.array([3]))
    with pytest.raises(DataError, match="deleted positions"):
        index.parts()


def test_a_corpus_keeps_what_its_index_made(tmp_path):
    ids, vectors, queries = [f"i{i}" for i in range(3000)], clustered(3000), clustered(5, seed=1)
    corpus = CandidateIndex(ids, vectors, "int8:rescore=20")
    corpus.save(tmp_path / "corpus")
    loaded = CandidateIndex.load(tmp_path / "corpus")
    assert loaded._index.spec == "int8:rescore=20"
    assert not loaded._index.parts()["codes"].flags.owndata, "codes are a view of the file"
    np.testing.assert_array_equal(loaded.search(queries, 10).ids, corpus.search(queries, 10).ids)
    loaded.upsert(["i7", "new"], 9 * queries[:2])
    assert loaded.search(queries[:2], 1).ids.tolist() == [["i7"], ["new"]]
    assert CandidateIndex.load(tmp_path / "corpus", "exact")._index.info.name == "exact"


def test_a_saved_index_that_is_not_installed_says_what_to_install(tmp_path):
    made = Made("gone:m=3", "recs-core-gone 1.2", {}, tmp_path / "index-0.safetensors")
    with pytest.raises(
        LookupError,
        match=r"index-0.safetensors: holds the index 'gone:m=3' of recs-core-gone 1.2.*pip install recs-core-gone",
    ):
        made.restored(clustered(3))


def test_a_filtered_index_changes_whatever_index_it_holds():
    vectors, queries = clustered(3000), clustered(8, seed=1)

    class Frozen(Leaky):
        info = IndexInfo("frozen", "m:Frozen", "for tests", recall_floor=0.1)

    for inner in (Int8Index(), Frozen(), None):
        index = FilteredIndex(vectors, inner)
        best = index.search(queries, 1).ids[:, 0]
        index.delete(best)
        assert not np.isin(index.search(queries, 20).ids, best).any()
        index.upsert(np.concatenate([vectors, 99 * queries[:1]]), np.append(best[:1], 3000))
        found = index.search(queries[:1], 3000 + 1, exclude=ragged([[3000]])).ids
        assert best[0] in found and not np.isin(found, np.setdiff1d(best, best[:1])).any()


def test_an_upsert_of_fewer_rows_is_refused_and_changes_nothing():
    vectors = clustered(3000)
    for inner in (Int8Index(), None):
        index = FilteredIndex(vectors, inner)
        before = index.search(vectors[-2:], 3).ids
        with pytest.raises(DataError, match="2999 vectors after 3000: name every new row .* and drop none"):
            index.upsert(vectors[:-1], np.array([0]))
        np.testing.assert_array_equal(index.search(vectors[-2:], 3).ids, before)
