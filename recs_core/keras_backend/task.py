"""The retrieval task as a Keras user holds it: the kernel's loss, differentiable in a loop of one's own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.guard import Guard
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import plan_task
from recs_core.contract.weights import Weights
from recs_core.keras_backend import engines
from recs_core.keras_backend.engines import Engine, Tensor
from recs_core.keras_backend.kernel import Kernel, differentiable, pack, take


class RetrievalTask:
    """See `RetrievalTask` of the contract. `variables` holds its weights by canonical name: `task/bias` and
    `task/log_temperature`, where the spec has them.

    In a native loop of JAX, differentiate with respect to `variables` through `keras.StatelessScope`.
    """

    def __init__(
        self, engine: Engine, spec: RetrievalSpec, weights: Weights, dtype: DType, guard: Guard | None = None
    ) -> None:
        self.spec = spec
        self.dtype = dtype
        self._engine, self._guard = engine, guard or engines.guard(engine)
        own: dict[str, Any] = {"task/bias": weights["task/bias"]} if spec.candidate_bias else {}
        if spec.learn_temperature:
            own["task/log_temperature"] = weights.get("task/log_temperature", np.log(spec.temperature))
        self.variables: dict[str, Any] = {
            name: keras.Variable(np.array(value, dtype), dtype=dtype, name=name.removeprefix("task/"))
            for name, value in own.items()
        }
        self._kernel = engine.kernel(Kernel.of(engine, spec))

    def __call__(self, query: Any, candidate: Any, **inputs: Any) -> Tensor:
        """See `RetrievalTask.__call__`; `inputs` are those of `TaskInputs`, which are read on the host."""
        with self._guard:
            return self._differentiable(query, candidate, inputs)

    def _differentiable(self, query: Any, candidate: Any, inputs: dict[str, Any]) -> Tensor:
        query, candidate = (_vectors(name, x, self.dtype) for name, x in (("query", query), ("candidate", candidate)))
        number = candidate.shape[0]
        plan = plan_task(self.spec, query.shape[0], number, **inputs)
        at = {"query": query, "candidate": candidate}
        if self.spec.candidate_bias:
            rows = self._bias_rows(inputs.get("candidate_ids"), number)
            at["bias"] = take(ops.convert_to_tensor(self.variables["task/bias"]), rows)
        if self.spec.learn_temperature:
            at["log_temperature"] = ops.convert_to_tensor(self.variables["task/log_temperature"])
        packed = pack(plan, self.spec, number, self.dtype, self._engine)
        if self._engine.asks_gradients(at.values()):
            return differentiable(self._kernel, at, packed)
        if self.spec.learn_temperature:
            at["inverse_temperature"] = ops.exp(-at.pop("log_temperature"))
        return self._kernel(at, packed).value

    def _bias_rows(self, candidate_ids: ArrayLike | None, number: int) -> NDArray[np.int32]:
        if candidate_ids is None:
            raise SpecError("candidate_bias=True needs candidate_ids, the rows of task/bias of the candidates")
        codes = np.asarray(candidate_ids)
        corpus = self.variables["task/bias"].shape[0]
        if codes.shape != (number,) or (number and not (codes.min() >= 0 and codes.max() < corpus)):
            raise DataError(f"candidate_ids must be {number} codes in 0 … {corpus - 1}, rows of task/bias")
        return codes.astype(np.int32)


def _vectors(name: str, value: Any, dtype: DType) -> Tensor:
    tensor = ops.convert_to_tensor(value, dtype=dtype)
    if len(tensor.shape) != 2:
        raise DataError(f"{name} must be vectors of shape (n, d), got {tuple(tensor.shape)}")
    return tensor
