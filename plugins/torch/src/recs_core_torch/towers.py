"""Towers as `nn.Module`s: a declared one from a `TowerSpec`, or a user's own module behind the same face."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from recs_core.contract.batch import Batch, Features, Ragged, Side
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import unpack
from recs_core_torch.data import as_tensor

Input: TypeAlias = Tensor | tuple[Tensor, Tensor]
"""One feature: codes or numbers (n,), or several codes a row as (values (nnz,), offsets (n + 1,))."""

ACTIVATIONS: Mapping[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Tower(nn.Module):
    """Features, concatenated in the spec's order, × dropout's keep mask, then dense layers.

    Children: `table/<name>`, an `nn.Embedding` that may be another tower's too, and `dense_<i>`, an `nn.Linear`.
    """

    def __init__(self, side: Side, spec: TowerSpec, tables: Mapping[str, nn.Embedding], layers: Sequence[nn.Linear]):
        super().__init__()
        self.side, self.spec, self.output_dim = side, spec, spec.output_dim
        for feature in spec.features:
            if feature.table_name is not None:
                self.add_module(module_name(feature.table_name), tables[feature.table_name])
        for i, layer in enumerate(layers):
            self.add_module(f"dense_{i}", layer)

    @property
    def native(self) -> Tower:
        """The module itself."""
        return self

    def table(self, name: str) -> nn.Embedding:
        """The table of a canonical name, `table/…`."""
        return self.get_submodule(module_name(name))  # type: ignore[return-value]

    def layer(self, i: int) -> nn.Linear:
        """The dense layer `dense_<i>`."""
        return self.get_submodule(f"dense_{i}")  # type: ignore[return-value]

    def tables(self) -> dict[str, nn.Embedding]:
        """The tower's tables by canonical name."""
        return {f.table_name: self.table(f.table_name) for f in self.spec.features if f.table_name is not None}

    def forward(self, features: Features | Batch | Tensor | Mapping[str, Input]) -> Tensor:
        """(n, output_dim), from codes that are rows of the whole tables; a `Batch` gives its own side.

        Also takes tensors: those of the only feature, or of several by name.
        """
        keep = None
        if isinstance(features, Batch):
            features = unpack(features, self.side, self.spec)
        if isinstance(features, Features):
            keep, features = features.keep, tensors(features, self._like)
        elif isinstance(features, Tensor):
            features = {self.spec.features[0].name: features}
        return self.run(features, self.tables(), keep)

    def run_batch(self, features: Features, tables: Mapping[str, nn.Embedding | Tensor]) -> Tensor:
        """(n, output_dim), from one side of a batch, whose codes are rows of `tables`, those it gathered."""
        return self.run(tensors(features, self._like), tables, features.keep)

    def run(
        self,
        inputs: Mapping[str, Input],
        tables: Mapping[str, nn.Embedding | Tensor],
        keep: NDArray[np.floating] | None,
    ) -> Tensor:
        """(n, output_dim) of the inputs by feature name."""
        columns = []
        for feature in self.spec.features:
            if feature.name not in inputs:
                given = ", ".join(inputs) or "none"
                raise DataError(f"the {self.side} tower needs feature {feature.name!r}; it was given {given}")
            value = inputs[feature.name]
            if feature.table_name is not None:
                columns.append(lookup(value, tables[feature.table_name], getattr(feature, "pooling", None)))
            else:
                assert isinstance(value, Tensor)
                columns.append(value[:, None])
        x = columns[0] if len(columns) == 1 else torch.cat(columns, 1)
        return self.layers(x if keep is None else x * as_tensor(keep, x.device).to(x.dtype))

    def layers(self, x: Tensor) -> Tensor:
        """The dense layers: (n, input_dim) → (n, output_dim)."""
        last = len(self.spec.layers) - 1
        for i in range(last + 1):
            activation = self.spec.final_activation if i == last else self.spec.activation
            x = ACTIVATIONS[activation](self.layer(i)(x))
        return x

    @torch.no_grad()
    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim) in the tower's dtype: the raw output, without dropout."""
        return self(Features(features.size, features.codes, features.dense)).cpu().numpy()

    @property
    def _like(self) -> Tensor:
        """Any weight, for its device and dtype (a tower of numbers without layers has none)."""
        return next(self.parameters(), torch.empty(0))


