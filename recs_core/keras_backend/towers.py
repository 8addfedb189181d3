"""Towers: one forward function for training, on gathered rows, and for serving, on the rows a chunk of items needs.

`TowerModel` is the same tower as a real `keras.Model`, for Keras users to print, call and save.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Self

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract import as_json
from recs_core.contract.batch import Batch, Codes, Features, Ragged, Side
from recs_core.contract.errors import DataError, SpecError, UnsupportedFeature
from recs_core.contract.features import Feature
from recs_core.contract.guard import Guard
from recs_core.contract.protocols import DType
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import unpack
from recs_core.keras_backend import engines
from recs_core.keras_backend.engines import Engine, Tensor, Tree, Values, load_engine

CHUNK = 8192
"""Rows embedded at a time: bounds memory, and is one shape for engines that compile by shape."""


def inputs(spec: TowerSpec, features: Features, dtype: DType) -> dict[str, Any]:
    """Features as a tree of NumPy arrays. A ragged feature is its codes, the row of each, and 1 ÷ their number or 1."""
    codes: dict[str, Any] = {}
    dense = {}
    for feature in spec.features:
        if feature.table_name is None:
            dense[feature.name] = np.asarray(features.dense[feature.name], dtype)
            continue
        value = features.codes[feature.name]
        if isinstance(value, Ragged):
            mean = getattr(feature, "pooling", "sum") == "mean"
            scale = 1 / np.maximum(1, value.lengths) if mean else np.ones(features.size)
            codes[feature.name] = {"values": value.values, "segments": value.segments, "scale": scale.astype(dtype)}
        else:
            codes[feature.name] = value
    tree: dict[str, Any] = {"codes": codes, "dense": dense}
    if features.keep is not None:
        tree["keep"] = np.asarray(features.keep, dtype)
    return tree


def forward(engine: Engine, side: Side, spec: TowerSpec, values: Values, tree: Tree) -> Tensor:
    """(n, output_dim) from `inputs`; codes are rows of the tables in `values`."""
    columns = [
        tree["dense"][feature.name][:, None]
        if feature.table_name is None
        else _looked_up(engine, feature, values[feature.table_name], tree["codes"][feature.name])
        for feature in spec.features
    ]
    x = columns[0] if len(columns) == 1 else ops.concatenate(columns, axis=1)
    if "keep" in tree:
        x = x * tree["keep"]
    for i in range(len(spec.layers)):
        x = x @ values[f"{side}/dense_{i}/kernel"] + values[f"{side}/dense_{i}/bias"]
        activation = spec.final_activation if i == len(spec.layers) - 1 else spec.activation
        if activation is not None:
            x = engine.activate(activation, x)
    return x


def _looked_up(engine: Engine, feature: Feature, table: Tensor, codes: Any) -> Tensor:
    """(n, dim): rows of the table; pooled for ragged codes, which are as of `inputs` or (n, length) filled with −1."""
    if isinstance(codes, Mapping):
        rows = ops.take(table, codes["values"], axis=0)
        return engine.segment_sum(rows, codes["segments"], ops.shape(codes["scale"])[0]) * codes["scale"][:, None]
    if len(codes.shape) == 1:
        return ops.take(table, codes, axis=0)
    present = ops.cast(codes >= 0, table.dtype)
    total = ops.sum(ops.take(table, ops.maximum(codes, 0), axis=0) * present[:, :, None], axis=1)
    if getattr(feature, "pooling", "sum") == "sum":
        return total
    number = ops.sum(present, axis=1, keepdims=True)
    return total / ops.where(number > 0, number, 1.0)


@dataclass(frozen=True)
class Forward:
    """`forward` of one tower, as a training step takes it: equal for equal specs."""

    engine: Engine
    side: Side
    spec: TowerSpec

    def __call__(self, values: Values, tree: Tree) -> tuple[Tensor, Values]:
        """(n, output_dim) with the weights given, and new values of the tower's buffers: it has none."""
        return forward(self.engine, self.side, self.spec, values, tree), {}


