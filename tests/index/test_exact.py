"""The exact index against the reference's sort of all scores."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract.errors import DataError, NotFitted
from recs_core.contract.protocols import Index, lacking
from recs_core.evaluation import ranks
from recs_core.index import ExactIndex, FilteredIndex
from recs_core.index.filters import ragged
from recs_core.plugin.manager import load_index
from recs_core.reference.topk import top_k, top_k_of_scores


def built(vectors):
    index = ExactIndex()
    index.build(vectors)
    return index


def same(found, expected):
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=2e-7)


@st.composite
def worlds(draw):
    """Small whole numbers, so that ties abound; more than k, all, or nothing excluded."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    num_queries, num_candidates, dim = random.integers(1, 6), random.integers(1, 40), random.integers(1, 4)
    queries = random.integers(-2, 3, (num_queries, dim)).astype(np.float32)
    vectors = random.integers(-2, 3, (num_candidates, dim)).astype(np.float32)

    def some():
        return random.permutation(num_candidates)[: random.integers(0, num_candidates + 1)]

    exclude = ragged(np.append(some(), [-1]) for _ in range(num_queries)) if draw(st.booleans()) else None
    allow = some() if draw(st.booleans()) else None
    return queries, vectors, exclude, allow


@settings(deadline=None, max_examples=100)
@given(worlds(), st.integers(1, 50), st.sampled_from([1, 2]))
def test_equal_to_the_reference(world, k, threads):
    queries, vectors, exclude, allow = world
    found = built(vectors).search(queries, k, exclude=exclude, allow=allow, threads=threads)
    same(found, top_k(queries, vectors, k, exclude=exclude, allow=allow))


@pytest.mark.parametrize("k", [1, 10, 500, 1500, 4000])
@pytest.mark.parametrize("allowed", [None, 3, 300, 2500, 3500])
def test_equal_to_the_reference_over_several_tiles(rng, k, allowed):
    """Few that are allowed are gathered, many read where they lie."""
    queries, vectors = normal(rng, 20, 64), normal(rng, 3500, 64)
    exclude = None if allowed is None else ragged(rng.choice(3500, 200, replace=False) for _ in range(20))
    allow = None if allowed is None else rng.choice(3500, allowed, replace=False)
    found = built(vectors).search(queries, k, exclude=exclude, allow=allow)
    same(found, reference_in_float32(queries, vectors, k, exclude, allow))


@pytest.mark.parametrize("keep", [(0, 2100), (1000, 3000), (3400, 3500)])
def test_the_best_of_all_are_not_allowed(rng, keep):
    """A whole run of the corpus, and of its scores: no limit may come of those left out."""
    queries, vectors = normal(rng, 3, 8), normal(rng, 3500, 8)
    vectors = vectors[np.argsort(vectors @ queries[0])]
    allow = np.arange(*keep)
    found = built(vectors).search(queries, 100, allow=allow)
    same(found, reference_in_float32(queries, vectors, 100, allow=allow))


def test_an_allow_list_in_any_order_and_with_repeats(rng):
    queries, vectors = normal(rng, 3, 8), normal(rng, 50, 8)
    allow = rng.permutation(40)
    expected = top_k(queries, vectors, 10, allow=allow)
    for asked in (allow, np.sort(allow), np.r_[allow, allow[:5]], allow.tolist(), allow.astype(np.uint8)):
        before = np.array(asked)
        same(built(vectors).search(queries, 10, allow=asked), expected)
        np.testing.assert_array_equal(asked, before)


@pytest.mark.parametrize("order", [1, -1])
def test_scores_in_order_of_position(order):
    """Ascending scores: every tile brings a whole new top k."""
    vectors = np.arange(5000, dtype=np.float32)[::order, None].copy()
    found = built(vectors).search(np.ones((3, 1), np.float32), 100)
    best = np.arange(4999, 4899, -1) if order == 1 else np.arange(100)
    np.testing.assert_array_equal(found.ids, np.tile(best, (3, 1)))


@pytest.mark.parametrize("allow", [None, np.arange(2, 6000), np.arange(0, 6000, 40)])
@pytest.mark.parametrize("distinct", [1, 3])
def test_equal_vectors_come_in_order_of_position(rng, distinct, allow):
    """Thousands of equal candidates: more ties than any buffer holds, and a BLAS that rounds them differently."""
    vectors = normal(rng, distinct, 64)[np.arange(6000) % distinct]
    queries = normal(rng, 20, 64)
    exclude = ragged([[0, 3, 6, 5998]] * 20)
    found = built(vectors).search(queries, 40, exclude=exclude, allow=allow)
    best = np.argmax(queries @ vectors[:distinct].T, axis=1)
    left = np.setdiff1d(np.arange(6000) if allow is None else allow, exclude.values[:4])
    expected = [left[left % distinct == b][:40] for b in best]
    np.testing.assert_array_equal(found.ids, expected)


def test_scores_of_any_size_and_exclusions_that_never_leak():
    vectors = np.array([[1e15], [-1e15], [0], [1e-15]], np.float32)
    queries = np.array([[1e15], [-1e15]], np.float32)
    found = built(vectors).search(queries, 4, exclude=ragged([[0], [1, 0]]))
    np.testing.assert_array_equal(found.ids, [[3, 2, 1, -1], [2, 3, -1, -1]])
    np.testing.assert_array_equal(found.scores[:, -1], [-np.inf, -np.inf])
    assert found.scores[0, 2] == pytest.approx(-1e30)


