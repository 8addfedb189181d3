"""Interactions of any size whose truth is known: popularity by Zipf's law times a taste in a latent space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.randomness import generator
from recs_core.data.interactions import Interactions

PROPOSALS = 16
CATEGORIES = 12
_BLOCK = 65_536
_START = 1_577_836_800  # 2020-01-01 UTC
_YEAR = 365 * 86_400
_MAX_DENSITY = 0.25
_MAX_ROUNDS = 50
_WORDS = ("red", "small", "old", "round", "soft", "paper", "metal", "garden", "summer", "night")


@dataclass(frozen=True)
class Synthetic:
    """Interactions with the truth they were drawn from; row i of an array belongs to code i of the vocabulary.

    P(candidate | query) is proportional to popularity × exp(taste · query_vector · candidate_vector).
    """

    interactions: Interactions
    query_vectors: NDArray[np.float32]  # (queries, dim), of length 1
    candidate_vectors: NDArray[np.float32]  # (candidates, dim), of length 1
    popularity: NDArray[np.float64]  # (candidates,), sums to 1
    taste: float

    def scores(self, query_codes: NDArray[np.integer]) -> NDArray[np.float64]:
        """(n, candidates): the logarithm of the true preference, up to a constant per query. Best possible ranking."""
        affinity = self.query_vectors[query_codes].astype(np.float64) @ self.candidate_vectors.T.astype(np.float64)
        return self.taste * affinity + np.log(self.popularity)


def load(
    *,
    num_queries: int = 1_000,
    num_candidates: int = 500,
    num_interactions: int = 20_000,
    dim: int = 8,
    zipf: float = 1.0,
    taste: float = 6.0,
    seed: int = 42,
) -> Interactions:
    """`generate` without the truth."""
    truth = generate(
        num_queries=num_queries,
        num_candidates=num_candidates,
        num_interactions=num_interactions,
        dim=dim,
        zipf=zipf,
        taste=taste,
        seed=seed,
    )
    return truth.interactions


def generate(
    *,
    num_queries: int = 1_000,
    num_candidates: int = 500,
    num_interactions: int = 20_000,
    dim: int = 8,
    zipf: float = 1.0,
    taste: float = 6.0,
    seed: int = 42,
) -> Synthetic:
    """Distinct pairs `query_id` ("q7"), `candidate_id` ("c7") with a `time` in 2020, in time order.

    `dim`: of the latent space. `zipf`: popularity falls as rank^-zipf; 0 is flat. `taste`: how much the latent space
    counts against popularity; 0 is popularity alone. Each row's candidate is picked among 16 proposals drawn by
    popularity, which is the stated law as the number of proposals grows. Side features: queries `segment`, `age`;
    candidates `category`, `title`, `price`; segment and category name the nearest of 12 latent directions. Side
    tables, and so vocabularies, hold all ids. Raises `DataError` for sizes below 1, and for more than a quarter of
    all pairs.
    """
    sizes = dict(num_queries=num_queries, num_candidates=num_candidates, num_interactions=num_interactions, dim=dim)
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DataError(f"synthetic: {name} must be a whole number ≥ 1, got {value!r}")
    for name, number in (("zipf", zipf), ("taste", taste)):
        if not np.isfinite(number) or number < 0:
            raise DataError(f"synthetic: {name} must be a finite number ≥ 0, got {number!r}")
    if num_interactions > _MAX_DENSITY * num_queries * num_candidates:
        raise DataError(
            f"synthetic: {num_interactions:,} interactions are more than a quarter of the "
            f"{num_queries * num_candidates:,} pairs of {num_queries:,} queries and {num_candidates:,} candidates"
        )
    queries = _unit_vectors(generator(seed, "synthetic/queries"), num_queries, dim)
    candidates = _unit_vectors(generator(seed, "synthetic/candidates"), num_candidates, dim)
    popularity = _zipf(generator(seed, "synthetic/popularity"), num_candidates, zipf)
    activity = generator(seed, "synthetic/activity").lognormal(0.0, 0.5, num_queries)
    law = _Law(queries, candidates, np.cumsum(activity), np.cumsum(popularity), taste)
    query, candidate = _pairs(law, seed, num_interactions)
    times = _START + np.sort(generator(seed, "synthetic/times").integers(0, _YEAR, num_interactions))
    directions = _unit_vectors(generator(seed, "synthetic/directions"), CATEGORIES, dim)
    query_ids, candidate_ids = _ids("q", num_queries), _ids("c", num_candidates)
    columns = {"query_id": query_ids.take(pa.array(query)), "candidate_id": candidate_ids.take(pa.array(candidate))}
    interactions = Interactions.from_table(
        columns | {"time": times},
        query="query_id",
        candidate="candidate_id",
        timestamp="time",
        queries=_query_features(seed, query_ids, queries @ directions.T),
        candidates=_candidate_features(seed, candidate_ids, candidates @ directions.T),
    )
    # Vocabularies are in order of first appearance, the truth so far in order of making.
    query_order = _numbers(interactions.query_ids.ids)
    candidate_order = _numbers(interactions.candidate_ids.ids)
    popularity = popularity[candidate_order]
    return Synthetic(interactions, queries[query_order], candidates[candidate_order], popularity, taste)


def _unit_vectors(random: np.random.Generator, rows: int, dim: int) -> NDArray[np.float32]:
    vectors = random.standard_normal((rows, dim), dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.float32(1e-12))


def _zipf(random: np.random.Generator, size: int, exponent: float) -> NDArray[np.float64]:
    """Probabilities by rank, ranks dealt at random."""
    weights = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    return random.permutation(weights / weights.sum())


@dataclass(frozen=True)
class _Law:
    """What rows are drawn from."""

    queries: NDArray[np.float32]
    candidates: NDArray[np.float32]
    activity: NDArray[np.float64]  # cumulative, of the queries
    popularity: NDArray[np.float64]  # cumulative, of the candidates
    taste: float

    def draw(self, random: np.random.Generator, rows: int) -> NDArray[np.int64]:
        """(rows,) pairs, each query × candidates + candidate."""
        query = _pick(random, self.activity, (rows,))
        proposed = _pick(random, self.popularity, (rows, PROPOSALS))
        affinity = np.einsum("npd,nd->np", self.candidates[proposed], self.queries[query])
        # The largest of score + Gumbel noise is a draw from the softmax of the scores.
        chosen = np.argmax(self.taste * affinity + random.gumbel(size=affinity.shape), axis=1)
        return query * len(self.candidates) + proposed[np.arange(rows), chosen]


def _pairs(law: _Law, seed: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct queries and candidates: draw, drop repeats, draw again until there are enough."""
    pairs = np.empty(0, np.int64)
    for round_ in range(_MAX_ROUNDS):
        random = generator(seed, "synthetic/pairs", epoch=round_)
        rows = int(1.2 * (wanted - len(pairs))) + 64  # a few too many, so that two or three rounds do
        blocks = [law.draw(random, min(_BLOCK, rows - start)) for start in range(0, rows, _BLOCK)]
        pairs = np.concatenate([pairs, *blocks])
        _, first = np.unique(pairs, return_index=True)
        pairs = pairs[np.sort(first)[:wanted]]
        if len(pairs) == wanted:
            query, candidate = np.divmod(pairs, len(law.candidates))
            return query, candidate
    raise DataError(
        f"synthetic: popular pairs are used up after {len(pairs):,} of {wanted:,} interactions: "
        "ask for fewer, or a lower zipf or taste"
    )


