"""The recipes `ids` and `history` as one would write them by hand in PyTorch: autograd, nn.Embedding, torch.optim.

Only its speed is measured. Batches hold queries with all their candidates, as the recipes' steps do.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recs_core.data.interactions import Interactions
from recs_core.recipes.choice import Recipe
from recs_core.specs import History


class Plain(nn.Module):
    """A vector a query, or the mean of its history; a vector and a bias a candidate; cosine over temperature."""

    def __init__(self, recipe: Recipe, queries: int, candidates: int) -> None:
        super().__init__()
        self.retrieval = recipe.retrieval
        self.keep = next((f.keep for f in recipe.query.features if isinstance(f, History)), None)
        self.items = nn.Embedding(candidates, recipe.candidate.output_dim)
        self.bias = nn.Embedding(candidates, 1)
        nn.init.zeros_(self.bias.weight)
        nn.init.normal_(self.items.weight, std=0.1)
        if self.keep is None:
            self.users = nn.Embedding(queries, recipe.query.output_dim)
            nn.init.normal_(self.users.weight, std=0.1)

    def loss(self, users: Tensor, row: Tensor, item: Tensor, weight: Tensor) -> Tensor:
        """`row` (T,): the place in `users` of each of their candidates `item` (T,)."""
        own = torch.zeros(len(users), self.items.num_embeddings, dtype=torch.bool)
        if self.keep is None:
            query, own[row, item] = self.users(users), True
        else:
            given = torch.rand(len(row)) < self.keep
            query = torch.zeros(len(users), self.items.embedding_dim)
            query = query.index_add(0, row[given], self.items(item[given]))
            own[row[given], item[given]] = True
            row, item, weight = row[~given], item[~given], weight[~given]
        query = F.normalize(query, dim=1) / self.retrieval.temperature
        if self.retrieval.negatives == "corpus":
            every = F.normalize(self.items.weight, dim=1)
            scores = query @ every.T + self.bias.weight.T
            if self.keep is not None:
                scores = scores.masked_fill(own, -torch.inf)
            errors = scores.logsumexp(1)[row] - scores[row, item]
        else:
            assert self.retrieval.num_negatives is not None
            drawn = torch.randint(len(self.items.weight), (self.retrieval.num_negatives,))
            negative = query @ F.normalize(self.items(drawn), dim=1).T + self.bias(drawn).T
            negative = negative + np.log(len(self.items.weight) / len(drawn))
            others = negative.masked_fill(own[:, drawn], -torch.inf).logsumexp(1)[row]
            positive = (query[row] * F.normalize(self.items(item), dim=1)).sum(1) + self.bias(item)[:, 0]
            errors = torch.logaddexp(others, positive) - positive
        return (weight * errors).sum() / weight.sum()


def seconds_an_epoch(recipe: Recipe, train: Interactions, epochs: int) -> list[float]:
    """Seconds of each of the first epochs."""
    torch.manual_seed(0)
    model = Plain(recipe, len(train.query_ids), len(train.candidate_ids))
    optimizer = torch.optim.Adam(model.parameters(), recipe.optimizer.learning_rate, fused=True)
    order = np.argsort(train.query_codes, kind="stable")
    users, items = train.query_codes[order], train.candidate_codes[order]
    present, first, counts = np.unique(users, return_index=True, return_counts=True)
    size, taken = recipe.training.batch_size, []
    for _ in range(epochs):
        began = time.perf_counter()
        for chosen in torch.randperm(len(present)).split(size):
            picked = chosen.numpy()
            rows = np.concatenate([np.arange(first[i], first[i] + counts[i]) for i in picked])
            row = np.repeat(np.arange(len(picked)), counts[picked])
            weight = counts[picked][row] ** (recipe.training.row_weight - 1.0)
            arrays = (present[picked].astype(np.int64), row, items[rows].astype(np.int64), weight.astype(np.float32))
            optimizer.zero_grad()
            model.loss(*map(torch.from_numpy, arrays)).backward()
            optimizer.step()
        taken.append(time.perf_counter() - began)
    return taken
