"""The two-tower model: a user's two modules and a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError
from recs_core.index import ExactIndex
from recs_core_torch.adopted import evaluating
from recs_core_torch.task import normalise
from recs_core_torch.torchrs.tasks import Retrieval

MISSING = -1
"""The id that fills up where exclusions leave fewer than k items; its score is − inf."""


class Recommendations(NamedTuple):
    """Best first: item ids (Q, k) int64, and scores (Q, k), on the device of the queries."""

    items: Tensor
    scores: Tensor


class RetrievalModel(nn.Module):
    """`user_model` and `item_model` turn ids (n,) into vectors (n, d); `task` makes the loss."""

    def __init__(self, user_model: nn.Module, item_model: nn.Module, task: Retrieval) -> None:
        super().__init__()
        self.user_model, self.item_model, self.task = user_model, item_model, task

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """The score of each pair: (n,)."""
        return (self.user_vectors(users) * self.item_vectors(items)).sum(1)

    def compute_loss(
        self,
        users: Tensor,
        items: Tensor,
        positive_items: Tensor | None = None,
        negative_items: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """The loss of pairs (user i, item i). `positive_items`: the items' ids, by default `items` itself.
        `negative_items` (N,): ids of further negatives, which go through the item model as `items` do.
        """
        negatives = None if negative_items is None else self.item_model(negative_items)
        ids = items if positive_items is None else positive_items
        return self.task(self.user_model(users), self.item_model(items), ids, negatives, negative_items, **options)

    def user_vectors(self, users: Tensor) -> Tensor:
        """(n, d), normalised where the task scores by cosine."""
        return self._scored(self.user_model(users))

    def item_vectors(self, items: Tensor) -> Tensor:
        """(n, d), normalised where the task scores by cosine."""
        return self._scored(self.item_model(items))

    def index(self, items: Tensor) -> ItemIndex:
        """The items, encoded once, to recommend from many times. Raises `DataError` for an id that stands twice."""
        with evaluating(self):
            return ItemIndex(items, self.item_vectors(items))

    def recommend(
        self, users: Tensor, candidates: Tensor | ItemIndex, k: int = 10, *, exclude: Sequence[ArrayLike] | None = None
    ) -> Recommendations:
        """The k best of `candidates` for each user: score descending, then the order given.

        `candidates`: item ids (N,), an `index`, or (Q, N) with each user's own. `exclude`: for each user, item ids not
        to recommend. A k beyond the N candidates is cut to N; where exclusions leave fewer, the id is −1 and the score
        − inf. No gradient, no dropout.
        """
        with evaluating(self):
            queries = self.user_vectors(users)
        if isinstance(candidates, Tensor) and candidates.ndim == 2:
            if len(candidates) != len(users):
                raise DataError(f"candidates has a row for each of {len(candidates)} users, but there are {len(users)}")
            hidden = [None] * len(users) if exclude is None else [[row] for row in exclude]
            each = [
                self.index(row).search(q[None], k, h) for row, q, h in zip(candidates, queries, hidden, strict=True)
            ]
            return Recommendations(torch.cat([r.items for r in each]), torch.cat([r.scores for r in each]))
        index = candidates if isinstance(candidates, ItemIndex) else self.index(candidates)
        return index.search(queries, k, exclude)

    def evaluate(self, batches: Iterable[Mapping[str, Tensor]], candidates: Tensor) -> dict[str, float]:
        """Each metric of the task over all batches (of "user_id" and "item_id") against the corpus of candidate ids."""
        for metric in self.task.metrics:
            metric.reset()
        with evaluating(self):
            corpus = self.item_vectors(candidates)
            for batch in batches:
                users = self.user_vectors(batch["user_id"])
                for metric in self.task.metrics:
                    metric.update(users, corpus, batch["item_id"], candidates)
        return {metric.name: metric.compute() for metric in self.task.metrics}

    def _scored(self, vectors: Tensor) -> Tensor:
        return normalise(vectors) if self.task.softmax.spec.scoring == "cosine" else vectors


class ItemIndex:
    """Encoded items, searched exactly."""

    def __init__(self, items: Tensor, vectors: Tensor) -> None:
        self.items = items.cpu().numpy().astype(np.int64)
        unique, counts = np.unique(self.items, return_counts=True)
        if (counts > 1).any():
            raise DataError(f"candidates must hold each item once; {unique[counts > 1][0]} stands {counts.max()} times")
        self._exact = ExactIndex()
        self._exact.build(vectors.cpu().numpy().astype(np.float32))

    def search(self, queries: Tensor, k: int, exclude: Sequence[ArrayLike] | None = None) -> Recommendations:
        """The k best items of each query, as `RetrievalModel.recommend`."""
        hidden = None if exclude is None else self._hidden(exclude, len(queries))
        found = self._exact.search(queries.cpu().numpy().astype(np.float32), k, exclude=hidden)
        items = np.where(found.ids >= 0, self.items[found.ids], MISSING)
        scores = np.asarray(found.scores)
        return Recommendations(*(torch.from_numpy(array).to(queries.device) for array in (items, scores)))

    def _hidden(self, exclude: Sequence[ArrayLike], num_queries: int) -> Ragged:
        """The excluded ids as positions; ids that are no candidates have none."""
        if len(exclude) != num_queries:
            raise DataError(f"exclude must have a row for each of {num_queries} users, got {len(exclude)}")
        return Ragged.of([np.flatnonzero(np.isin(self.items, np.asarray(row, np.int64))).tolist() for row in exclude])
