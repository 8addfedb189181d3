"""Exact ranks against counting in float64."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract.errors import DataError
from recs_core.evaluation import NEVER, ranks
from recs_core.index.filters import ragged


def counted(queries, candidates, targets, exclude=None):
    """`above` and `tied` by looking at every score."""
    scores = queries.astype(np.float64) @ candidates.astype(np.float64).T
    above, tied = [], []
    for i in range(len(queries)):
        out = set() if exclude is None else set(exclude.values[exclude.offsets[i] : exclude.offsets[i + 1]].tolist())
        left = [j for j in range(len(candidates)) if j not in out]
        for target in targets.values[targets.offsets[i] : targets.offsets[i + 1]]:
            if target in out or target < 0:
                above.append(NEVER)
                tied.append(0)
            else:
                above.append(sum(scores[i, j] > scores[i, target] for j in left))
                tied.append(sum(scores[i, j] == scores[i, target] for j in left) - 1)
    return above, tied


def same(found, expected):
    np.testing.assert_array_equal(found.above, expected[0])
    np.testing.assert_array_equal(found.tied, expected[1])


@st.composite
def worlds(draw):
    """Small whole numbers, so that ties abound and float64 knows them."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    num_queries, num_candidates, dim = random.integers(1, 8), random.integers(1, 40), random.integers(1, 5)
    queries = random.integers(-2, 3, (num_queries, dim)).astype(np.float32)
    candidates = random.integers(-2, 3, (num_candidates, dim)).astype(np.float32)

    def some():
        return random.permutation(num_candidates)[: random.integers(0, num_candidates + 1)]

    targets = ragged(some() for _ in range(num_queries))
    exclude = ragged(np.append(some(), [-1]) for _ in range(num_queries)) if draw(st.booleans()) else None
    return queries, candidates, targets, exclude


@settings(deadline=None, max_examples=60)
@given(worlds(), st.sampled_from([np.float32, np.float64]), st.sampled_from([1, 2]))
def test_equal_to_counting(world, dtype, threads):
    queries, candidates, targets, exclude = world
    found = ranks(queries.astype(dtype), candidates.astype(dtype), targets, exclude=exclude, threads=threads)
    same(found, counted(queries, candidates, targets, exclude))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_to_counting_over_several_tiles(rng, dtype):
    queries, candidates = normal(rng, 40, 64, dtype), normal(rng, 2500, 64, dtype)
    targets = ragged(rng.choice(2500, n, replace=False) for n in rng.integers(0, 6, 40))
    exclude = ragged(rng.choice(2500, 30, replace=False) for _ in range(40))
    same(ranks(queries, candidates, targets, exclude=exclude), counted(queries, candidates, targets, exclude))


def test_float32_rounding_decides_nothing(rng):
    """Candidates a few float32 ulps apart are ranked as float64 ranks their scores."""
    queries = normal(rng, 20, 64)
    candidates = np.repeat(normal(rng, 1, 64), 1500, axis=0)
    candidates[np.arange(1500), rng.integers(0, 64, 1500)] *= np.float32(1 + 2e-7)
    targets = ragged([[i * 70] for i in range(20)])
    found, (above, _) = ranks(queries, candidates, targets), counted(queries, candidates, targets)
    exact = queries.astype(np.float64) @ candidates.astype(np.float64).T
    own = exact[np.arange(20), targets.values]
    limit = 1e-13 * np.linalg.norm(queries, axis=1) * np.linalg.norm(candidates, axis=1).max()
    blurred = (np.abs(exact - own[:, None]) <= limit[:, None]).sum(1)
    assert (np.abs(found.above - above) < blurred).all()
    assert (found.above > 100).any()


