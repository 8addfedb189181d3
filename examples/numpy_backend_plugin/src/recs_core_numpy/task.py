"""The retrieval task: cosine or dot scores, and the loss of `kernel` on them."""

from typing import Any

import numpy as np

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import COSINE_EPSILON, plan_task
from recs_core_numpy import kernel


class RetrievalTask:
    """The task over its own weights: `task/bias` and `task/log_temperature`, where the spec has them."""

    def __init__(self, spec: RetrievalSpec, weights: dict[str, Any], dtype: str) -> None:
        if spec.candidate_bias and "task/bias" not in weights:
            raise SpecError("candidate_bias=True needs weights={'task/bias': …}, or say candidate_bias=False")
        self.spec, self.weights, self.dtype = spec, weights, dtype
        fixed = np.asarray(np.log(spec.temperature), dtype)
        self.log_temperature = weights.get("task/log_temperature", fixed) if spec.learn_temperature else fixed

    def __call__(self, query: Any, candidate: Any, *, candidate_ids: Any = None, **inputs: Any) -> float:
        bias = self._bias(candidate_ids) if self.spec.candidate_bias else None
        query, candidate = np.asarray(query, self.dtype), np.asarray(candidate, self.dtype)
        return float(self.gradients(query, candidate, bias, candidate_ids=candidate_ids, **inputs)[0])

    def gradients(self, query: Any, candidate: Any, bias: Any = None, **inputs: Any) -> tuple[Any, ...]:
        """The loss, and its gradients by query, candidate, bias (of each column) and log temperature."""
        packed = kernel.pack(plan_task(self.spec, len(query), len(candidate), **inputs), self.dtype)
        scaled = normalise if self.spec.scoring == "cosine" else lambda vectors: (vectors, lambda g: g)
        (x, x_back), (y, y_back) = scaled(query), scaled(candidate)
        bias = np.zeros(len(y), self.dtype) if bias is None else bias
        loss, dx, dy, *rest = kernel.loss(x, y, bias, self.log_temperature, packed)
        return loss, x_back(dx), y_back(dy), *rest

    def _bias(self, candidate_ids: Any) -> Any:
        if candidate_ids is None:
            raise SpecError("candidate_bias=True needs candidate_ids, the code of each candidate column")
        codes, bias = np.asarray(candidate_ids), self.weights["task/bias"]
        if codes.size and not 0 <= codes.min() <= codes.max() < len(bias):
            raise DataError(f"candidate_ids must lie in 0 … {len(bias) - 1}, got {codes.min()} … {codes.max()}")
        return bias[codes]


def normalise(vectors: Any) -> tuple[Any, Any]:
    """(n, d) x / √(Σ x² + 1e-12), and a function from the gradient by that to the one by the vectors."""
    length = np.sqrt((vectors**2).sum(axis=1, keepdims=True) + vectors.dtype.type(COSINE_EPSILON))
    x = vectors / length
    return x, lambda g: (g - x * (x * g).sum(axis=1, keepdims=True)) / length