@dataclass(frozen=True)
class Embedding:
    """The vectors of a tower alone."""

    tower: Forward

    def __call__(self, values: Values, tree: Tree) -> Tensor:
        """(n, output_dim)."""
        return self.tower(values, tree["tower"])[0]


@keras.saving.register_keras_serializable(package="recs_core")
class TowerModel(keras.Model):
    """A tower as a Keras model: `model({"item_id": codes, "price": numbers})` → (n, output_dim).

    Codes are int rows of the tables, (n,); of a bag, history or text they are (n, length), filled with −1. A tower of
    one feature takes it without the dict, too.
    """

    def __init__(
        self,
        spec: TowerSpec,
        table_rows: Mapping[str, int],
        tables: dict[str, keras.layers.Embedding] | None = None,
        **options: Any,
    ) -> None:
        """`table_rows`: table name → rows. `tables`: layers that another tower made, to share; new ones join them."""
        super().__init__(**options)
        self.spec = spec
        self.table_rows = dict(table_rows)
        shared = {} if tables is None else tables
        dtype = self.dtype_policy.name
        for feature in spec.features:
            name = feature.table_name
            if name is not None and name not in shared:
                layer = keras.layers.Embedding(
                    table_rows[name], feature.width, "zeros", name=name.removeprefix("table/"), dtype=dtype
                )
                layer.build((None,))
                shared[name] = layer
        names = dict.fromkeys(f.table_name for f in spec.features if f.table_name is not None)
        self.tables = [shared[name] for name in names]
        self.dense = []
        width = spec.input_dim
        for i, units in enumerate(spec.layers):
            activation = spec.final_activation if i == len(spec.layers) - 1 else spec.activation
            layer = keras.layers.Dense(units, activation, kernel_initializer="zeros", name=f"dense_{i}", dtype=dtype)
            layer.build((None, width))
            self.dense.append(layer)
            width = units
        self.built = True

    def named(self, side: Side) -> dict[str, keras.Variable]:
        """The variables by canonical name."""
        out = {f"table/{layer.name}": layer.embeddings for layer in self.tables}
        for i, layer in enumerate(self.dense):
            out[f"{side}/dense_{i}/kernel"], out[f"{side}/dense_{i}/bias"] = layer.kernel, layer.bias
        return out

    def call(self, inputs: Mapping[str, Tensor] | Tensor) -> Tensor:
        """(n, output_dim)."""
        if not isinstance(inputs, Mapping):
            inputs = {self.spec.features[0].name: inputs}
        dense = {f.name for f in self.spec.features if f.table_name is None}
        tree = {
            "codes": {name: value for name, value in inputs.items() if name not in dense},
            "dense": {name: ops.cast(value, self.compute_dtype) for name, value in inputs.items() if name in dense},
        }
        values = {name: ops.convert_to_tensor(variable) for name, variable in self.named("query").items()}
        return forward(load_engine(keras.backend.backend()), "query", self.spec, values, tree)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {
            "spec": as_json.to_json(self.spec),
            "table_rows": self.table_rows,
            "name": self.name,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """The model of `get_config`."""
        return cls(**{**config, "spec": as_json.from_json(config["spec"])})


class KerasTower:
    """A declared tower. See `Tower`; `native` is a `TowerModel`."""

    def __init__(
        self, engine: Engine, side: Side, spec: TowerSpec, native: TowerModel, dtype: DType, guard: Guard
    ) -> None:
        self.spec: TowerSpec = spec
        self.output_dim = spec.output_dim
        self.native = native
        self.variables = native.named(side)
        self.buffers: dict[str, keras.Variable] = {}
        self._engine, self._side, self._dtype, self._guard = engine, side, dtype, guard
        self.forward = Forward(engine, side, spec)
        self._embed = engine.reader(Embedding(self.forward), self.variables)

    def inputs(self, features: Features) -> dict[str, Any]:
        """The features as `forward` takes them."""
        return inputs(self.spec, features, self._dtype)

    def uses(self, features: Features) -> dict[str, int]:
        """How many rows of each table the features look up, one row as often as it comes."""
        out: dict[str, int] = {}
        for feature in self.spec.features:
            if feature.table_name is not None:
                codes = features.codes[feature.name]
                number = len(codes.values if isinstance(codes, Ragged) else codes)
                out[feature.table_name] = out.get(feature.table_name, 0) + number
        return out

    def whole(self, batch: Batch) -> Features:
        """The tower's side of a batch, codes as rows of whole tables."""
        return unpack(batch, self._side, self.spec)

    def __call__(self, features: Features | Batch) -> Tensor:
        """See `Tower.__call__`."""
        if isinstance(features, Batch):
            features = self.whole(features)
        tree = self.inputs(features)
        with self._guard:
            values = {name: ops.convert_to_tensor(variable) for name, variable in self.variables.items()}
            return self.forward(values, _to_tensors(tree))[0]

    def embed(self, features: Features) -> NDArray[np.floating]:
        """See `Tower.embed`. Works in chunks, and reads only the rows that a chunk needs."""
        out = np.empty((features.size, self.output_dim), self._dtype)
        for start in range(0, features.size, CHUNK):
            chunk = features.take(np.arange(start, min(start + CHUNK, features.size)))
            rows, local = self._gathered(chunk)
            tree = {"rows": rows, "tower": self.inputs(local)}
            with self._guard:
                vectors = self._embed(tree, self.uses(local))
            out[start : start + chunk.size] = ops.convert_to_numpy(vectors)[: chunk.size]
        return out

    def _gathered(self, features: Features) -> tuple[dict[str, NDArray[np.int32]], Features]:
        """Per table the rows in use, and the same features with codes that count within them."""
        users: dict[str, list[str]] = {}
        for feature in self.spec.features:
            if feature.table_name is not None:
                users.setdefault(feature.table_name, []).append(feature.name)
        rows, codes = {}, dict(features.codes)
        for table, names in users.items():
            flat = [_flat(features.codes[name]) for name in names]
            unique, places = np.unique(np.concatenate(flat), return_inverse=True)
            total = self.variables[table].shape[0]
            if len(unique) and not (unique[0] >= 0 and unique[-1] < total):
                raise DataError(f"{names[0]!r} holds a code outside {table}, which has {total} rows")
            rows[table] = unique.astype(np.int32)
            for name, place in zip(names, np.split(places, np.cumsum([len(f) for f in flat])[:-1]), strict=True):
                codes[name] = _with_values(codes[name], place.astype(np.int32))
        return rows, Features(features.size, codes, features.dense)


class AdoptedTower:
    """A user's own Keras module. See `Tower` and `KerasBackend.adopt`; it has no spec and no table of ours."""

    spec = None

    def __init__(
        self,
        engine: Engine,
        module: Any,
        features: Sequence[str],
        output_dim: int,
        side: Side = "query",
        dtype: DType = "float32",
        guard: Guard | None = None,
    ) -> None:
        self.native = module
        self.features = tuple(features)
        self.output_dim = output_dim
        self._engine, self._side, self._dtype = engine, side, dtype
        self._guard = guard or engines.guard(engine)
        self._trainable = _numbered(f"{side}/native", module.trainable_variables)
        self.buffers = _numbered(f"{side}/native/state", module.non_trainable_variables)
        self.variables = {**self._trainable, **self.buffers}
        self._embed = engine.reader(self._vectors, self.variables)

    def bound(self, side: Side, dtype: DType, guard: Guard) -> AdoptedTower:
        """The same module as one side of a model."""
        if self._engine.name == "jax" and self.native.non_trainable_weights:
            raise UnsupportedFeature(
                f"keras[jax] cannot train {self.native.name!r}: its moving statistics would count the rows that pad a "
                "batch; use LayerNormalization, or the torch or tensorflow engine"
            )
        return AdoptedTower(self._engine, self.native, self.features, self.output_dim, side, dtype, guard)

    def inputs(self, features: Features) -> dict[str, Any]:
        """The features as `forward` takes them."""
        codes = {name: features.codes[name] for name in self.features if name in features.codes}
        for name, value in codes.items():
            if isinstance(value, Ragged):
                raise DataError(f"{name!r} holds several codes a row, which an adopted module does not take")
        dense = {name: features.dense[name] for name in self.features if name in features.dense}
        missing = [name for name in self.features if name not in codes and name not in dense]
        if missing:
            raise DataError(f"the module {self.native.name!r} needs {missing[0]!r}, which the features lack")
        return {"codes": codes, "dense": {name: np.asarray(d, self._dtype) for name, d in dense.items()}}

    def forward(self, values: Values, tree: Tree, training: bool = True) -> tuple[Tensor, Values]:
        """(n, output_dim) with the weights given, and new values of `buffers`."""
        named = {**tree["codes"], **tree["dense"]}
        given = named[self.features[0]] if len(self.features) == 1 else named
        mode = {"training": training} if "training" in signature(self.native.call).parameters else {}
        vectors, buffers = self.native.stateless_call(
            [values[name] for name in self._trainable], [values[name] for name in self.buffers], given, **mode
        )
        return ops.cast(vectors, self._dtype), dict(zip(self.buffers, buffers, strict=True))

    def uses(self, features: Features) -> dict[str, int]:
        """No rows of any table of ours."""
        return {}

    def whole(self, batch: Batch) -> Features:
        """The tower's side of a batch; its codes are the module's own already."""
        return batch.query if self._side == "query" else batch.candidate

    def __call__(self, features: Features | Batch) -> Tensor:
        """See `Tower.__call__`."""
        tree = self.inputs(self.whole(features) if isinstance(features, Batch) else features)
        with self._guard:
            named = _to_tensors({**tree["codes"], **tree["dense"]})
            return self.native(named[self.features[0]] if len(self.features) == 1 else named)

    def embed(self, features: Features) -> NDArray[np.floating]:
        """See `Tower.embed`."""
        out = np.empty((features.size, self.output_dim), self._dtype)
        for start in range(0, features.size, CHUNK):
            chunk = features.take(np.arange(start, min(start + CHUNK, features.size)))
            tree = {"tower": self.inputs(chunk)}
            with self._guard:
                vectors = self._embed(tree)
            out[start : start + chunk.size] = ops.convert_to_numpy(vectors)[: chunk.size]
        return out

    def _vectors(self, values: Values, tree: Tree) -> Tensor:
        return self.forward(values, tree["tower"], training=False)[0]


def adopted_output_dim(module: Any, output_dim: int | None) -> int:
    """The width of a module's output. Raises `SpecError` where it has no variables yet or does not know its shape."""
    if not isinstance(module, keras.Layer):
        raise SpecError(f"keras adopts a keras.Model or keras.Layer, not a {type(module).__name__}")
    if not module.built:
        raise SpecError(f"the module {module.name!r} has no weights yet; call it once on an example, then adopt it")
    if output_dim is not None:
        return output_dim
    shape = getattr(module, "output_shape", None)
    if not isinstance(shape, tuple) or not isinstance(shape[-1], int):
        raise SpecError(f"the module {module.name!r} does not tell the width of its output; give output_dim=")
    return shape[-1]


def _numbered(prefix: str, variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """By place and own name: Keras's paths count the layers of the whole process, and so differ from run to run."""
    return {f"{prefix}/{i}/{variable.name}": variable for i, variable in enumerate(variables)}


def _flat(codes: Codes) -> NDArray[np.int32]:
    return codes.values if isinstance(codes, Ragged) else codes


def _with_values(codes: Codes, values: NDArray[np.int32]) -> Codes:
    return Ragged(values, codes.offsets) if isinstance(codes, Ragged) else values


def _to_tensors(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {name: _to_tensors(value) for name, value in tree.items()}
    return ops.convert_to_tensor(tree)
