"""What a fitted model answers: vectors, recommendations, similar candidates, exact metrics. No framework of its own."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from recs_core import scoring
from recs_core.asked import (
    Asked,
    Exclude,
    Unknown,
    asked,
    asked_in_test,
    check_interactions,
    side_table,
)
from recs_core.contract.batch import Features, Ragged
from recs_core.contract.errors import DataError, NotFitted, SpecError
from recs_core.contract.protocols import Index, TopK, Tower, lacking
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.data.catalog import Catalog
from recs_core.data.context import Context, is_asked_now
from recs_core.data.encoding import encode
from recs_core.data.ids import codes_or_unknown, id_list
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.evaluation.evaluable import Evaluable
from recs_core.fitted import Declared
from recs_core.growth.growing import Growing

if TYPE_CHECKING:
    from recs_core.evaluation.targets import Targets
    from recs_core.explained import Explanation
    from recs_core.index.live import LiveIndex
    from recs_core.where import Filters, Where

log = logging.getLogger("recs_core")

EMBED_ROWS = 65_536
"""Rows embedded at a time, so that memory beyond the result stays bounded."""

DECLARED: Final = tuple(declared.name for declared in fields(Declared))
"""What was trained: fixed once a model is fitted."""


@dataclass
class _Corpus:
    """Vectors of all candidates and the index over them, as of one state of the weights and one catalog."""

    version: Hashable
    catalog: Catalog
    vectors: NDArray[np.floating]
    index: LiveIndex | None = None
    index_of: Index | str | None = None


@dataclass
class Recommender(Evaluable, Growing):
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
        self._corpus: _Corpus | None = None
        self._filters: Filters | None = None
        self._told_of_clock = False

    def __setattr__(self, name: str, value: Any) -> None:
        """What was declared is fixed once fitted: answers, and a bundle, would no longer be those of the training."""
        if name in DECLARED and self.__dict__.get("_catalog") is not None and value != getattr(self, name):
            how = (
                "fit(train, optimizer=…) trains on with another one"
                if name == "optimizer"
                else "pass fit its arguments to train on otherwise"
                if name == "training"
                else "declare a new TwoTower and fit it"
            )
            raise SpecError(f"{name} of a fitted model is fixed; {how}")
        if name == "index" and value is not None and not isinstance(value, str) and lacking(value, Index):
            raise SpecError(f"index is an Index, or a name such as 'exact', got {type(value).__name__}")
        super().__setattr__(name, value)

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

    @property
    def version(self) -> Hashable:
        """Equal as long as no weight has moved."""
        return None

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
        history: Any = None,
        history_at: Any = None,
        features: Any = None,
        context: Context = None,
        at: Any = None,
        unknown: Unknown = "oov",
    ) -> NDArray[np.floating]:
        """(n, d) retrieval vectors: their inner product with `encode_candidate`'s is the score.

        Name queries by id, by their `history` (one list of candidate ids per query, oldest first), by a table of
        `features`, or by several of these for the same rows. `history_at`: of a model that reads when past candidates
        were, one list of times per query, beside `history`. The id column of a table of features names the queries
        where `queries` does not. `context`: of a model that reads what a row of the interactions tells, such as its
        device, a table of these columns, one row per query, or "blank" for a request that says nothing. `at`: of a
        model that reads the time, when the query is asked, as dates, timestamps, ISO strings or seconds, one for all or
        one per query; by default now, which is logged once, or with `context="blank"` as if it was not known. An id
        that training never saw is answered from OOV rows with a warning, or is an error with `unknown="error"`, and so
        is a row without an id whose history says nothing to the model. Raises `DataError` naming the argument and the
        row that cannot be read, and for a dict of columns that has one which the model does not read.
        """
        question = self.asked(queries, history, features, context, at, history_at)
        question.check_unknown(unknown, stacklevel=2)
        return self._query_vectors(question)

    def encode_candidate(self, candidates: Any = None, *, features: Any = None) -> NDArray[np.floating]:
        """(n, d) retrieval vectors of the ids given, of a table of `features`, or of the whole corpus (read-only).

        A table's rows that name a candidate of the corpus, by the table's own id column or by `candidates`, are that
        candidate with these features: its id's row and its bias are used. All others are new ones, with bias 0.
        """
        if features is None:
            vectors = self._corpus_as_of_now().vectors
            return vectors if candidates is None else vectors[self._known(candidates, "candidates")]
        vocabulary = self.schema.candidates
        ids = None if candidates is None else id_list(candidates, "candidates", vocabulary)
        table, ids = side_table(features, self.candidate, self.schema.candidate_name, ids, vocabulary)
        if ids is not None and len(ids) != len(table):
            raise DataError(f"rows do not match: candidates has {len(ids)}, features has {len(table)}")
        raw = _embed(self.candidate_tower, encode(self.candidate, "candidate", self.schema, table))
        codes = codes_or_unknown(ids, vocabulary, len(table))
        weights = self.weights()
        if "task/bias" in weights:
            bias = weights["task/bias"]
            weights = {**weights, "task/bias": np.where(codes < 0, bias.dtype.type(0), bias[np.maximum(codes, 0)])}
        return scoring.candidate_vectors(raw, self.retrieval, weights)

    def _query_vectors(self, question: Asked) -> NDArray[np.floating]:
        raw = _embed(self.query_tower, question.features(self.query, self.catalog))
        return scoring.query_vectors(raw, self.retrieval)

    def _corpus_as_of_now(self) -> _Corpus:
        """Computed when first asked for, and again once a weight or the catalog has changed."""
        version, catalog = self.version, self.catalog
        held = self._corpus
        if held is None or held.version != version or held.catalog is not catalog:
            vectors = self._embedded_corpus().view()
            vectors.flags.writeable = False
            held = self._corpus = _Corpus(version, catalog, vectors)
        return held

    def _embedded_corpus(self) -> NDArray[np.floating]:
        raw = _embed(self.candidate_tower, self.catalog.candidate)
        return scoring.candidate_vectors(raw, self.retrieval, self.weights())

    def _searchable(self) -> LiveIndex:
        from recs_core.index.live import LiveIndex

        corpus = self._corpus_as_of_now()
        if corpus.index is None or corpus.index_of is not self.index:
            vectors = corpus.vectors.astype(np.float32, copy=False)
            corpus.index = LiveIndex(vectors, self.index, self.catalog.retired)
            corpus.index_of = self.index
        return corpus.index

    def search_with(self, index: Index) -> None:
        """Use an index that holds the corpus' vectors already, restored and not built; until a weight moves."""
        from recs_core.index.live import LiveIndex

        corpus = self._corpus_as_of_now()
        self.index = corpus.index_of = index
        vectors = corpus.vectors.astype(np.float32, copy=False)
        corpus.index = LiveIndex(vectors, index, self.catalog.retired, built=True)

    # Answers

    def recommend(
        self,
        queries: Any = None,
        k: int = 10,
        *,
        history: Any = None,
        history_at: Any = None,
        features: Any = None,
        context: Context = None,
        at: Any = None,
        exclude: Exclude = None,
        allow: Any = None,
        where: Where | None = None,
        diversity: float | None = None,
        pool: int | None = None,
        unknown: Unknown = "oov",
    ) -> TopK:
        """The best k candidates of each query: ids in the user's own type, and scores, (Q, min(k, corpus)).

        Queries as in `encode_query`. `exclude`: interactions whose candidates must not come back, "seen" (what the
        model knows a query to have taken, and the `history` given), or one list of ids per query. `allow`: the only
        candidate ids that may come back. `where`: a condition that they must meet, over the columns of
        `catalog.attributes`: an Arrow expression such as `pc.field("price") < 10`, or {column: value, [values] or
        (low, high), None being open}; a null meets none. `diversity`, from 0 to 1: choose the k for variety too, by
        maximal marginal relevance (docs/meanings.md) among the best `pool`, by default 10 k, 100 at least; their order
        is that of the choice. `unknown="popular"` answers queries of which nothing is known by training popularity.
        Where fewer than k are left, ids are None or −1, and scores − inf.

        Raises `DataError` for k ≤ 0, an unknown candidate id in `allow`, a column that is not there or cannot be
        compared so, a pool ≤ k, or arguments that cannot be read.
        """
        from recs_core.index.answers import named

        options: dict[str, Any] = {"exclude": exclude, "allow": allow, "where": where, "unknown": unknown}
        options |= {"history": history, "history_at": history_at, "features": features, "context": context, "at": at}
        options |= {"diversity": diversity, "pool": pool}
        return named(self.recommend_codes(queries, k, **options), self.schema.candidates)

    def recommend_codes(
        self,
        queries: Any = None,
        k: int = 10,
        *,
        history: Any = None,
        history_at: Any = None,
        features: Any = None,
        context: Context = None,
        at: Any = None,
        exclude: Exclude = None,
        allow: Any = None,
        where: Where | None = None,
        diversity: float | None = None,
        pool: int | None = None,
        unknown: Unknown | Literal["quiet"] = "oov",
    ) -> TopK:
        """As `recommend`, but candidate codes, −1 where missing; `unknown="quiet"` is "oov" without the warning."""
        from recs_core.index.answers import popular_instead
        from recs_core.index.diverse import chosen, pool_size
        from recs_core.index.plan import check_k

        size = len(self.schema.candidates)
        k, pool = check_k(k, size), pool_size(k, diversity, pool, size)
        question = self.asked(queries, history, features, context, at, history_at)
        excluded = question.excluded(exclude, self.catalog)
        allowed = self._allowed(allow, where)
        if unknown != "quiet":
            question.check_unknown(unknown, stacklevel=3)
        vectors = self._query_vectors(question).astype(np.float32, copy=False)
        found = self._searchable().search(vectors, pool, exclude=excluded, allow=allowed)
        if unknown == "popular":
            counts, retired = self.catalog.counts, self.catalog.retired
            found = popular_instead(found, question.strangers, counts, excluded, allowed, retired)
        if not diversity:
            return found
        return chosen(found, scoring.embeddings(self._corpus_as_of_now().vectors, self.retrieval), k, diversity)

    def explain(
        self,
        query: Any,
        candidate: Any,
        *,
        history: Any = None,
        features: Any = None,
        context: Context = None,
        at: Any = None,
        unknown: Unknown = "oov",
    ) -> Explanation:
        """The parts that a score is the sum of: a query's features, each candidate of its history, and the bias.

        `query`: one id, or None; `candidate`: one id. `history`: a list of candidate ids, `features`: a table of one
        row, `context`, `at` and `unknown`, as in `recommend`. Raises `UnsupportedFeature` where the query tower has
        layers or is a module of one's own, and for a query that `unknown="popular"` answers by popularity: such a score
        has no parts. Raises `DataError` as `recommend`.
        """
        from recs_core.explained import explained

        return explained(self, query, candidate, history, features, context, at, unknown)

    def similar(self, candidates: Any, k: int = 10, *, allow: Any = None, where: Where | None = None) -> TopK:
        """The k candidates nearest to each candidate by cosine of their embeddings, itself left out: ids and scores,
        (n, min(k, corpus)). `allow`, `where` and errors as in `recommend`."""
        from recs_core.index.answers import named
        from recs_core.index.live import LiveIndex
        from recs_core.index.plan import check_k

        k = check_k(k, len(self.schema.candidates))
        codes = self._known(candidates, "candidates")
        unit = scoring.unit_vectors(self._corpus_as_of_now().vectors, self.retrieval).astype(np.float32, copy=False)
        index = LiveIndex(unit, None, self.catalog.retired)
        itself = Ragged(codes, np.arange(len(codes) + 1, dtype=np.int32))
        found = index.search(unit[codes], k, exclude=itself, allow=self._allowed(allow, where))
        return named(found, self.schema.candidates)

    # Inside

    def asked(
        self, queries: Any, history: Any, features: Any, context: Context = None, at: Any = None, history_at: Any = None
    ) -> Asked:
        """What these arguments of `recommend` ask of this model. Logs, once, that the clock says when."""
        question = asked(self.catalog, self.query, queries, history, features, context, at, history_at)
        if not self._told_of_clock and is_asked_now(context, at, self.schema):
            self._told_of_clock = True
            log.warning(
                "at: not given, so that queries are asked as of now, here and in later calls; this model reads when a "
                "query is asked: pass at=, or context='blank' to answer as if it was not known"
            )
        return question

    def _test_vectors(
        self, test: Interactions, asked_for: Targets, past: Interactions | Sequence[Interactions] | None
    ) -> NDArray[np.float32]:
        if past is not None:
            check_interactions(past, "history")
        queries = asked_for.queries
        question = asked_in_test(self.catalog, self.query, test, queries, asked_for.rows, past)
        others = {feature.name for feature in self.query.features} - {
            self.schema.query_name,
            self.schema.candidate_name,
        }
        if (question.codes < 0).all() and not others and not len(question.past.codes.values):
            warnings.warn(
                f"none of the {len(question)} test queries was seen in training (the first is "
                f"{queries[0].as_py()!r}, training has {self.schema.queries.ids[0].as_py()!r}): all are answered alike",
                stacklevel=4,
            )
        return self._query_vectors(question).astype(np.float32, copy=False)

    def _known(self, ids: Any, where: str) -> NDArray[np.int32]:
        return self.catalog.asked_for(ids, where)

    def _allowed(self, allow: Any, where: Where | None) -> NDArray[np.integer] | None:
        """Codes of the candidates that may come back, ascending; None for all."""
        listed = None if allow is None else np.unique(self._known(allow, "allow"))
        if where is None:
            return listed
        from recs_core.where import Filters

        attributes = self.catalog.attributes
        if self._filters is None or self._filters.attributes is not attributes:
            self._filters = Filters(attributes)
        kept = self._filters.kept(where)
        return kept if listed is None else np.intersect1d(kept, listed, assume_unique=True)


def _embed(tower: Tower, features: Features) -> NDArray[np.floating]:
    if features.size <= EMBED_ROWS:
        return tower.embed(features)
    rows = np.arange(features.size, dtype=np.int32)
    return np.concatenate(
        [tower.embed(features.take(rows[start : start + EMBED_ROWS])) for start in range(0, features.size, EMBED_ROWS)]
    )