class AdoptedTower(nn.Module):
    """A user's own module as a tower. It takes one feature positionally, or several as a dict by name.

    Codes arrive as int64 tensors (n,), ragged ones as a pair (values (nnz,), offsets (n + 1,)), numbers as floats (n,).
    It keeps its own weights, and every one of them that requires a gradient is updated at every step.
    """

    spec: TowerSpec | None = None
    side: Side = "query"

    def __init__(self, module: nn.Module, features: Sequence[str], output_dim: int | None):
        super().__init__()
        self.features = tuple(features)
        self.native = module
        self.output_dim = self._probe() if output_dim is None else output_dim

    def forward(self, features: Features | Batch) -> Tensor:
        """(n, output_dim); a `Batch` gives its own side."""
        if isinstance(features, Batch):
            features = features.query if self.side == "query" else features.candidate
        output = self._call(features)
        self._check(output, (features.size, self.output_dim))
        return output

    @torch.no_grad()
    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim): the module's output in evaluation mode."""
        training = self.native.training
        try:
            return self.eval()(features).cpu().numpy()
        finally:
            self.train(training)

    def _call(self, features: Features) -> Any:
        given = tensors(features, next(self.native.parameters()))
        for name in self.features:
            if name not in given:
                raise DataError(
                    f"the adopted {self.side} module takes {name!r}; it was given {', '.join(given) or 'none'}"
                )
        inputs = {name: _long_codes(given[name]) for name in self.features}
        return self.native(*inputs.values()) if len(inputs) == 1 else self.native(inputs)

    @torch.no_grad()
    def _probe(self) -> int:
        """Width of the output, from two rows of code 0."""
        features = Features(2, dict.fromkeys(self.features, np.zeros(2, np.int32)))
        try:
            output = self._call(features)
        except Exception as error:
            names = ", ".join(self.features)
            raise SpecError(f"adopt: {self._name} failed on code 0 of {names} ({error}); state output_dim=") from error
        width = output.shape[-1] if isinstance(output, Tensor) and output.ndim else 0
        self._check(output, (2, width))
        return int(width)

    def _check(self, output: Any, expected: tuple[int, int]) -> None:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if shape != expected:
            raise SpecError(f"adopt: {self._name} must return a tensor of shape {expected}; it returned {shape}")

    @property
    def _name(self) -> str:
        return type(self.native).__name__


def adopt(module: Any, features: Sequence[str], output_dim: int | None = None) -> AdoptedTower:
    """The module as a tower. Raises `SpecError` for what is no module, has no parameters or the wrong output, and
    `DataError` for weights that are not finite."""
    if not isinstance(module, nn.Module):
        raise SpecError(f"adopt: the torch backend takes a torch.nn.Module, got {type(module).__name__}")
    if not features or isinstance(features, str):
        raise SpecError(f"adopt: features must be a list of feature names, got {features!r}")
    named = dict(module.named_parameters())
    if not named:
        raise SpecError(f"adopt: {type(module).__name__} has no parameters, so there is nothing to train")
    for name, parameter in named.items():
        if not torch.isfinite(parameter).all():
            raise DataError(f"adopt: parameter {name!r} of {type(module).__name__} holds NaN or infinity")
    return AdoptedTower(module, features, output_dim)


def tensors(features: Features, like: Tensor) -> dict[str, Input]:
    """The features as tensors by name, on the device of `like`, numbers in its dtype. CPU memory is shared."""
    out: dict[str, Input] = {name: as_tensor(x, like.device).to(like.dtype) for name, x in features.dense.items()}
    for name, codes in features.codes.items():
        if isinstance(codes, Ragged):
            out[name] = as_tensor(codes.values, like.device), as_tensor(codes.offsets, like.device)
        else:
            out[name] = as_tensor(codes, like.device)
    return out


def lookup(codes: Input, table: nn.Embedding | Tensor, pooling: str | None) -> Tensor:
    """(n, dim): the row of each code, or of (values, offsets) the pooled rows (none: zeros)."""
    weight = table if isinstance(table, Tensor) else table.weight
    sparse = isinstance(table, nn.Embedding) and table.sparse
    if isinstance(codes, Tensor):
        return F.embedding(codes, weight, sparse=sparse)
    values, offsets = codes
    return F.embedding_bag(values, weight, offsets, mode=pooling or "mean", sparse=sparse, include_last_offset=True)


def module_name(name: str) -> str:
    """A canonical name as a module's: PyTorch keeps '.' for its own paths."""
    return name.replace("%", "%25").replace(".", "%2E")


def _long_codes(value: Input) -> Input:
    """Codes as int64, which every layer takes."""
    if isinstance(value, tuple):
        return value[0].long(), value[1].long()
    return value if value.is_floating_point() else value.long()
