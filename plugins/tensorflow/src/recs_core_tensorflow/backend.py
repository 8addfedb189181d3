"""The backend object: what recs-core asks for, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import ArrayLike

from recs_core.contract.errors import SpecError
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import DType, Model, Tower
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import Weights
from recs_core.plugin import BackendInfo
from recs_core_tensorflow import plugin
from recs_core_tensorflow.model import TensorFlowModel
from recs_core_tensorflow.task import RetrievalTask
from recs_core_tensorflow.towers import AdoptedTower
from recs_core_tensorflow.trainer import TensorFlowTrainer


class TensorFlowBackend:
    """TensorFlow, with TFRS inside."""

    info: BackendInfo = plugin.BACKEND

    def model(
        self,
        query: TowerSpec | Tower,
        candidate: TowerSpec | Tower,
        retrieval: RetrievalSpec,
        weights: Weights,
        *,
        dtype: DType = "float32",
    ) -> TensorFlowModel:
        """A model that starts from `weights`. Raises `SpecError` and `DataError` for what does not fit together."""
        return TensorFlowModel(_own(query), _own(candidate), retrieval, weights, _checked(dtype))

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> RetrievalTask:
        """The task alone. Raises `SpecError` for a bias of which no weights are given."""
        return RetrievalTask.alone(spec, weights, _checked(dtype))

    def adopt(
        self,
        module: Any,
        features: Sequence[str],
        *,
        output_dim: int | None = None,
        ids: Mapping[str, ArrayLike] | None = None,
    ) -> AdoptedTower:
        """A user's own `tf.keras.Model` (Keras 2) as a tower; `ids` as of `AdoptedTower`.

        Raises `SpecError` for a Keras 3 layer, or a module that does not take these features.
        """
        return AdoptedTower(module, features, output_dim, ids)

    def trainer(self, model: Model, optimizer: Optimizer) -> TensorFlowTrainer:
        """A trainer that moves `model`, which must be of this backend."""
        if not isinstance(model, TensorFlowModel):
            raise SpecError(f"the tensorflow backend trains its own models, got a {type(model).__name__}")
        return TensorFlowTrainer(model, optimizer)


def factory(engine: str | None = None) -> TensorFlowBackend:
    """The backend; TensorFlow has no engines to choose from."""
    if engine is not None:
        raise SpecError(f"the tensorflow backend has no engines, got {engine!r}; write 'tensorflow'")
    return TensorFlowBackend()


def _own(tower: TowerSpec | Tower) -> TowerSpec | AdoptedTower:
    if isinstance(tower, (TowerSpec, AdoptedTower)):
        return tower
    raise SpecError(f"a tower is a TowerSpec or comes from backend.adopt(…), got {type(tower).__name__}")


def _checked(dtype: DType) -> DType:
    if dtype not in ("float32", "float64"):
        raise SpecError(f"dtype is 'float32' or 'float64', got {dtype!r}")
    return dtype
