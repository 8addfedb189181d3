"""The recipes `ids` and `history` as one would write them by hand in PyTorch: autograd, nn.Embedding, torch.optim.

Only its speed is measured: rows do not weigh by their age, a history's share is drawn item by item, and rows of one
time follow one another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from recs_core.data.interactions import Interactions
from recs_core.recipes.choice import Recipe


@dataclass(frozen=True)
class Examples:
    """A batch of Q queries. Pairs are (place among the queries, item)."""

    users: Tensor  # (Q,)
    targets: tuple[Tensor, Tensor]  # pairs
    weight: Tensor  # of each target
    history: tuple[Tensor, Tensor]  # pairs; none where a query is a vector of its own
    never: tuple[Tensor, Tensor]  # pairs that are no negatives


class Plain(nn.Module):
    """A vector per query, or the mean of its history; a vector and a bias per candidate; cosine over temperature."""

    def __init__(self, recipe: Recipe, queries: int, candidates: int) -> None:
        super().__init__()
        self.retrieval = recipe.retrieval
        self.items = nn.Embedding(candidates, recipe.candidate.output_dim)
        self.bias = nn.Embedding(candidates, 1)
        nn.init.zeros_(self.bias.weight)
        nn.init.normal_(self.items.weight, std=0.1)
        if recipe.history is None:
            self.users = nn.Embedding(queries, recipe.query.output_dim)
            nn.init.normal_(self.users.weight, std=0.1)

    def loss(self, batch: Examples) -> Tensor:
        """Softmax cross-entropy against every item, or against items drawn uniformly."""
        row, item = batch.targets
        if hasattr(self, "users"):
            query = self.users(batch.users)
        else:
            segments, past = batch.history
            query = torch.zeros(len(batch.users), self.items.embedding_dim).index_add(0, segments, self.items(past))
        query = F.normalize(query, dim=1) / self.retrieval.temperature
        if self.retrieval.negatives == "corpus":
            every = F.normalize(self.items.weight, dim=1)
            scores = query @ every.T + self.bias.weight.T
            if len(batch.never[0]):
                scores = scores.masked_fill(self._marked(batch), -torch.inf)
            errors = scores.logsumexp(1)[row] - scores[row, item]
        else:
            assert self.retrieval.num_negatives is not None
            drawn = torch.randint(len(self.items.weight), (self.retrieval.num_negatives,))
            negative = query @ F.normalize(self.items(drawn), dim=1).T + self.bias(drawn).T
            negative = negative + np.log(len(self.items.weight) / len(drawn))
            others = negative.masked_fill(self._marked(batch)[:, drawn], -torch.inf).logsumexp(1)[row]
            positive = (query[row] * F.normalize(self.items(item), dim=1)).sum(1) + self.bias(item)[:, 0]
            errors = torch.logaddexp(others, positive) - positive
        return (batch.weight * errors).sum() / batch.weight.sum()

    def _marked(self, batch: Examples) -> Tensor:
        """(Q, candidates): which are no negatives."""
        marked = torch.zeros(len(batch.users), self.items.num_embeddings, dtype=torch.bool)
        marked[batch.never] = True
        return marked


class Rows:
    """Training rows, those of a query together and in time."""

    def __init__(self, recipe: Recipe, train: Interactions) -> None:
        times = np.zeros(len(train)) if train.timestamps is None else train.timestamps
        order = np.lexsort((times, train.query_codes))
        self.recipe = recipe
        self.users, self.items = train.query_codes[order], train.candidate_codes[order]
        self.present, self.first, self.counts = np.unique(self.users, return_index=True, return_counts=True)

    def batches(self) -> Iterator[Examples]:
        """The batches of an epoch."""
        by_query = self.recipe.training.batch_by == "query"
        units = len(self.present) if by_query else len(self.items)
        for chosen in np.array_split(np.random.permutation(units), -(-units // self.recipe.training.batch_size)):
            yield self._by_query(chosen) if by_query else self._by_interaction(chosen)

    def _by_query(self, chosen: NDArray[np.int64]) -> Examples:
        """Queries with all their items: targets, or at random some targets and some history."""
        row, items = self._all_items(chosen)
        history = self.recipe.history
        given = np.random.random(len(row)) < (0 if history is None else history.keep)
        targets, past = (row[~given], items[~given]), (row[given], items[given])
        never = (row, items) if self.recipe.retrieval.mask_positives else past
        weight = self.counts[chosen][targets[0]] ** (self.recipe.training.row_weight - 1.0)
        return examples(self.present[chosen], targets, weight, past, never)

    def _by_interaction(self, chosen: NDArray[np.int64]) -> Examples:
        """Rows, each with the items before it."""
        query = np.searchsorted(self.present, self.users[chosen])
        place = np.arange(len(chosen))
        length = chosen - self.first[query]
        history = self.recipe.history
        if history is None:
            length[:] = 0
        elif history.max_length is not None:
            length = np.minimum(length, history.max_length)
        past = (np.repeat(place, length), self.items[ranges(chosen - length, length)])
        never = self._all_items(query) if self.recipe.retrieval.mask_positives else (place[:0], place[:0])
        weight = self.counts[query] ** (self.recipe.training.row_weight - 1.0)
        return examples(self.users[chosen], (place, self.items[chosen]), weight, past, never)

    def _all_items(self, queries: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        counts = self.counts[queries]
        return np.repeat(np.arange(len(queries)), counts), self.items[ranges(self.first[queries], counts)]


def ranges(first: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """first, first + 1, … of each, `counts` many, joined."""
    return np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)


def examples(users: NDArray[np.int32], targets: tuple, weight: NDArray[np.float64], *pairs: tuple) -> Examples:
    """The arrays as tensors."""

    def tensors(pair: tuple) -> tuple[Tensor, Tensor]:
        row, item = (torch.from_numpy(array.astype(np.int64)) for array in pair)
        return row, item

    history, never = map(tensors, pairs)
    weights = torch.from_numpy(weight.astype(np.float32))
    return Examples(torch.from_numpy(users.astype(np.int64)), tensors(targets), weights, history, never)


def seconds_an_epoch(recipe: Recipe, train: Interactions, epochs: int) -> list[float]:
    """Seconds of each of the first epochs."""
    torch.manual_seed(0)
    np.random.seed(0)
    model, rows = Plain(recipe, len(train.query_ids), len(train.candidate_ids)), Rows(recipe, train)
    optimizer = torch.optim.Adam(model.parameters(), recipe.optimizer.learning_rate, fused=True)
    taken = []
    for _ in range(epochs):
        began = time.perf_counter()
        for batch in rows.batches():
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        taken.append(time.perf_counter() - began)
    return taken
