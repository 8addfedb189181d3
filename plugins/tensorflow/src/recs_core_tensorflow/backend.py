"""The backend object: what recs-core asks for, in one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from numpy.typing import ArrayLike

from recs_core.contract.errors import SpecError
from recs_core.contract.features import Column
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.protocols import DType, Tower
from recs_core.contract.protocols import Model as AnyModel
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights
from recs_core.plugin import BackendInfo
from recs_core_tensorflow import plugin
from recs_core_tensorflow.adopted import AdoptedTower
from recs_core_tensorflow.model import Model
from recs_core_tensorflow.task import RetrievalTask
from recs_core_tensorflow.trainer import Trainer


class Backend:
    """TensorFlow, with TFRS inside."""

    info: BackendInfo = plugin.INFO

    def model(
        self,
        query: TowerPlan | Tower,
        candidate: TowerPlan | Tower,
        retrieval: RetrievalSpec,
        weights: Weights,
        *,
        dtype: DType = "float32",
    ) -> Model:
        """A model that starts from `weights`. Raises `SpecError` and `DataError` for what does not fit together."""
        for tower in (query, candidate):
            if not isinstance(tower, (TowerPlan, AdoptedTower)):
                raise SpecError(f"a tower is a TowerPlan or comes from backend.adopt(…), got {type(tower).__name__}")
        return Model(cast(Any, query), cast(Any, candidate), retrieval, weights, _checked(dtype))

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> RetrievalTask:
        """The task alone. Raises `SpecError` for a bias of which no weights are given."""
        return RetrievalTask.alone(spec, weights, _checked(dtype))

    def adopt(
        self,
        module: Any,
        features: Sequence[Column | str],
        *,
        output_dim: int | None = None,
        ids: Mapping[str, ArrayLike] | None = None,
    ) -> AdoptedTower:
        """A user's own `tf.keras.Model` (Keras 2) as a tower; what it is given, and `ids`, as of `AdoptedTower`.

        Raises `SpecError` for a Keras 3 layer, or a module that does not take these features.
        """
        return AdoptedTower(module, features, output_dim, ids)

    def trainer(self, model: AnyModel, plan: UpdatePlan) -> Trainer:
        """A trainer that moves `model`, which must be of this backend."""
        if not isinstance(model, Model):
            raise SpecError(f"the tensorflow backend trains its own models, got a {type(model).__name__}")
        return Trainer(model, plan)


def create(engine: str | None = None) -> Backend:
    """The backend; TensorFlow has no engines to choose from."""
    if engine is not None:
        raise SpecError(f"the tensorflow backend has no engines, got {engine!r}; write 'tensorflow'")
    return Backend()


def _checked(dtype: DType) -> DType:
    if dtype not in ("float32", "float64"):
        raise SpecError(f"dtype is 'float32' or 'float64', got {dtype!r}")
    return dtype
