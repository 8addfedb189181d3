"""A declared tower as an `nn.Module`: the columns of its plan side by side, then dense layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from recs_core.contract.batch import Batch, Features
from recs_core.contract.encoders import EncoderPlan
from recs_core.contract.errors import DataError
from recs_core.contract.features import Column
from recs_core.contract.plans import TowerPlan
from recs_core.data.epochs import check_tables
from recs_core_torch.data import Input, TensorBatch, TensorFeatures
from recs_core_torch.encoders import Encoder
from recs_core_torch.sequences import TensorSequences

Tables = Mapping[str, nn.Embedding | Tensor]
"""Canonical name → the whole table, or the rows that a batch gathered of it."""

HISTORIES = 128
"""Rows that are encoded at a time outside of training: 50 MB for each array of 512 float32 a code, 200 codes each."""

ACTIVATIONS: Mapping[str | None, Callable[[Tensor], Tensor]] = {
    None: lambda x: x,
    "relu": F.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


class Tower(nn.Module):
    """The plan's columns side by side, × dropout's keep mask, then its layers.

    Children: `table/<name>`, an `nn.Embedding` that may be another tower's too, `maps`, an `nn.Linear` for each column
    that has a kernel, `encoders`, a module for each column that has an encoder, and `layers`, an `nn.Linear` each.
    `like`, without a number, has the device and dtype that inputs are put on: a tower of given vectors alone has no
    weight to tell them.
    """

    like: Tensor

    def __init__(
        self,
        plan: TowerPlan,
        tables: Mapping[str, nn.Embedding],
        maps: Iterable[nn.Linear],
        encoders: Iterable[Encoder],
        layers: Iterable[nn.Linear],
        like: Tensor,
    ):
        super().__init__()
        self.plan, self.side, self.output_dim = plan, plan.side, plan.output_dim
        for name in plan.tables:
            self.add_module(_module_name(name), tables[name])
        self.maps, self.encoders, self.layers = (nn.ModuleList(part) for part in (maps, encoders, layers))
        self.register_buffer("like", like, persistent=False)

    @property
    def native(self) -> Tower:
        """The module itself."""
        return self

    def table(self, name: str) -> nn.Embedding:
        """The table of a canonical name, `table/…`."""
        return self.get_submodule(_module_name(name))  # type: ignore[return-value]

    def forward(self, features: Features | Batch | TensorBatch | Tensor | Mapping[str, Input]) -> Tensor:
        """(n, output_dim), from codes that are rows of the whole tables; a batch gives its own side.

        Also takes tensors: those of the only column, or of several by name.
        """
        tables = {name: self.table(name) for name in self.plan.tables}
        if isinstance(features, TensorBatch):
            own = {name: self.table(name).num_embeddings for name in self.plan.tables}
            check_tables(own, features.rows, f"the {self.side} tower", "the batch is", "make a loader of this model")
            return self._of(features.side(self.side), tables)
        if isinstance(features, Batch):
            features = self.plan.unpack(features)
        if isinstance(features, Features):
            return self.run(features, tables)
        if isinstance(features, Tensor):
            features = {self.plan.columns[0].name: features}
        return self.dense(self.concatenated(features, tables))

    def run(self, features: Features, tables: Tables) -> Tensor:
        """(n, output_dim), from codes that are rows of the `tables` given, as those of one side of a batch are."""
        return self._of(TensorFeatures.of(features), tables)

    def _of(self, features: TensorFeatures, tables: Tables) -> Tensor:
        features = features.like(self.like)
        x = self.concatenated(features.columns, tables)
        return self.dense(x if features.keep is None else x * features.keep)

    def concatenated(self, inputs: Mapping[str, Input], tables: Tables) -> Tensor:
        """(n, input_dim): the columns side by side. Raises `DataError` for one that is not given."""
        for column in self.plan.columns:
            if column.name not in inputs:
                given = ", ".join(inputs) or "none"
                raise DataError(f"the {self.side} tower needs feature {column.name!r}; it was given {given}")
        mapped = dict(zip(self.plan.kernels, self.maps, strict=True))
        encoders: dict[EncoderPlan, Encoder] = {encoder.plan: encoder for encoder in self.encoders}  # type: ignore[misc]
        parts = []
        for column in self.plan.columns:
            value = inputs[column.name]
            if column.encoder is not None:
                parts.append(encoded(encoders[column.encoder], tables, column, value))
            elif column.kernel is not None:
                parts.append(mapped[column.kernel](numbers(column, value)))
            else:
                parts.append(look_up(tables, column, value))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def dense(self, x: Tensor) -> Tensor:
        """The layers: (n, input_dim) → (n, output_dim)."""
        for layer, linear in zip(self.plan.layers, self.layers, strict=True):
            x = ACTIVATIONS[layer.activation](linear(x))
        return x

    @torch.no_grad()
    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim) in the tower's dtype: the raw output, without dropout."""
        plain = features.unmasked
        if not self.plan.encoders or features.size <= HISTORIES:
            return self(plain).cpu().numpy().copy()
        starts = range(0, features.size, HISTORIES)
        parts = [self(plain.take(np.arange(i, min(i + HISTORIES, features.size)))) for i in starts]
        return torch.cat(parts).cpu().numpy()


def look_up(tables: Tables, column: Column, value: Input) -> Tensor:
    """(n, width): the row of each code, the pooled rows of many (none: zeros), or the numbers as they are."""
    if column.table is None:
        return numbers(column, value)
    table = tables[column.table]
    weight, sparse = (table, False) if isinstance(table, Tensor) else (table.weight, table.sparse)
    if column.kind == "one":
        return F.embedding(value, weight, sparse=sparse)  # type: ignore[arg-type]
    mode = "mean" if column.mean else "sum"
    values, offsets = value  # type: ignore[misc]
    return F.embedding_bag(values, weight, offsets, mode=mode, sparse=sparse, include_last_offset=True)


def encoded(encoder: Encoder, tables: Tables, column: Column, value: Input) -> Tensor:
    """(n, width): what each row reads of its history's encoder. Raises `DataError` for codes without order,
    `UnsupportedFeature` for those without the times that the encoder reads."""
    if not isinstance(value, TensorSequences):
        raise DataError(
            f"{column.name!r} is a history with an encoder, which reads features or a batch, and no tensors"
        )
    encoder.plan.check_times(value.layout.times)
    table = tables[column.table]  # type: ignore[index]
    weight, sparse = (table, False) if isinstance(table, Tensor) else (table.weight, table.sparse)
    rows = F.embedding(value.values, weight, sparse=sparse)
    return value.read(encoder(rows, value.layout, value.keep) if len(rows) else rows)


def numbers(column: Column, value: Input) -> Tensor:
    """(n, length): the numbers of a dense column. Raises `DataError` for another shape."""
    if not isinstance(value, Tensor) or value.shape[1:] != (column.length,):
        got = tuple(value.shape) if isinstance(value, Tensor) else "codes"
        raise DataError(f"{column.name!r} takes numbers of shape (n, {column.length}), got {got}")
    return value


def _module_name(name: str) -> str:
    """A canonical name as a module's: PyTorch keeps '.' for its own paths."""
    return name.replace("%", "%25").replace(".", "%2E")