@pytest.mark.parametrize("num_candidates", [7, 1020, 3001])
def test_equal_vectors_tie_wherever_they_stand(rng, num_candidates):
    """A collapsed model: in a BLAS product alone, the last bits would tell equal candidates apart."""
    queries, candidates = normal(rng, 30, 64), np.repeat(normal(rng, 1, 64), num_candidates, axis=0)
    found = ranks(queries, candidates, ragged([[i % num_candidates] for i in range(30)]))
    assert (found.above == 0).all()
    assert (found.tied == num_candidates - 1).all()


def test_a_perfect_model_ranks_itself_first(rng):
    """Each query is its own candidate (TFRS's score-based metric loses a third of these to rounding)."""
    vectors = normal(rng, 500, 64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = ranks(vectors, vectors, ragged([[i] for i in range(500)]))
    assert (found.above == 0).all() and (found.tied == 0).all()


def test_scores_of_any_size():
    queries = np.array([[1e15], [-1e15]], np.float32)
    candidates = np.array([[1e15], [-1e15], [0], [1e-15]], np.float32)
    found = ranks(queries, candidates, ragged([[0, 1], [1, 2]]), exclude=ragged([[], [0]]))
    np.testing.assert_array_equal(found.above, [0, 3, 0, 1])


def test_a_target_that_is_excluded_or_unknown_is_never_found():
    vectors = np.eye(3, dtype=np.float32)
    found = ranks(vectors, vectors, ragged([[0], [-1, 1], [-1, -1]]), exclude=ragged([[0], [], []]))
    np.testing.assert_array_equal(found.above, [NEVER, NEVER, 0, NEVER, NEVER])


def test_the_same_on_one_thread_and_on_two(rng):
    queries, candidates = normal(rng, 700, 16), normal(rng, 1100, 16)
    targets = ragged([[i] for i in range(700)])
    one, two = (ranks(queries, candidates, targets, threads=threads) for threads in (1, 2))
    same(one, (two.above, two.tied))


def test_no_queries_and_no_targets():
    none = np.empty((0, 2), np.float32)
    assert len(ranks(none, np.ones((3, 2), np.float32), ragged([])).above) == 0
    assert len(ranks(np.ones((2, 2), np.float32), np.ones((3, 2), np.float32), ragged([[], []])).above) == 0


ONES = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("queries", "candidates", "targets", "message"),
    [
        (ONES, ONES[:, :2], [[0], [1]], "3 numbers, candidate vectors 2"),
        (ONES, ONES.astype(np.float64), [[0], [1]], "both be float32"),
        (ONES, ONES[:0], [[], []], "no candidates"),
        (ONES[0], ONES, [[0], [1]], "query vectors must have shape"),
        (ONES, ONES, [[0]], "targets has 1 rows for 2 queries"),
        (ONES, ONES, [[0], [2]], "targets of query 1 holds position 2"),
        (ONES, ONES, [[0], [1, 0, 1]], "query 1 hold candidate 1 twice"),
        (ONES, ONES * np.float32(np.nan), [[0], [1]], "candidate vector 0 holds NaN"),
        (ONES * np.float32(np.inf), ONES, [[0], [1]], "query vector 0 holds NaN or infinity"),
        (ONES * np.float32(1e20), ONES * np.float32(1e20), [[0], [1]], "overflow"),
    ],
)
def test_refuses(queries, candidates, targets, message):
    with pytest.raises(DataError, match=message):
        ranks(queries, candidates, ragged(targets))


@pytest.mark.parametrize("collapsed", [False, True])
def test_memory_stays_bounded(rng, collapsed):
    """All scores would take 120 MB."""
    queries, candidates = normal(rng, 600, 8), normal(rng, 50_000, 8)
    if collapsed:
        candidates[:] = candidates[0]
    targets, exclude = ragged([[i] for i in range(600)]), ragged(rng.integers(600, 50_000, (600, 50)))
    tracemalloc.start()
    ranks(queries, candidates, targets, exclude=exclude, threads=2)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 30e6


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def normal(rng, rows, dim, dtype=np.float32):
    return rng.standard_normal((rows, dim)).astype(dtype)
