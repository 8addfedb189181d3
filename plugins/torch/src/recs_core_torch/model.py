"""The whole model as one `nn.Module`, and its weights by canonical name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Batch, Side
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.guard import use
from recs_core.contract.plans import TowerPlan, check_towers
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.weights import Weights
from recs_core_torch import encoders
from recs_core_torch.adopted import AdoptedTower
from recs_core_torch.task import RetrievalTask
from recs_core_torch.tensors import as_tensor, copied
from recs_core_torch.towers import Tower


@dataclass(frozen=True)
class Weight:
    """A parameter and how its canonical array lies: kernels are (in, out), those of `nn.Linear` (out, in)."""

    parameter: Tensor
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The canonical shape."""
        shape = tuple(self.parameter.shape)
        return shape[::-1] if self.transposed else shape

    def outward(self, tensor: Tensor) -> NDArray[Any]:
        """A tensor that lies as the parameter does (itself, a slot), as a canonical array of its own."""
        tensor = tensor.detach().T if self.transposed else tensor.detach()
        return np.array(tensor.cpu().numpy(), order="C")

    def inward(self, array: NDArray[Any]) -> Tensor:
        """The opposite: a tensor on the parameter's device, in its dtype."""
        return copied(array.T if self.transposed else array, self.parameter.detach())


class Model(nn.Module):
    """Two towers, which may share tables, and the task. Children: `query`, `candidate`, `task`."""

    def __init__(self, query: Tower | AdoptedTower, candidate: Tower | AdoptedTower, task: RetrievalTask) -> None:
        super().__init__()
        use("torch", "the torch backend")  # a process forked from this one will keep to one thread
        self.query, self.candidate, self.task = query, candidate, task

    def canonical(self) -> dict[str, Weight]:
        """Every weight by canonical name; of an adopted module also what it keeps but does not train."""
        out: dict[str, Weight] = {}
        for tower in (self.query, self.candidate):
            if isinstance(tower, AdoptedTower):
                out |= {name: Weight(tensor) for name, tensor in tower.canonical().items()}
                continue
            out |= {name: Weight(tower.table(name).weight) for name in tower.plan.tables}
            for kernel, linear in zip(tower.plan.kernels, tower.maps, strict=True):
                out[kernel] = Weight(linear.weight, transposed=True)  # type: ignore[arg-type]
            for encoder in tower.encoders:
                for name in encoder.plan.own(encoder.plan.parts):  # type: ignore[union-attr, operator]
                    full = f"{encoder.plan.prefix}/{name}"  # type: ignore[union-attr]
                    out[full] = Weight(encoder.weight(name), transposed=encoders.is_kernel(name))  # type: ignore[operator]
            for layer, linear in zip(tower.plan.layers, tower.layers, strict=True):
                out |= {layer.kernel: Weight(linear.weight, transposed=True), layer.bias: Weight(linear.bias)}  # type: ignore[arg-type]
        if self.task.bias is not None:
            out["task/bias"] = Weight(self.task.bias)
        if self.task.spec.learn_temperature:
            out["task/log_temperature"] = Weight(self.task.log_temperature)
        return out

    @property
    def version(self) -> int:
        """See `Model.version`. Read off the weights themselves: PyTorch does not count what is written through `.data`,
        by a fused optimizer, or into a NumPy view."""
        return canonical.fingerprint(w.parameter.detach().cpu().numpy() for w in self.canonical().values())

    def weights(self) -> dict[str, NDArray[np.floating]]:
        """Every weight by canonical name, as copies."""
        return {name: weight.outward(weight.parameter) for name, weight in self.canonical().items()}

    @torch.no_grad()
    def load_weights(self, weights: Weights) -> None:
        """Replace every weight, in place. Raises `DataError` for a wrong name or shape, or NaN, and changes nothing."""
        own = self.canonical()
        canonical.check(weights, {name: weight.shape for name, weight in own.items()})
        for name, weight in own.items():
            weight.parameter.copy_(weight.inward(weights[name]))

    def forward(self, batch: Batch) -> Tensor:
        """The loss of a batch, differentiable by the model's parameters."""
        return self.task(self.query(batch), self.candidate(batch), **batch.task)

    def loss(self, batch: Batch, rows: Mapping[str, Tensor]) -> Tensor:
        """The loss of a batch, with the rows that it touches given by canonical name: `table/…`, `task/bias`."""
        return self.task.loss(*self.vectors(batch, rows), **batch.task)

    def vectors(self, batch: Batch, rows: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """(Q, d) queries, (C, d) columns and the columns' biases (C,), from the rows that a batch touches."""
        query, candidate = (
            tower(batch) if isinstance(tower, AdoptedTower) else tower.run(batch.side(tower.side), rows)
            for tower in (self.query, self.candidate)
        )
        bias = None
        if self.task.bias is not None:
            if batch.bias_codes is None:
                raise DataError("the model has a candidate bias, but the batch has no bias_codes")
            bias = rows["task/bias"].index_select(0, as_tensor(batch.bias_codes, query.device))
        return query, candidate, bias


def build(
    query: TowerPlan | AdoptedTower,
    candidate: TowerPlan | AdoptedTower,
    retrieval: RetrievalSpec,
    weights: Weights,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Model:
    """A model of its own copy of `weights`. Raises `SpecError` where the towers do not fit, `DataError` where the
    weights do not."""
    for tower in (query, candidate):
        if not isinstance(tower, TowerPlan | AdoptedTower):
            raise SpecError(f"a tower is a TowerPlan or what backend.adopt returned, got {type(tower).__name__}")
    check_towers(query, candidate)
    declared = {name: value for name, value in weights.items() if not canonical.is_native(name)}
    canonical.check(declared, canonical.expected(query, candidate, retrieval, declared))

    like = torch.empty(0, dtype=dtype, device=device)

    def own(name: str) -> Tensor:
        return copied(declared[name], like)

    tables = {
        name: nn.Embedding.from_pretrained(own(name), freeze=False) for name in declared if name.startswith("table/")
    }

    def linear(kernel: str, bias: str | None = None) -> nn.Linear:
        weight = own(kernel).T.contiguous()
        out = nn.utils.skip_init(nn.Linear, *weight.T.shape, bias=bias is not None)
        out.weight, out.bias = nn.Parameter(weight), None if bias is None else nn.Parameter(own(bias))
        return out

    def built(side: Side, tower: TowerPlan | AdoptedTower) -> Tower | AdoptedTower:
        if isinstance(tower, AdoptedTower):
            tower.side = side
            return tower.to(device, dtype)
        maps = [linear(kernel) for kernel in tower.kernels]
        built = [encoders.build(plan, declared, like) for plan in tower.encoders]
        layers = [linear(layer.kernel, layer.bias) for layer in tower.layers]
        return Tower(tower, tables, maps, built, layers, like)

    task = RetrievalTask(retrieval, weights, dtype=dtype, device=device)
    model = Model(built("query", query), built("candidate", candidate), task)
    if len(declared) < len(weights):
        model.load_weights(weights)
    return model