def test_padding_when_exclusions_exhaust_the_corpus(rng):
    found = built(normal(rng, 5, 3)).search(normal(rng, 2, 3), 7, exclude=ragged([range(5), range(4)]))
    np.testing.assert_array_equal(found.ids[0], [-1] * 5)
    np.testing.assert_array_equal(found.ids[1], [4] + [-1] * 4)
    nothing = built(normal(rng, 5, 3)).search(normal(rng, 2, 3), 2, allow=np.empty(0, np.int64))
    assert (nothing.ids == -1).all() and np.isneginf(nothing.scores).all()


def test_a_query_alone_gets_what_it_gets_in_a_batch(rng):
    index, queries = built(normal(rng, 2500, 65)), normal(rng, 33, 65)
    together = index.search(queries, 50)
    for i in (0, 7, 32):
        alone = index.search(queries[i : i + 1], 50)
        np.testing.assert_array_equal(alone.ids[0], together.ids[i])
        np.testing.assert_array_equal(alone.scores[0], together.scores[i])


def test_agrees_with_ranks(rng):
    """Evaluation and serving see one order: the t-th of a list has t candidates above it."""
    queries, vectors = normal(rng, 10, 16), normal(rng, 1500, 16)
    exclude = ragged(rng.choice(1500, 40, replace=False) for _ in range(10))
    lists = built(vectors).search(queries, 20, exclude=exclude).ids
    found = ranks(queries, vectors, ragged(lists), exclude=exclude)
    np.testing.assert_array_equal(found.above.reshape(10, 20), np.tile(np.arange(20), (10, 1)))


def test_memory_mapped_vectors(rng, tmp_path):
    vectors, queries = normal(rng, 1500, 8), normal(rng, 4, 8)
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    same(built(mapped).search(queries, 9), reference_in_float32(queries, vectors, 9))


def test_registers_like_any_other_index():
    index = load_index("exact")
    assert isinstance(index, ExactIndex) and not lacking(index, Index) and index.info.is_exact


ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("queries", "options", "message"),
    [
        (ONES, {"k": 0}, "k must be"),
        (ONES, {"k": True}, "k must be"),
        (ONES, {"k": 1.0}, "k must be"),
        (ONES[:, :2].copy(), {"k": 1}, "2 numbers, candidate vectors 3; encode both"),
        (ONES.astype(np.float64), {"k": 1}, r"query vectors must be float32.*; give vectors.astype\(np.float32\)"),
        (ONES * np.float32(np.nan), {"k": 1}, "query vector 0 holds NaN or infinity; leave it out"),
        (ONES * np.float32(1e38), {"k": 1}, "overflow"),
        (ONES, {"k": 1, "exclude": ragged([[0]])}, "exclude has 1 rows for 2 queries; give one row per query"),
        (
            ONES,
            {"k": 1, "exclude": ragged([[], [2]])},
            "exclude of query 1 holds position 2, the corpus has 2; give positions from 0",
        ),
        (ONES, {"k": 1, "allow": [2]}, "allow holds position 2, the corpus has 2; leave it out"),
        (ONES, {"k": 1, "allow": [-1]}, "allow holds position -1"),
        (ONES, {"k": 1, "allow": [0.5]}, "list of positions.*; give integers"),
    ],
)
def test_refuses(queries, options, message):
    with pytest.raises(DataError, match=message):
        built(ONES * 4).search(queries, **options)


def test_refuses_before_and_at_build():
    with pytest.raises(NotFitted):
        ExactIndex().search(ONES, 1)
    for bad in (ONES.astype(np.float64), ONES[0], ONES * np.float32(np.inf)):
        with pytest.raises(DataError):
            built(bad)


def test_an_empty_index():
    found = built(np.empty((0, 3), np.float32)).search(ONES, 2)
    assert found.ids.shape == found.scores.shape == (2, 0)


@pytest.mark.parametrize("k", [5, 6, 2**31, 2**40, 2**63, 10**20])
def test_k_is_cut_to_the_corpus_before_anything_is_allocated(rng, k):
    vectors, queries = normal(rng, 5, 3), normal(rng, 2, 3)
    for allow in (None, np.array([4, 1])):
        found = FilteredIndex(vectors).search(queries, k, exclude=ragged([[4], []]), allow=allow)
        same(found, top_k(queries, vectors, 5, exclude=ragged([[4], []]), allow=allow))
        same(found, built(vectors).search(queries, k, exclude=ragged([[4], []]), allow=allow))


@pytest.mark.parametrize("collapsed", [False, True])
def test_memory_stays_bounded(rng, collapsed):
    """All scores would take 120 MB."""
    queries, vectors = normal(rng, 600, 8), normal(rng, 50_000, 8)
    if collapsed:
        vectors[:] = vectors[0]
    index = built(vectors)
    tracemalloc.start()
    index.search(queries, 100, threads=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6


def reference_in_float32(queries, vectors, k, exclude=None, allow=None):
    """The answers are ordered by the float64 score as float32 holds it, then by position."""
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    return top_k_of_scores(scores, k, exclude=exclude, allow=allow)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def normal(rng, rows, dim):
    return rng.standard_normal((rows, dim), np.float32)
