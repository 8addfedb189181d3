"""The retrieval task: softmax over the whole batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from recs_core.contract.errors import DataError
from recs_core.contract.retrieval import RetrievalSpec
from recs_core_torch.task import RetrievalTask
from recs_core_torch.torchrs.metrics import FactorizedTopK

DOT = RetrievalSpec(scoring="dot", temperature=1.0, candidate_bias=False, logq=False)
"""What TorchRS promises: dot products, every other row of the batch a negative, accidental hits masked."""


class Retrieval(nn.Module):
    """`task(query (B, d), candidate (B, d), positive_items=ids)` → the loss, row i's positive being candidate i.

    `metrics`: one metric or several, evaluated by `RetrievalModel.evaluate`. `spec`: any in-batch `RetrievalSpec`
    without a candidate bias: temperature, cosine, hard negatives, logQ, reduction.
    """

    def __init__(
        self, metrics: FactorizedTopK | Iterable[FactorizedTopK] | None = None, *, spec: RetrievalSpec = DOT
    ) -> None:
        super().__init__()
        self.metrics = [metrics] if isinstance(metrics, FactorizedTopK) else list(metrics or ())
        self.softmax = RetrievalTask(spec)

    def forward(
        self,
        query: Tensor,
        candidate: Tensor,
        positive_items: ArrayLike | None = None,
        negative_embeddings: Tensor | None = None,
        negative_items: ArrayLike | None = None,
        **options: Any,
    ) -> Tensor:
        """The loss. `positive_items` (B,): item ids; another row with the same id is no negative. Without them every
        other row is one. `negative_embeddings` (N, d) come on top of the batch, `negative_items` (N,) are their ids.
        `options`: `sample_weight`, `candidate_sampling_probability`, `score_mask`, as `recs_core_torch.RetrievalTask`.

        Raises `DataError` for shapes that do not fit, as when ids are passed where embeddings go.
        """
        ids = torch.arange(len(query)) if positive_items is None else torch.as_tensor(positive_items).cpu()
        if ids.shape != (len(query),):
            raise DataError(f"positive_items must be {len(query)} ids, one per row; got shape {tuple(ids.shape)}")
        if negative_embeddings is not None:
            negatives = _embeddings(negative_embeddings, query.shape[1])
            candidate = torch.cat([candidate, negatives])
            # Without ids a negative counts as no item of the batch, so it is never taken for an accidental hit.
            unknown = -1 - torch.arange(len(negatives))
            extra = unknown if negative_items is None else torch.as_tensor(negative_items).cpu()
            if extra.shape != (len(negatives),):
                raise DataError(
                    f"negative_items must be {len(negatives)} ids, one per row; got shape {tuple(extra.shape)}"
                )
            ids = torch.cat([ids, extra])
        codes = np.unique(ids.numpy(), return_inverse=True)[1]
        targets = np.arange(len(query))
        return self.softmax(
            query, candidate, target_query=targets, target_candidate=targets, candidate_ids=codes, **options
        )


def _embeddings(negatives: Tensor, dim: int) -> Tensor:
    if not negatives.is_floating_point() or negatives.ndim != 2 or negatives.shape[1] != dim:
        raise DataError(
            f"negative_embeddings must be vectors (n, {dim}), got {tuple(negatives.shape)} of {negatives.dtype}; "
            "pass ids through the item model first"
        )
    return negatives
