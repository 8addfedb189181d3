"""What a recommender answers to test data, and what that is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from recs_core.data.catalog import Catalog
from recs_core.data.interactions import Interactions
from recs_core.evaluation.answers import Answers, Measures, OwnMetric
from recs_core.evaluation.labels import labels_of
from recs_core.evaluation.lists import exact_lists, live_ranks
from recs_core.evaluation.measures import DEFAULT_K, Ties
from recs_core.evaluation.ranking import Ranks
from recs_core.evaluation.slices import Slices, slices_of
from recs_core.evaluation.targets import Repeats, Targets, targets_of


class Evaluable:
    """`evaluate`, `answer` and `rank` of whatever has vectors and a catalog."""

    @property
    def catalog(self) -> Catalog:
        """What the model knows of its queries and candidates."""
        raise NotImplementedError

    def encode_candidate(self) -> NDArray[np.floating]:
        """(C, d) vectors of the corpus."""
        raise NotImplementedError

    def _test_vectors(self, test: Interactions, asked: Targets, past: Any) -> NDArray[np.float32]:
        raise NotImplementedError

    @overload
    def evaluate(
        self,
        test: Interactions,
        *,
        by: None = None,
        metrics: Sequence[OwnMetric] = (),
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
        k: Sequence[int] = DEFAULT_K,
        ties: Ties = "pessimistic",
        repeats: Repeats = "miss",
    ) -> dict[str, float]: ...

    @overload
    def evaluate(
        self,
        test: Interactions,
        *,
        by: str,
        metrics: Sequence[OwnMetric] = (),
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
        k: Sequence[int] = DEFAULT_K,
        ties: Ties = "pessimistic",
        repeats: Repeats = "miss",
    ) -> Slices: ...

    def evaluate(
        self,
        test: Interactions,
        *,
        by: str | None = None,
        metrics: Sequence[OwnMetric] = (),
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
        k: Sequence[int] = DEFAULT_K,
        ties: Ties = "pessimistic",
        repeats: Repeats = "miss",
    ) -> dict[str, float] | Slices:
        """Exact metrics over the whole corpus: recall, NDCG, MRR, …, and coverage and popularity of the lists that an
        exact index finds, at each k (docs/meanings.md). NaN where there is nothing to measure, as in `tail_recall`
        without a target in the tail.

        `by`: "warmth", or a column of the test's side tables or rows, of at most 50 different values: the metrics of
        each slice, with 95 % intervals. Where it tells candidates or rows apart, the slice's targets alone count, each
        ranked over the whole corpus. `metrics`: functions of your own: `Ranks` of Q queries, each with a target, → a
        number, or one for each, (Q,).

        `exclude`: interactions whose candidates leave the ranking of their query, as training rows do. `history`: what
        `History` features may look at, by default `exclude`, else the training rows. A test candidate outside the
        corpus counts as never found, and so does one that is retired, and one that `exclude` rules out, with
        `repeats="miss"`; "drop" leaves these last out, and queries that have no other.

        Raises `DataError` for what is no interactions, or none, where no target is left, and for a column that cannot
        slice; `SpecError` for settings that cannot be meant.
        """
        measures = Measures(k, ties, metrics)
        labels = [] if by is None else labels_of(by, test, self.catalog)
        answers = self.answer(test, exclude=exclude, history=history, repeats=repeats, k=max(measures.k))
        return measures.of(answers).mean() if by is None else slices_of(answers, by, labels, measures)

    def answer(
        self,
        test: Interactions,
        *,
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
        repeats: Repeats = "miss",
        k: int | None = 20,
    ) -> Answers:
        """What `evaluate` measures, as `recs_core.evaluation` takes it: the exact rank of every test candidate, and the
        k that each query is recommended; None: ranks alone. Other arguments and errors as `evaluate`'s."""
        asked = targets_of(self.catalog.schema, test, exclude, repeats)
        vectors = self._test_vectors(test, asked, exclude if history is None else history)
        corpus = self.encode_candidate().astype(np.float32, copy=False)
        retired = self.catalog.retired
        found = live_ranks(vectors, corpus, asked.codes, asked.excluded, retired)
        lists = None if k is None else exact_lists(vectors, corpus, k, asked.excluded, retired)
        return Answers(asked, found, lists, self.catalog.counts)

    def rank(
        self,
        test: Interactions,
        *,
        exclude: Interactions | Sequence[Interactions] | None = None,
        history: Interactions | Sequence[Interactions] | None = None,
        repeats: Repeats = "miss",
    ) -> Ranks:
        """The exact rank of every test candidate: `answer` without lists. Arguments and errors as `evaluate`'s."""
        return self.answer(test, exclude=exclude, history=history, repeats=repeats, k=None).ranks