def _pick(random: np.random.Generator, cumulative: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    # Looked up in order and shuffled afterwards: five times faster than in random order at 100k entries.
    sorted_ = np.sort(random.random(int(np.prod(shape)))) * cumulative[-1]
    picked = np.minimum(np.searchsorted(cumulative, sorted_, side="right"), len(cumulative) - 1)
    random.shuffle(picked)
    return picked.reshape(shape)


def _query_features(seed: int, ids: pa.Array, closeness: NDArray[np.float32]) -> pa.Table:
    random = generator(seed, "synthetic/query-features")
    segment = pc.binary_join_element_wise("segment", _text(closeness.argmax(axis=1)), " ")
    return pa.table({"query_id": ids, "segment": segment, "age": random.integers(18, 80, len(ids)).astype(np.float64)})


def _candidate_features(seed: int, ids: pa.Array, closeness: NDArray[np.float32]) -> pa.Table:
    random = generator(seed, "synthetic/candidate-features")
    category = pc.binary_join_element_wise("category", _text(closeness.argmax(axis=1)), " ")
    word = pa.array(_WORDS).take(pa.array(random.integers(0, len(_WORDS), len(ids))))
    price = np.round(random.lognormal(1.0, 0.8, len(ids)), 2)
    title = pc.binary_join_element_wise(word, category, " ")
    return pa.table({"candidate_id": ids, "category": category, "title": title, "price": price})


def _ids(prefix: str, size: int) -> pa.Array:
    return pc.binary_join_element_wise(prefix, _text(np.arange(size)), "")


def _numbers(ids: pa.Array) -> NDArray[np.int64]:
    return np.asarray(pc.utf8_slice_codeunits(ids, 1).cast(pa.int64()))


def _text(numbers: NDArray[np.integer]) -> pa.Array:
    return pa.array(numbers).cast(pa.string())
