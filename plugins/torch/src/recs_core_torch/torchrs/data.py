"""Interactions as a `torch.utils.data.Dataset`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import Dataset

from recs_core.contract.errors import DataError
from recs_core.contract.randomness import generator

Ids = NDArray[np.int64]


class RecommendationDataset(Dataset[dict[str, Tensor]]):
    """Rows {"user_id", "item_id", "rating", "label"}, the last two where given.

    Whole-number ids ≥ 0 stay as they are. Other ids (strings) become codes 0 … n − 1, positions in `user_vocabulary` or
    `item_vocabulary`, which are None for whole numbers. Raises `DataError` for lengths that differ or negative ids.
    """

    def __init__(
        self,
        user_ids: ArrayLike,
        item_ids: ArrayLike,
        ratings: ArrayLike | None = None,
        *,
        labels: ArrayLike | None = None,
    ) -> None:
        self.user_ids, self.user_vocabulary = _codes("user_ids", user_ids)
        self.item_ids, self.item_vocabulary = _codes("item_ids", item_ids)
        self.ratings = None if ratings is None else np.asarray(ratings, np.float32)
        self.labels = None if labels is None else np.asarray(labels, np.float32)
        for name, column in (("item_ids", self.item_ids), ("ratings", self.ratings), ("labels", self.labels)):
            if column is not None and column.shape != self.user_ids.shape:
                raise DataError(f"{name} must hold one value per row, {len(self.user_ids)}; got shape {column.shape}")

    def __len__(self) -> int:
        return len(self.user_ids)

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        columns = {"user_id": self.user_ids, "item_id": self.item_ids, "rating": self.ratings, "label": self.labels}
        return {name: torch.as_tensor(column[row]) for name, column in columns.items() if column is not None}

    def negative_sampling(self, num_negatives: int, *, seed: int = 0) -> RecommendationDataset:
        """The rows with label 1; per row `num_negatives` with label 0 (rating NaN), of items the user has no row with.

        Drawn uniformly from the items of the data set, the same for the same seed. Raises `DataError` for a user who
        has a row with every item.
        """
        users, user = np.unique(self.user_ids, return_inverse=True)
        items, item = np.unique(self.item_ids, return_inverse=True)
        known = np.unique(user * len(items) + item)  # the pairs that have a row, as numbers
        full = np.bincount(known // max(1, len(items))) == len(items)
        if len(items) and full.any():
            raise DataError(f"user {users[full][0]} has a row with every item; there is no negative to draw")
        owner, drawn = np.repeat(user, num_negatives), np.repeat(item, num_negatives)
        random = generator(seed, "torchrs/negatives")
        while len(bad := np.flatnonzero(np.isin(owner * len(items) + drawn, known))):
            drawn[bad] = random.choice(len(items), len(bad))
        out = RecommendationDataset(
            np.concatenate([self.user_ids, users[owner]]),
            np.concatenate([self.item_ids, items[drawn]]),
            None if self.ratings is None else np.concatenate([self.ratings, np.full(len(owner), np.nan)]),
            labels=np.repeat([1.0, 0.0], [len(self), len(owner)]),
        )
        out.user_vocabulary, out.item_vocabulary = self.user_vocabulary, self.item_vocabulary
        return out


def _codes(name: str, ids: ArrayLike) -> tuple[Ids, list[Any] | None]:
    array = np.asarray(ids)
    if array.ndim != 1:
        raise DataError(f"{name} must be a list of ids, got shape {array.shape}")
    if np.issubdtype(array.dtype, np.integer):
        if len(array) and array.min() < 0:
            raise DataError(f"{name} must be ≥ 0, got {array.min()}")
        return array.astype(np.int64), None
    vocabulary, codes = np.unique(array, return_inverse=True)
    return codes.astype(np.int64), vocabulary.tolist()
