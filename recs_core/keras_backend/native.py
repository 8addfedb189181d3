"""A declared tower as a real `keras.Model`, for Keras users to print, call and save."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from recs_core.contract import as_json
from recs_core.contract.errors import DataError
from recs_core.contract.plans import TowerPlan
from recs_core.keras_backend.encoders import encode, lanes_of
from recs_core.keras_backend.engines import Tensor, load_engine


def _zeros(shape: tuple[int, ...], dtype: Any = None) -> Any:
    """NumPy's: those of an engine that compiles are a program for each shape."""
    return ops.convert_to_tensor(np.zeros(shape, dtype), dtype=dtype)


@keras.saving.register_keras_serializable(package="recs_core")
class TowerModel(keras.Model):
    """A tower as a Keras model: `model({"item_id": codes, "price": numbers})` → (n, output_dim).

    Codes are int rows of the tables, (n,); of a bag, history or text they are (n, length), filled with −1; those of a
    history with an encoder are oldest first, with no −1 between them. Numbers are (n, length). A tower of one feature
    takes it without the dict, too.
    """

    def __init__(
        self,
        plan: TowerPlan,
        table_rows: Mapping[str, int],
        tables: dict[str, keras.layers.Embedding] | None = None,
        **options: Any,
    ) -> None:
        """`table_rows`: table name → rows. `tables`: layers that another tower made, to share; new ones join them."""
        super().__init__(**options)
        self.plan = plan
        self.table_rows = dict(table_rows)
        shared = {} if tables is None else tables
        dtype = self.dtype_policy.name
        for name, width in self.plan.tables.items():
            if name not in shared:
                own = name.removeprefix("table/")
                shared[name] = keras.layers.Embedding(table_rows[name], width, _zeros, name=own, dtype=dtype)
                shared[name].build((None,))
        self.tables = [shared[name] for name in self.plan.tables]
        self.kernels = []
        for name, shape in self.plan.kernels.items():
            with keras.name_scope(plan.side):
                self.kernels.append(self.add_weight(shape, _zeros, dtype, name=name.replace("/", "_")))
        self.encoders = {}
        for encoder in self.plan.encoders:
            for name, part in encoder.parts.items():
                with keras.name_scope(plan.side):
                    self.encoders[name] = self.add_weight(part.shape, _zeros, dtype, name=name.replace("/", "_"))
        self.dense = []
        for i, layer in enumerate(self.plan.layers):
            dense = keras.layers.Dense(
                layer.shape[1],
                layer.activation,
                kernel_initializer=_zeros,
                bias_initializer=_zeros,
                name=f"dense_{i}",
                dtype=dtype,
            )
            with keras.name_scope(plan.side):  # two towers of one model: on torch, Keras tells weights apart by path
                dense.build((None, layer.shape[0]))
            self.dense.append(dense)
        self.built = True

    def named(self) -> dict[str, keras.Variable]:
        """The variables by canonical name."""
        out = {f"table/{layer.name}": layer.embeddings for layer in self.tables}
        out |= dict(zip(self.plan.kernels, self.kernels, strict=True)) | self.encoders
        for layer, dense in zip(self.plan.layers, self.dense, strict=True):
            out[layer.kernel], out[layer.bias] = dense.kernel, dense.bias
        return out

    def call(self, inputs: Mapping[str, Tensor] | Tensor) -> Tensor:
        """(n, output_dim)."""
        engine = load_engine(keras.backend.backend())
        if not isinstance(inputs, Mapping):
            inputs = {self.plan.columns[0].name: inputs}
        tables = {f"table/{layer.name}": layer.embeddings for layer in self.tables}
        kernels = dict(zip(self.plan.kernels, self.kernels, strict=True))
        columns = []
        for column in self.plan.columns:
            value = inputs[column.name]
            if column.table is None:
                value = ops.cast(value, self.compute_dtype)
                value = value[:, None] if len(value.shape) == 1 else value
                columns.append(value if column.kernel is None else value @ kernels[column.kernel])
            elif column.encoder is not None:
                if value.shape[1] > column.encoder.length:
                    raise DataError(
                        f"{column.name!r} takes up to {column.encoder.length} codes per row, got {value.shape[1]}"
                    )
                table = ops.convert_to_tensor(tables[column.table])
                columns.append(encode(engine, column.encoder, self.encoders, table, lanes_of(value)))
            elif len(value.shape) == 1:
                columns.append(ops.take(tables[column.table], value, axis=0))
            else:
                columns.append(_pooled(tables[column.table], value, column.mean))
        x = columns[0] if len(columns) == 1 else ops.concatenate(columns, axis=1)
        for layer, dense in zip(self.plan.layers, self.dense, strict=True):
            x = x @ dense.kernel + dense.bias
            x = x if layer.activation is None else engine.activate(layer.activation, x)
        return x

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {
            "side": self.plan.side,
            "spec": as_json.to_json(self.plan.spec),
            "table_rows": self.table_rows,
            "name": self.name,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model of `get_config`."""
        config = dict(config)
        plan = TowerPlan.of(config.pop("side"), as_json.from_json(config.pop("spec")))
        return cls(plan, **config)


def _pooled(table: Tensor, codes: Tensor, mean: bool) -> Tensor:
    """(n, dim): the sum or mean of the rows that are not −1; of none, zeros."""
    present = ops.cast(codes >= 0, table.dtype)
    total = ops.sum(ops.take(table, ops.maximum(codes, 0), axis=0) * present[:, :, None], axis=1)
    number = ops.sum(present, axis=1, keepdims=True)
    return total / ops.where(number > 0, number, 1.0) if mean else total
