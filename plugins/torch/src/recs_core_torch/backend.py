"""The `torch` backend: models, tasks, adopted modules and trainers on one device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from recs_core.contract.errors import ConfigError, SpecError, UnsupportedFeature
from recs_core.contract.features import Column
from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights
from recs_core.contract.workers import Workers
from recs_core_torch.adopted import AdoptedTower, adopt
from recs_core_torch.distributed import SpreadModel, SpreadTrainer, build_over
from recs_core_torch.group import Group
from recs_core_torch.model import Model, build
from recs_core_torch.plugin import INFO
from recs_core_torch.task import RetrievalTask
from recs_core_torch.trainer import Trainer

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Backend:
    """`device`: where weights live and steps run: "cpu", "cuda", which is the first GPU, or "cuda:1" for the second.

    Raises `ConfigError` for one that is not there.
    """

    info = INFO

    def __init__(self, device: str = "cpu") -> None:
        self.device = _device(device)
        self.group: Group | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: another machine may lack the device, and says so. Raises `UnsupportedFeature` on a group."""
        if self.group is not None:
            raise UnsupportedFeature("a model on several workers has no copy; copy a model of it, TwoTower.gathered()")
        return Backend, (str(self.device),)

    @staticmethod
    def devices() -> dict[str, str]:
        """See `WithDevices`."""
        cuda = {f"cuda:{i}": torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())}
        return {"cpu": f"{torch.get_num_threads()} threads", **cuda}

    def on(self, device: str) -> Backend:
        """See `WithDevices`."""
        return Backend(device)

    def over(self, workers: Workers | None) -> Backend:
        """See `WithWorkers`. On "cuda" each worker of a machine has the GPU of its number there."""
        spread = workers is not None and self.device == torch.device("cuda")
        out = Backend(f"cuda:{workers.local}" if workers is not None and spread else str(self.device))
        out.group = None if workers is None else Group(workers, out.device)
        return out

    def model(
        self,
        query: TowerPlan | AdoptedTower,
        candidate: TowerPlan | AdoptedTower,
        retrieval: RetrievalSpec,
        weights: Weights,
        *,
        dtype: DType = "float32",
    ) -> Model:
        """A model that starts from a copy of `weights`. Raises `SpecError` and `DataError`."""
        made = build if self.group is None else partial(build_over, self.group)
        return made(query, candidate, retrieval, weights, dtype=_dtype(dtype), device=self.device)

    def task(self, spec: RetrievalSpec, *, weights: Weights | None = None, dtype: DType = "float32") -> RetrievalTask:
        """The task alone, from `task/bias` and `task/log_temperature` of `weights`. Raises `SpecError`."""
        return RetrievalTask(spec, weights, dtype=_dtype(dtype), device=self.device)

    def adopt(self, module: Any, features: Sequence[Column | str], *, output_dim: int | None = None) -> AdoptedTower:
        """A user's own `nn.Module` as a tower; see `AdoptedTower`. Without `output_dim` it is tried once, on code 0.

        Raises `SpecError` for what is no module, has no parameters or the wrong output, and `DataError` for weights
        that are not finite.
        """
        return adopt(module, features, output_dim)

    def trainer(self, model: Model, plan: UpdatePlan) -> Trainer:
        """A trainer that moves `model`. Raises `SpecError` for another backend's model."""
        if not isinstance(model, Model):
            raise SpecError(f"the torch backend trains its own models, got {type(model).__name__}")
        return SpreadTrainer(model, plan) if isinstance(model, SpreadModel) else Trainer(model, plan)


def create(engine: str | None = None) -> Backend:
    """The factory that the manifest names. Raises `ConfigError` for an engine: there is none."""
    if engine is not None:
        raise ConfigError(f"the torch backend has no engines, got torch[{engine}]; for a device say device={engine!r}")
    return Backend()


def _device(name: str) -> torch.device:
    there = Backend.devices()
    if name in there or (name == "cuda" and "cuda:0" in there):
        return torch.device(name)
    built = "" if torch.version.cuda else "; this PyTorch is built without CUDA"
    raise ConfigError(f"the torch backend has no device {name!r}; there is {', '.join(map(repr, there))}{built}")


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise SpecError(f"dtype is 'float32' or 'float64', got {name!r}")
    return DTYPES[name]
