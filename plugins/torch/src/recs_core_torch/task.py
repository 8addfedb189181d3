"""The retrieval task as an `nn.Module`: cosine or dot scores, ÷ temperature, + bias, then the blocked softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON, TaskPlan, plan_task
from recs_core.contract.weights import Weights
from recs_core_torch import kernel
from recs_core_torch.tensors import as_tensor


class RetrievalTask(nn.Module):
    """`task(query, candidate, **batch.task)` → the loss, a scalar tensor.

    Parameters, where the spec has them: `bias` (corpus,), a number per candidate, read at `candidate_ids`; and
    `log_temperature` (). A fixed temperature is a buffer. `weights`: `task/bias`, which a spec with a bias needs, and
    `task/log_temperature`, where it is not to start as the spec says.
    """

    bias: nn.Parameter | None
    log_temperature: Tensor

    def __init__(
        self,
        spec: RetrievalSpec,
        weights: Weights | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> None:
        super().__init__()
        given = weights or {}
        if spec.candidate_bias and "task/bias" not in given:
            raise SpecError(
                "candidate_bias=True needs weights={'task/bias': …}, one per candidate; or say candidate_bias=False"
            )
        self.spec = spec

        def tensor(value: Any) -> Tensor:
            return torch.tensor(value, dtype=dtype, device=device)

        self.register_parameter("bias", nn.Parameter(tensor(given["task/bias"])) if spec.candidate_bias else None)
        start = math.log(spec.temperature)
        if spec.learn_temperature:
            self.log_temperature = nn.Parameter(tensor(given.get("task/log_temperature", start)))
        else:
            self.register_buffer("log_temperature", tensor(start), persistent=False)

    def extra_repr(self) -> str:
        """What `print(task)` shows: the options that decide the loss."""
        temperature = math.exp(self.log_temperature.item())
        return f"{self.spec.scoring}, temperature={temperature:g}, negatives={self.spec.negatives!r}"

    def forward(
        self,
        query: Tensor | ArrayLike,
        candidate: Tensor | ArrayLike,
        *,
        candidate_ids: ArrayLike | None = None,
        **inputs: Any,
    ) -> Tensor:
        """The loss of (Q, d) queries against (C, d) candidates; see `recs_core.contract.protocols.RetrievalTask`."""
        if self.bias is None:
            return self.loss(query, candidate, None, candidate_ids=candidate_ids, **inputs)
        if candidate_ids is None:
            raise SpecError("candidate_bias=True needs candidate_ids, the code of each candidate column")
        codes = np.asarray(candidate_ids)
        if codes.size and not (codes.min() >= 0 and codes.max() < len(self.bias)):
            raise DataError(f"candidate_ids must lie in 0 … {len(self.bias) - 1}, got {codes.min()} … {codes.max()}")
        bias = self.bias[as_tensor(codes, self.bias.device).long()]
        return self.loss(query, candidate, bias, candidate_ids=codes, **inputs)

    def loss(
        self, query: Tensor | ArrayLike, candidate: Tensor | ArrayLike, bias: Tensor | None, **inputs: Any
    ) -> Tensor:
        """The loss, with the bias of each column (C,) given; in the task's own dtype, also under `torch.autocast`."""
        with torch.autocast(self.log_temperature.device.type, enabled=False):
            return self._loss(query, candidate, bias, **inputs)

    def _loss(
        self, query: Tensor | ArrayLike, candidate: Tensor | ArrayLike, bias: Tensor | None, **inputs: Any
    ) -> Tensor:
        query, candidate = self._vectors("query", query), self._vectors("candidate", candidate)
        if query.shape[1] != candidate.shape[1]:
            raise DataError(
                f"query has {query.shape[1]} dims and candidate {candidate.shape[1]}; a score needs the same"
            )
        return self.planned(plan_task(self.spec, len(query), len(candidate), **inputs), query, candidate, bias)

    def planned(
        self,
        plan: TaskPlan,
        query: Tensor,
        candidate: Tensor,
        bias: Tensor | None,
        others: kernel.Others | None = None,
    ) -> Tensor:
        """The loss by a plan, of vectors in the task's own dtype. `others`: see `kernel.loss`."""
        if self.spec.scoring == "cosine":
            query, candidate = normalise(query), normalise(candidate)
        return kernel.loss(query, candidate, bias, self.log_temperature, kernel.pack(plan, query), others)

    def _vectors(self, name: str, vectors: Tensor | ArrayLike) -> Tensor:
        if not isinstance(vectors, Tensor):
            vectors = as_tensor(np.asarray(vectors), self.log_temperature.device)
        vectors = vectors.to(self.log_temperature.dtype)
        if vectors.ndim != 2:
            raise DataError(f"{name} must be vectors of shape (n, d), got {tuple(vectors.shape)}")
        return vectors


def normalise(x: Tensor) -> Tensor:
    """(n, d) x / √(Σ x² + 1e-12): smooth at zero."""
    return x * torch.rsqrt((x * x).sum(1, keepdim=True) + COSINE_EPSILON)
