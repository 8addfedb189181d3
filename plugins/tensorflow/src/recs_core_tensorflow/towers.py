"""Towers: features in, vectors out. `TowerNet` is the `tf_keras` model of a `TowerPlan`, `Tower` the contract's face.

`output` reads its rows from whole tables, or from the rows that a training step has gathered: the same function either
way.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features
from recs_core.contract.errors import DataError
from recs_core.contract.features import Column
from recs_core.contract.guard import Guard
from recs_core.contract.plans import TowerPlan
from recs_core.contract.protocols import DType
from recs_core_tensorflow import encoders
from recs_core_tensorflow.data import KEEP, as_inputs
from recs_core_tensorflow.environment import tf

Tensors = Mapping[str, Any]

_ACTIVATIONS = {"relu": tf.nn.relu, "tanh": tf.tanh, "sigmoid": tf.sigmoid, None: tf.identity}

CODES = 2**16
"""Codes of histories encoded at a time, outside of training: bounds memory."""


def look_up(weights: Tensors, column: Column, values: Any) -> Any:
    """(n, width): what one column adds to its tower's input. `values`: codes of its table in `weights`, or numbers for
    its kernel there, where it has one."""
    if column.table is None:
        return values if column.kernel is None else tf.matmul(values, weights[column.kernel])
    table = weights[column.table]
    if column.encoder is not None:
        if isinstance(values, tf.RaggedTensor):
            values = encoders.lanes_of(values, column.encoder.length)
        if not isinstance(values, Mapping):
            raise DataError(f"{column.name!r} is a history with an encoder: it takes features, or a tf.RaggedTensor")
        return encoders.encode(column.encoder, weights, tf.convert_to_tensor(table), values)
    if column.kind == "one":
        return tf.gather(table, values)
    rows = tf.gather(table, values.values)
    total = tf.math.unsorted_segment_sum(rows, values.value_rowids(), values.nrows())
    return total / tf.cast(tf.maximum(values.row_lengths(), 1), total.dtype)[:, None] if column.mean else total


def weight_names(plan: TowerPlan) -> list[str]:
    """Canonical names of the weights that a tower reads."""
    of_encoders = (name for encoder in plan.encoders for name in encoder.parts)
    of_layers = (name for layer in plan.layers for name in (layer.kernel, layer.bias))
    return [*plan.tables, *plan.kernels, *of_encoders, *of_layers]


def output(plan: TowerPlan, inputs: Tensors, weights: Tensors) -> Any:
    """(n, output_dim) from inputs as of `as_inputs`; codes are rows of the tables in `weights`."""
    x = tf.concat([look_up(weights, column, inputs[column.name]) for column in plan.columns], axis=1)
    if KEEP in inputs:
        x *= inputs[KEEP]
    for layer in plan.layers:
        x = _ACTIVATIONS[layer.activation](tf.matmul(x, weights[layer.kernel]) + weights[layer.bias])
    return x


class TowerNet(tf.keras.Model):
    """The `tf_keras` model of a `TowerPlan`. Its tables may be those of another tower's too.

    `variables`: canonical name → `tf.Variable`, those of the tower among them.
    """

    def __init__(self, plan: TowerPlan, variables: Tensors, dtype: DType) -> None:
        super().__init__(name=f"{plan.side}_tower", dtype=dtype)
        self.plan = plan
        self.held = {name: variables[name] for name in weight_names(plan)}

    def call(self, inputs: Tensors | Any) -> Any:
        """(n, output_dim), from inputs as of `as_inputs`; a tower of one feature takes it alone, too."""
        named = inputs if isinstance(inputs, Mapping) else {self.plan.columns[0].name: inputs}
        return output(self.plan, named, self.held)


class Tower:
    """The contract's tower of a `TowerPlan`."""

    def __init__(self, plan: TowerPlan, variables: Tensors, dtype: DType, guard: Guard) -> None:
        self.plan: TowerPlan | None = plan
        self.output_dim, self.dtype, self.guard = plan.output_dim, dtype, guard
        self.weights: Tensors = variables

    @cached_property
    def native(self) -> Any:
        """The tower as a `tf_keras` model, made when first asked for: a Keras model takes longer than its weights."""
        assert self.plan is not None
        return TowerNet(self.plan, self.weights, self.dtype)

    def __call__(self, features: Features | Batch) -> Any:
        """(n, output_dim) tensor, differentiable."""
        given = self.unpack(features) if isinstance(features, Batch) else features
        with self.guard:
            return self.forward(self.inputs(given), training=True)

    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim), without dropout."""
        plain = features.unmasked
        encoders = [] if self.plan is None else self.plan.encoders
        if not encoders:
            return self._embedded(plain)
        size = max(1, CODES // max(encoder.length for encoder in encoders))
        starts = range(0, max(1, features.size), size)  # `take` leaves masks behind
        parts = [self._embedded(plain.take(np.arange(i, min(i + size, features.size)))) for i in starts]
        return np.concatenate(parts)

    def _embedded(self, features: Features) -> NDArray[np.floating]:
        with self.guard:
            return np.array(self.forward(self.inputs(features), training=False))

    def inputs(self, features: Features) -> dict[str, Any]:
        """The features as `forward` takes them."""
        return as_inputs(features, self.dtype)

    def unpack(self, batch: Batch) -> Features:
        """This tower's side of a batch, codes being rows of whole tables."""
        assert self.plan is not None
        return self.plan.unpack(batch)

    def local(self, batch: Batch) -> Features:
        """The same for a step that gathers the batch's rows: codes of tables count within these."""
        assert self.plan is not None
        return batch.side(self.plan.side)

    def forward(self, inputs: Tensors, training: bool) -> Any:
        """(n, output_dim) from inputs."""
        assert self.plan is not None
        return output(self.plan, inputs, self.weights)

    @property
    def declared(self) -> Any:
        """What a `Step` computes it by: the plan, or the tower itself where a module of the user's is within."""
        return self if self.plan is None else self.plan
