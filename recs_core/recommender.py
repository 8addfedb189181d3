"""What a fitted model answers: vectors, recommendations, similar candidates, exact metrics. No framework of its own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.data.batch import Features, Ragged
from recs_core.data.catalog import Catalog, as_id_array, candidates_of, codes_of, neutral, ragged_codes
from recs_core.data.encoding import encode, history_rows
from recs_core.data.interactions import Interactions
from recs_core.data.readers import read
from recs_core.data.schema import Schema
from recs_core.errors import DataError, NotFitted
from recs_core.protocols import Index, TopK, Tower
from recs_core.specs import (
    History,
    RetrievalSpec,
    TowerSpec,
)

if TYPE_CHECKING:
    from recs_core.evaluation import Ranks
    from recs_core.index import FilteredIndex

log = logging.getLogger("recs_core")

Unknown: TypeAlias = Literal["oov", "popular", "error"]
Exclude: TypeAlias = "Interactions | Sequence[Interactions] | Literal['seen'] | Sequence[Sequence[Any]] | None"

EMBED_ROWS = 65_536
"""Rows embedded at a time, so that memory beyond the result stays bounded."""

DEFAULT_K: Final = (1, 5, 10, 20, 50, 100)


@dataclass
class Recommender:
    """Answers from towers, weights and a catalog. Made by `TwoTower.fit` or `recs.load`, not by hand.

    `index` finds what `recommend` gives: an `Index`, or the name of an installed one; by default every candidate is
    scored. Metrics of `evaluate` are exact whatever it is.
    """

    query: TowerSpec
    candidate: TowerSpec
    retrieval: RetrievalSpec
    index: Index | str | None = None

    def __post_init__(self) -> None:
        self._catalog: Catalog | None = None

    # What a subclass provides

    @property
    def query_tower(self) -> Tower:
        """The query tower; its `native` is the framework's own object."""
        raise NotImplementedError

    @property
    def candidate_tower(self) -> Tower:
        """The candidate tower."""
        raise NotImplementedError

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """Every weight by canonical name."""
        raise NotImplementedError

    # What it knows

    @property
    def catalog(self) -> Catalog:
        """What the model knows of its queries and candidates. Raises `NotFitted` before `fit` or `load`."""
        if self._catalog is None:
            raise NotFitted("this model has no weights yet; call fit(train) or recs.load(path) first")
        return self._catalog

    @property
    def schema(self) -> Schema:
        """Vocabularies and statistics of the training data."""
        return self.catalog.schema

    # Vectors

    def encode_query(
        self,
        queries: Any = None,
        *,
        history: Iterable[Any] | None = None,
        features: Any = None,
        unknown: Unknown = "oov",
    ) -> NDArray[np.floating]:
        """(n, d) retrieval vectors: their inner product with `encode_candidate`'s is the score.

        Name queries by id, by their `history` (a list of candidate ids each, oldest first), by a table of `features`,
        or several of these for the same rows. An id that training never saw is answered from OOV rows with a warning,
        or is an error with `unknown="error"`.
        """
        raw = self._query_raw(self._asked(queries, history, features), unknown)
        return scoring.query_vectors(raw, self.retrieval)

    def encode_candidate(self, candidates: Any = None, *, features: Any = None) -> NDArray[np.floating]:
        """(n, d) retrieval vectors of the ids given, of a table of `features` (new ones: bias 0), or of the corpus."""
        if features is not None:
            raw = _embed(self.candidate_tower, self._encode_table(self.candidate, "candidate", features, None))
            weights = {**self.weights(), "task/bias": np.zeros(len(raw), raw.dtype)}
            return scoring.candidate_vectors(raw, self.retrieval, weights)
        if candidates is None:
            return self._corpus_vectors
        return self._corpus_vectors[self._known_candidates(candidates)]

    @cached_property
    def _corpus_vectors(self) -> NDArray[np.floating]:
        raw = _embed(self.candidate_tower, self.catalog.candidate)
        return scoring.candidate_vectors(raw, self.retrieval, self.weights())

    @cached_property
    def _index(self) -> FilteredIndex:
        from recs_core.index import FilteredIndex

        return FilteredIndex(self._corpus_vectors.astype(np.float32, copy=False), self.index)

    def _forget_vectors(self) -> None:
        for name in ("_corpus_vectors", "_index"):
            self.__dict__.pop(name, None)

    # Answers

    def recommend(
        self,
        queries: Any = None,
        k: int = 10,
        *,
        history: Iterable[Any] | None = None,
        features: Any = None,
        exclude: Exclude = None,
        allow: Any = None,
        unknown: Unknown = "oov",
    ) -> TopK:
        """The best k candidates of each query: ids in the user's own type, and scores (Q, k).

        Queries as in `encode_query`. `exclude`: interactions whose candidates must not come back, "seen" (the training
        rows of a known query, and the `history` given), or a list of ids a query. `allow`: the only candidate ids that
        may. `unknown="popular"` answers unseen queries by training popularity. Raises `DataError` for k ≤ 0, an unknown
        candidate id in `allow`, or queries of the wrong type.
        """
        options: dict[str, Any] = {"exclude": exclude, "allow": allow, "unknown": unknown}
        return self._with_ids(self.recommend_codes(queries, k, history=history, features=features, **options))

    def recommend_codes(
        self,
        queries: Any = None,
        k: int = 10,
        *,
        history: Iterable[Any] | None = None,
        features: Any = None,
        exclude: Exclude = None,
        allow: Any = None,
        unknown: Unknown | Literal["quiet"] = "oov",
    ) -> TopK:
        """As `recommend`, but candidate codes, −1 where missing; `unknown="quiet"` is "oov" without the warning."""
        if not isinstance(k, (int, np.integer)) or k < 1:
            raise DataError(f"k must be a whole number ≥ 1, got {k!r}")
        asked = self._asked(queries, history, features)
        excluded = self._excluded(exclude, asked)
        allowed = None if allow is None else np.unique(self._known_candidates(allow))
        vectors = scoring.query_vectors(self._query_raw(asked, unknown), self.retrieval).astype(np.float32, copy=False)
        found = self._index.search(vectors, int(k), exclude=excluded, allow=allowed)
        if unknown == "popular":
            found = self._popular_where_unknown(found, asked, int(k), excluded, allowed)
        return found

    def similar(self, candidates: Any, k: int = 10, *, allow: Any = None) -> TopK:
        """The k candidates nearest to each candidate by cosine of their embeddings, itself left out."""
        from recs_core.index import ExactIndex

        codes = self._known_candidates(candidates)
        raw = _embed(self.candidate_tower, self.catalog.candidate).astype(np.float32)
        unit = scoring.query_vectors(raw, RetrievalSpec(candidate_bias=False))
        index = ExactIndex()
        index.build(unit)
        itself = Ragged(codes, np.arange(len(codes) + 1, dtype=np.int32))
        allowed = None if allow is None else np.unique(self._known_candidates(allow))
        return self._with_ids(index.search(unit[codes], k, exclude=itself, allow=allowed))

    def evaluate(
        self,
        test: Interactions,
        *,
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
        k: Sequence[int] = DEFAULT_K,
        ties: Literal["pessimistic", "expected", "optimistic"] = "pessimistic",
    ) -> dict[str, float]:
        """Exact metrics over the whole corpus: recall, NDCG, MRR, … at each k (docs/meanings.md).

        `exclude`: interactions whose candidates leave the ranking of their query, as training rows do. `history`: what
        `History` features may look at, by default `exclude`, else the training rows. A test candidate outside the
        corpus counts as never found.
        """
        from recs_core.evaluation import metrics

        return metrics(self.rank(test, exclude=exclude, history=history), k=k, ties=ties)

    def rank(
        self,
        test: Interactions,
        *,
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
    ) -> Ranks:
        """The exact rank of every test candidate, from which `recs_core.evaluation` makes metrics and intervals."""
        from recs_core.evaluation import ranks

        queries, targets, excluded = self._test_part(test, exclude)
        vectors = self._test_vectors(test, queries, exclude if history is None else history)
        return ranks(vectors, self._corpus_vectors.astype(np.float32, copy=False), targets, exclude=excluded)

    def list_metrics(
        self,
        test: Interactions,
        *,
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
        k: int = 20,
    ) -> dict[str, float]:
        """Coverage and popularity of what the test's queries are recommended (`recs_core.evaluation.list_metrics`)."""
        from recs_core.evaluation import list_metrics

        queries, _, excluded = self._test_part(test, exclude)
        vectors = self._test_vectors(test, queries, exclude if history is None else history)
        return list_metrics(self._index.search(vectors, k, exclude=excluded).ids, self.catalog.counts)

    def rank_popularity(
        self, train: Interactions, test: Interactions, *, half_life_days: float | None = None, exclude: bool = True
    ) -> Ranks:
        """The same test ranked by how often each candidate was taken in `train`: what a model must beat.

        `half_life_days`: a row weighs half as much for every so many days before the last. `exclude`: training
        candidates leave the ranking of their query.
        """
        from recs_core.evaluation import popularity, recent_popularity, score_ranks

        _, targets, excluded = self._test_part(test, train if exclude else None)
        codes = self.schema.candidates.encode(train.candidate_ids.ids)[train.candidate_codes]
        known, corpus = codes >= 0, len(self.schema.candidates)
        if half_life_days is None:
            return score_ranks(popularity(codes[known], corpus), targets, exclude=excluded)
        if train.timestamps is None:
            raise DataError(
                "recent popularity needs a timestamp column; name it in Interactions.from_table(timestamp=…)"
            )
        scores = recent_popularity(codes[known], train.timestamps[known], corpus, half_life_days=half_life_days)
        return score_ranks(scores, targets, exclude=excluded)

    # Inside

    def _test_part(
        self, test: Interactions, exclude: Interactions | Sequence[Interactions] | None
    ) -> tuple[pa.Array, Ragged, Ragged | None]:
        """Queries of the test data, their target codes, and the codes that leave their rankings."""
        if not len(test):
            raise DataError("the test data holds no interactions")
        queries, targets = self._test_targets(test)
        return queries, targets, None if exclude is None else candidates_of(exclude, queries, self.schema)

    def _test_vectors(self, test: Interactions, queries: pa.Array, past: Any) -> NDArray[np.float32]:
        asked = self._asked_in_test(test, queries, past)
        return scoring.query_vectors(self._query_raw(asked, "quiet"), self.retrieval).astype(np.float32, copy=False)

    def _test_targets(self, test: Interactions) -> tuple[pa.Array, Ragged]:
        """The queries of the test data and the distinct candidate codes of each, −1 for one outside the corpus."""
        present = np.flatnonzero(test.query_counts() > 0).astype(np.int32)
        place = np.full(len(test.query_ids), -1, np.int32)
        place[present] = np.arange(len(present), dtype=np.int32)
        code = self.schema.candidates.encode(test.candidate_ids.ids)
        pairs = np.unique(np.stack([place[test.query_codes], test.candidate_codes], 1), axis=0)
        offsets = np.zeros(len(present) + 1, np.int32)
        np.cumsum(np.bincount(pairs[:, 0], minlength=len(present)), out=offsets[1:])
        outside = int((code[pairs[:, 1]] < 0).sum())
        if outside:
            log.info(
                "%d of %d test interactions are on candidates outside the corpus and count as misses",
                outside,
                len(pairs),
            )
        return test.query_ids.decode(present), Ragged(code[pairs[:, 1]], offsets)

    def _asked_in_test(self, test: Interactions, queries: pa.Array, past: Any) -> _Asked:
        history = None
        if self._histories():
            history = (
                self._stored_history(self.schema.queries.encode(queries))
                if past is None
                else candidates_of(past, queries, self.schema)
            )
        table = test.queries.take(pa.array(test.query_ids.encode(queries)))
        covers = {f.name for f in self.query.features if not isinstance(f, History)} <= set(table.column_names)
        return _Asked(len(queries), self.schema.queries.encode(queries), queries, history, table if covers else None)

    def _asked(self, queries: Any, history: Iterable[Any] | None, features: Any) -> _Asked:
        """Check how the queries are named and settle their codes, histories and side features."""
        if queries is None and history is None and features is None:
            raise DataError("name the queries: ids, history=, or features=")
        if isinstance(queries, (str, int)):
            raise DataError(f"queries must be a list of ids, got {queries!r}; write [{queries!r}]")
        lists = None if history is None else list(history)
        table = None if features is None else read(features, "features", ids=()).table
        ids = None if queries is None else as_id_array(queries, self.schema.queries)
        sizes = {n: len(x) for n, x in (("queries", ids), ("history", lists), ("features", table)) if x is not None}
        if len(set(sizes.values())) > 1:
            raise DataError(f"rows do not match: {', '.join(f'{name} has {size}' for name, size in sizes.items())}")
        size = next(iter(sizes.values()))
        codes = np.full(size, -1, np.int32) if ids is None else codes_of(ids, self.schema.queries)
        past = ragged_codes(lists, self.schema.candidates) if lists is not None else self._stored_history(codes)
        return _Asked(size, codes, ids, past, table, given_history=lists is not None)

    def _histories(self) -> list[History]:
        return [feature for feature in self.query.features if isinstance(feature, History)]

    def _stored_history(self, codes: NDArray[np.int32]) -> Ragged:
        """Training rows of each query code; none for −1."""
        seen = self.catalog.seen
        padded = Ragged(seen.values, np.append(seen.offsets, seen.offsets[-1]))
        return padded.take(np.where(codes < 0, len(self.schema.queries), codes))

    def _query_raw(self, asked: _Asked, unknown: Unknown | Literal["quiet"]) -> NDArray[np.floating]:
        """(n, d) raw output of the query tower."""
        if asked.table is not None:
            return _embed(self.query_tower, self._encode_table(self.query, "query", asked.table, asked))
        if asked.ids is not None:
            self._warn_unknown(asked, unknown)
        features = self.catalog.query.take(np.maximum(asked.codes, 0))
        missing = np.flatnonzero(asked.codes < 0)
        out = _embed(self.query_tower, self._with_history(features, asked.history))
        if len(missing):
            nothing = self._with_history(
                neutral(self.query, len(missing)), asked.history and asked.history.take(missing)
            )
            out = out.copy()  # a backend may hand out an array that is not to be written to
            out[missing] = _embed(self.query_tower, nothing)
        return out

    def _warn_unknown(self, asked: _Asked, unknown: Unknown | Literal["quiet"]) -> None:
        missing = np.flatnonzero(asked.codes < 0)
        if not len(missing) or unknown in ("quiet", "popular"):
            return
        assert asked.ids is not None
        first = asked.ids[int(missing[0])].as_py()
        what = f"{len(missing)} of {asked.size} queries were never seen in training, the first is {first!r}"
        if unknown == "error":
            raise DataError(f"{what}; leave it out, or pass unknown='oov' or 'popular'")
        if not asked.given_history:
            warnings.warn(
                f"{what}; answered from OOV rows (unknown='popular' answers by popularity, history= or features= by "
                "what is known)",
                stacklevel=4,
            )

    def _with_history(self, features: Features, history: Ragged | None) -> Features:
        histories = self._histories()
        if not histories or history is None:
            return features
        codes = {feature.name: history_rows(feature, self.schema, history) for feature in histories}
        return Features(features.size, {**features.codes, **codes}, features.dense)

    def _encode_table(
        self, tower: TowerSpec, side: Literal["query", "candidate"], table: Any, asked: _Asked | None
    ) -> Features:
        table = table if isinstance(table, pa.Table) else read(table, "features", ids=()).table
        id_name = self.schema.query_name if side == "query" else self.schema.candidate_name
        if id_name not in table.column_names and any(feature.name != id_name for feature in tower.features):
            ids = asked.ids if asked is not None and asked.ids is not None else None
            vocabulary = self.schema.queries if side == "query" else self.schema.candidates
            table = table.append_column(id_name, ids if ids is not None else pa.nulls(len(table), vocabulary.ids.type))
        return encode(tower, side, self.schema, table, asked.history if asked else None)

    def _known_candidates(self, ids: Any) -> NDArray[np.int32]:
        array = as_id_array(ids, self.schema.candidates)
        codes = self.schema.candidates.encode(array)
        if (codes < 0).any():
            bad = array[int(np.argmin(codes))].as_py()
            raise DataError(f"candidate {bad!r} is not in the corpus of {len(self.schema.candidates)}")
        return codes

    def _excluded(self, exclude: Exclude, asked: _Asked) -> Ragged | None:
        if exclude is None:
            return None
        if isinstance(exclude, str):
            if exclude != "seen":
                raise DataError(f"exclude must be interactions, 'seen', or a list of ids a query; got {exclude!r}")
            return _join(self._stored_history(asked.codes), asked.history if asked.given_history else None)
        if isinstance(exclude, Interactions) or (len(exclude) and isinstance(exclude[0], Interactions)):
            if asked.ids is None:
                raise DataError("exclude=interactions needs query ids; pass a list of ids a query instead")
            return candidates_of(exclude, asked.ids, self.schema)  # type: ignore[arg-type]
        if len(exclude) != asked.size:
            raise DataError(f"exclude must hold a list of ids for each of the {asked.size} queries, got {len(exclude)}")
        return ragged_codes(exclude, self.schema.candidates)

    def _popular_where_unknown(
        self, found: TopK, asked: _Asked, k: int, excluded: Ragged | None, allowed: NDArray[np.int32] | None
    ) -> TopK:
        from recs_core.index import ExactIndex

        missing = np.flatnonzero(asked.codes < 0)
        if not len(missing) or asked.given_history:
            return found
        index = ExactIndex()
        index.build(self.catalog.counts[:, None].astype(np.float32))
        popular = index.search(
            np.ones((len(missing), 1), np.float32), k, exclude=excluded and excluded.take(missing), allow=allowed
        )
        ids, scores = found.ids.copy(), found.scores.copy()
        ids[missing], scores[missing] = popular.ids, popular.scores
        return TopK(ids, scores)

    def _with_ids(self, found: TopK) -> TopK:
        """Corpus positions → ids in the user's own type; None or −1 where missing."""
        vocabulary = self.schema.candidates
        flat = found.ids.ravel()
        if pa.types.is_integer(vocabulary.ids.type):
            ids = vocabulary.ids.to_numpy()[np.maximum(flat, 0)]
            return TopK(np.where(flat < 0, -1, ids).reshape(found.ids.shape), found.scores)
        names = vocabulary.decode(flat).to_pylist()
        return TopK(np.array(names, object).reshape(found.ids.shape), found.scores)


@dataclass(frozen=True)
class _Asked:
    """Queries as asked for: their number, codes (−1: unknown), ids, histories (candidate codes) and side features."""

    size: int
    codes: NDArray[np.int32]
    ids: pa.Array | None
    history: Ragged | None
    table: pa.Table | None
    given_history: bool = False


def _embed(tower: Tower, features: Features) -> NDArray[np.floating]:
    if features.size <= EMBED_ROWS:
        return tower.embed(features)
    rows = np.arange(features.size, dtype=np.int32)
    return np.concatenate(
        [tower.embed(features.take(rows[start : start + EMBED_ROWS])) for start in range(0, features.size, EMBED_ROWS)]
    )


def _join(first: Ragged, second: Ragged | None) -> Ragged:
    """Row by row, the values of both."""
    if second is None:
        return first
    rows = np.concatenate([first.segments, second.segments])
    order = np.argsort(rows, kind="stable")
    return Ragged(np.concatenate([first.values, second.values])[order], first.offsets + second.offsets)
