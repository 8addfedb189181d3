"""The contract's retrieval task in TensorFlow: checked and planned by the core, computed by `kernel.loss`."""

from __future__ import annotations

from typing import Any, Unpack, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import TaskInputs
from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import plan_task
from recs_core.contract.weights import Weights
from recs_core_tensorflow import kernel
from recs_core_tensorflow.environment import refuse_forked, tf

NO_ARRAYS = ("positives", "negatives_from", "uncorrected_from")
"""Those of `TaskInputs` that are never tensors."""


class RetrievalTask:
    """The contract's `RetrievalTask`. `bias`, `log_temperature`: `tf.Variable` or None."""

    def __init__(self, spec: RetrievalSpec, dtype: DType, bias: Any = None, log_temperature: Any = None) -> None:
        self.spec, self.dtype = spec, dtype
        self.bias, self.log_temperature = bias, log_temperature

    @classmethod
    def alone(cls, spec: RetrievalSpec, weights: Weights | None, dtype: DType) -> RetrievalTask:
        """A task without a model. Raises `SpecError` for a bias of which no weights are given."""
        refuse_forked()
        given = weights or {}
        if spec.candidate_bias and "task/bias" not in given:
            raise SpecError(
                "candidate_bias=True needs weights={'task/bias': …}, one number per candidate; or candidate_bias=False"
            )
        bias = tf.Variable(given["task/bias"], dtype=dtype, name="task/bias") if spec.candidate_bias else None
        log_temperature = None
        if spec.learn_temperature:
            start = given.get("task/log_temperature", np.log(spec.temperature))
            log_temperature = tf.Variable(start, dtype=dtype, name="task/log_temperature")
        return cls(spec, dtype, bias, log_temperature)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, query: Any, candidate: Any, **inputs: Unpack[TaskInputs]) -> Any:
        """The loss, a scalar tensor. In a `tf.function` the embeddings may be symbolic; what plans the task may not."""
        refuse_forked()
        query, candidate = tf.convert_to_tensor(query, self.dtype), tf.convert_to_tensor(candidate, self.dtype)
        arrays: Any = {name: _concrete(name, value) for name, value in inputs.items() if name not in NO_ARRAYS}
        num_queries, num_candidates = _known_rows(query), _known_rows(candidate)
        plan = plan_task(self.spec, num_queries, num_candidates, **{**inputs, **arrays})
        bias = None if self.bias is None else self._bias_of(inputs.get("candidate_ids"), num_candidates)
        return kernel.loss(self.spec, kernel.pack(plan, self.dtype), query, candidate, bias, self.log_temperature)

    def _bias_of(self, candidate_ids: ArrayLike | None, num_candidates: int) -> Any:
        if candidate_ids is not None:
            return tf.gather(self.bias, candidate_ids)
        if self.spec.negatives == "corpus" and self.bias.shape[0] == num_candidates:
            return tf.convert_to_tensor(self.bias)
        raise SpecError("candidate_bias=True needs candidate_ids, the code of each candidate column")


def _concrete(name: str, value: Any) -> NDArray[Any] | None:
    if tf.is_symbolic_tensor(value):
        raise SpecError(f"{name} must be known when the task is planned; a tf.function takes model.native.compute_loss")
    return None if value is None else np.asarray(value)


def _known_rows(embeddings: Any) -> int:
    rows = embeddings.shape[0]
    if rows is None:
        raise SpecError("the task is planned for a known number of embeddings; use model.native.compute_loss")
    return cast(int, rows)
