"""The whole model as one `nn.Module`, and its weights by canonical name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recs_core import weights as canonical
from recs_core.data.batch import Batch
from recs_core.errors import DataError, SpecError
from recs_core.guard import use
from recs_core.protocols import Weights
from recs_core.specs import RetrievalSpec, TowerSpec, check_pair
from recs_core.weights import Side
from recs_core_torch.task import RetrievalTask
from recs_core_torch.towers import AdoptedTower, Tower


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
        array = np.array(array.T if self.transposed else array, order="C")
        return torch.from_numpy(array).to(self.parameter.device, self.parameter.dtype)


class Model(nn.Module):
    """Two towers, which may share tables, and the task. Children: `query`, `candidate`, `task`."""

    def __init__(self, query: Tower | AdoptedTower, candidate: Tower | AdoptedTower, task: RetrievalTask) -> None:
        super().__init__()
        use("torch", "the torch backend")  # a process forked from this one will keep to one thread
        self.query, self.candidate, self.task = query, candidate, task

    @property
    def towers(self) -> dict[Side, Tower | AdoptedTower]:
        """Both towers by side."""
        return {"query": self.query, "candidate": self.candidate}

    def canonical(self) -> dict[str, Weight]:
        """Every weight by canonical name; of an adopted module also what it keeps but does not train."""
        out: dict[str, Weight] = {}
        for side, tower in self.towers.items():
            if isinstance(tower, AdoptedTower):
                native = {**dict(tower.native.named_parameters()), **dict(tower.native.named_buffers())}
                out |= {f"{side}/native/{name}": Weight(t) for name, t in native.items() if t.is_floating_point()}
                continue
            for feature in tower.spec.features:
                if feature.table_name is not None:
                    out[feature.table_name] = Weight(tower.table(feature.table_name).weight)
            for i in range(len(tower.spec.layers)):
                layer = tower.layer(i)
                out[f"{side}/dense_{i}/kernel"] = Weight(layer.weight, transposed=True)
                out[f"{side}/dense_{i}/bias"] = Weight(layer.bias)
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
        query, candidate = (
            tower.run_batch(features, rows) if isinstance(tower, Tower) else tower(batch)
            for tower, features in ((self.query, batch.query), (self.candidate, batch.candidate))
        )
        bias = None
        if self.task.bias is not None:
            if batch.bias_codes is None:
                raise DataError("the model has a candidate bias, but the batch has no bias_codes")
            codes = torch.from_numpy(batch.bias_codes).to(query.device)
            bias = rows["task/bias"].index_select(0, codes)
        return self.task.loss(query, candidate, bias, **batch.task)


def build(
    query: TowerSpec | AdoptedTower,
    candidate: TowerSpec | AdoptedTower,
    retrieval: RetrievalSpec,
    weights: Weights,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> Model:
    """A model of its own copy of `weights`. Raises `SpecError` where the towers do not fit, `DataError` where the
    weights do not."""
    specs = (query if isinstance(query, TowerSpec) else None, candidate if isinstance(candidate, TowerSpec) else None)
    _check_towers(query, candidate)
    declared = {name: value for name, value in weights.items() if not canonical.is_native(name)}
    rows = {name: len(value) for name, value in declared.items() if name.startswith("table/")}
    tables_used = {f.table_name: 0 for spec in specs if spec for f in spec.features if f.table_name is not None}
    corpus = int(np.size(declared.get("task/bias", ())))
    expected = canonical.shapes(*specs, retrieval, {**tables_used, **rows}, corpus)
    canonical.check(declared, expected)

    def own(name: str, *, transposed: bool = False) -> Tensor:
        array = np.asarray(declared[name])
        return torch.tensor(array.T if transposed else array, dtype=dtype, device=device)

    tables = {name: nn.Embedding.from_pretrained(own(name), freeze=False) for name in rows}

    def tower(side: Side, spec: TowerSpec | AdoptedTower) -> Tower | AdoptedTower:
        if isinstance(spec, AdoptedTower):
            spec.side = side
            return spec.to(device, dtype)
        layers = []
        for i in range(len(spec.layers)):
            kernel, bias = own(f"{side}/dense_{i}/kernel", transposed=True), own(f"{side}/dense_{i}/bias")
            layer = nn.utils.skip_init(nn.Linear, kernel.shape[1], kernel.shape[0])
            layer.weight, layer.bias = nn.Parameter(kernel), nn.Parameter(bias)
            layers.append(layer)
        return Tower(side, spec, tables, layers)

    bias = own("task/bias") if retrieval.candidate_bias else None
    start = own("task/log_temperature") if retrieval.learn_temperature else None
    task = RetrievalTask(retrieval, bias, start, dtype).to(device)
    model = Model(tower("query", query), tower("candidate", candidate), task)
    if len(declared) < len(weights):
        model.load_weights(weights)
    return model


def _check_towers(query: TowerSpec | AdoptedTower, candidate: TowerSpec | AdoptedTower) -> None:
    if isinstance(query, TowerSpec) and isinstance(candidate, TowerSpec):
        check_pair(query, candidate)
    for tower in (query, candidate):
        if not isinstance(tower, TowerSpec | AdoptedTower):
            raise SpecError(f"a tower is a TowerSpec or what backend.adopt returned, got {type(tower).__name__}")
    if query.output_dim != candidate.output_dim:
        raise SpecError(
            f"the query tower's output has {query.output_dim} dims, the candidate tower's {candidate.output_dim}; "
            "give both the same"
        )
