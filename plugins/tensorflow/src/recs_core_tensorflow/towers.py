"""Towers: features in, vectors out. `TowerNet` is built from a `TowerSpec`, `AdoptedTower` wraps a user's own model.

Both are, or hold, `tf_keras` models. A `TowerNet` reads its rows from whole tables, or from the rows that a training
step has gathered: the same function either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.contract.batch import Batch, Features, Ragged, Side
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.features import Categorical, Feature, Numeric
from recs_core.contract.guard import Guard
from recs_core.contract.protocols import DType
from recs_core.contract.towers import TowerSpec
from recs_core.contract.weights import unpack
from recs_core_tensorflow.environment import guard, tf

KEEP = "/keep"
"""Where a tower's inputs hold the dropout multipliers; no feature can have this name."""

Inputs = Mapping[str, Any]

_ACTIVATIONS = {"relu": tf.nn.relu, "tanh": tf.tanh, "sigmoid": tf.sigmoid, None: tf.identity}


def as_inputs(features: Features, dtype: DType) -> dict[str, Any]:
    """What a tower's model takes: feature → codes (n,) int32, `tf.RaggedTensor` of codes, or numbers (n,)."""
    inputs = {name: as_tensor(codes) for name, codes in features.codes.items()}
    inputs.update({name: tf.constant(np.asarray(values, dtype)) for name, values in features.dense.items()})
    if features.keep is not None:
        inputs[KEEP] = tf.constant(features.keep.astype(dtype, copy=False))
    return inputs


def as_tensor(codes: NDArray[np.int32] | Ragged) -> Any:
    """Codes as a tensor, ragged where they are."""
    if isinstance(codes, Ragged):
        return tf.RaggedTensor.from_row_splits(codes.values, codes.offsets, validate=False)
    return tf.constant(codes)


class TowerNet(tf.keras.Model):
    """The `tf_keras` model of a `TowerSpec`. Its tables may be those of another tower's too.

    `variables`: canonical name → `tf.Variable`, those of the tower among them.
    """

    def __init__(self, spec: TowerSpec, side: Side, variables: Mapping[str, Any], dtype: DType) -> None:
        super().__init__(name=f"{side}_tower", dtype=dtype)
        self.spec = spec
        self.tables = {f.table_name: variables[f.table_name] for f in spec.features if f.table_name is not None}
        self.kernels = [variables[f"{side}/dense_{i}/kernel"] for i in range(len(spec.layers))]
        self.biases = [variables[f"{side}/dense_{i}/bias"] for i in range(len(spec.layers))]

    def call(self, inputs: Inputs | Any) -> Any:
        """(n, output_dim), from inputs as of `as_inputs`; a tower of one feature takes it alone, too."""
        if not isinstance(inputs, Mapping):
            inputs = {self.spec.features[0].name: inputs}
        return self.forward(inputs, self.tables)

    def forward(self, inputs: Inputs, tables: Mapping[str, Any]) -> Any:
        """The same with other tables; codes are rows of them."""
        x = tf.concat([_column(feature, inputs[feature.name], tables) for feature in self.spec.features], axis=1)
        if KEEP in inputs:
            x *= inputs[KEEP]
        last = len(self.kernels) - 1
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            activation = self.spec.final_activation if i == last else self.spec.activation
            x = _ACTIVATIONS[activation](tf.matmul(x, kernel) + bias)
        return x


def _column(feature: Feature, values: Any, tables: Mapping[str, Any]) -> Any:
    """(n, width): what one feature adds to the tower's input."""
    if isinstance(feature, Numeric):
        return values[:, None]
    assert feature.table_name is not None
    table = tables[feature.table_name]
    if isinstance(feature, Categorical):
        return tf.gather(table, values)
    rows = tf.gather(table, values.values)
    total = tf.math.unsorted_segment_sum(rows, values.value_rowids(), values.nrows())
    if getattr(feature, "pooling", "mean") == "sum":
        return total
    return total / tf.cast(tf.maximum(values.row_lengths(), 1), total.dtype)[:, None]


class TensorFlowTower:
    """The contract's tower over a `TowerNet`."""

    def __init__(self, spec: TowerSpec, side: Side, variables: Mapping[str, Any], dtype: DType, guard: Guard) -> None:
        self.spec: TowerSpec = spec
        self.side, self.dtype, self.guard = side, dtype, guard
        self.output_dim = spec.output_dim
        self.native = TowerNet(spec, side, variables, dtype)

    def __call__(self, features: Features | Batch) -> Any:
        """(n, output_dim) tensor, differentiable."""
        if isinstance(features, Batch):
            features = unpack(features, self.side, self.spec)
        with self.guard:
            return self.native(as_inputs(features, self.dtype))

    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim), without dropout."""
        plain = Features(features.size, features.codes, features.dense)
        with self.guard:
            return np.asarray(self.native(as_inputs(plain, self.dtype)))


class AdoptedTower:
    """A user's own `tf.keras.Model` as a tower. It takes one feature positionally, or several as a dict.

    `ids`: feature → the raw id of each code, for a model that looks ids up itself, as one with a `StringLookup` does;
    codes are then turned into ids on the way in. Without them the model gets codes. Row 0 stands for unknown ids: put
    there an id that the model's lookup does not know.
    """

    spec = None

    def __init__(
        self, module: Any, features: Sequence[str], output_dim: int | None, ids: Mapping[str, ArrayLike] | None = None
    ) -> None:
        self.guard = guard()
        _check_module(module)
        if not features:
            raise SpecError("adopt needs the names of the features that the module takes")
        unknown = sorted(set(ids or {}) - set(features))
        if unknown:
            raise SpecError(f"adopt: ids are given for {unknown[0]!r}, which is none of the features {list(features)}")
        self.native, self.features = module, tuple(features)
        self.ids = {name: tf.constant(np.asarray(values)) for name, values in (ids or {}).items()}
        # A module that is not built has no weights yet; one call makes them.
        tried = self._tried_dim() if output_dim is None or not module.built else output_dim
        if output_dim not in (None, tried):
            raise SpecError(f"adopt: output_dim={output_dim} is stated, but the module's output has {tried} columns")
        self.output_dim = tried
        self.side: Side | None = None

    @property
    def variables(self) -> dict[str, Any]:
        """The module's floating-point variables by place and own name: Keras's whole names count the layers of the
        process, and so differ from run to run. The table of an adapted lookup is among Keras's, but no variable."""
        own = [variable for variable in self.native.variables if isinstance(variable, tf.Variable)]
        variables = [variable for variable in own if variable.dtype.is_floating]
        return {f"{i}/{v.name.split('/')[-1].split(':')[0]}": v for i, v in enumerate(variables)}

    def __call__(self, features: Features | Batch) -> Any:
        """(n, output_dim) tensor, differentiable; a training step calls it so."""
        if isinstance(features, Batch):
            features = self.unpack(features)
        with self.guard:
            return self.forward(self.inputs(features), training=True)

    def embed(self, features: Features) -> NDArray[np.floating]:
        """(n, output_dim), in inference mode."""
        with self.guard:
            return np.asarray(self.forward(self.inputs(features), training=False))

    def inputs(self, features: Features) -> dict[str, Any]:
        """The features this tower takes; whole-table codes."""
        missing = [name for name in self.features if name not in features.codes and name not in features.dense]
        if missing:
            have = ", ".join([*features.codes, *features.dense]) or "none"
            raise DataError(f"the adopted module takes {missing[0]!r}, but the features are {have}")
        codes = {name: as_tensor(features.codes[name]) for name in self.features if name in features.codes}
        dense = {name: tf.constant(features.dense[name]) for name in self.features if name in features.dense}
        return codes | dense

    def forward(self, inputs: Inputs, training: bool) -> Any:
        """(n, output_dim) from codes and numbers."""
        given = {
            name: tf.gather(self.ids[name], inputs[name]) if name in self.ids else inputs[name]
            for name in self.features
        }
        out = self.native(given if len(given) > 1 else given[self.features[0]], training=training)
        if not isinstance(out, tf.Tensor) or out.shape.rank != 2:
            raise DataError(f"the adopted module must return a tensor (n, d), it returned {getattr(out, 'shape', out)}")
        return out

    def unpack(self, batch: Batch) -> Features:
        """This tower's side of a batch; the codes of an adopted side are rows of whole tables."""
        name = self.features[0]  # before a model has given the tower its side, the features tell it
        on_query = self.side == "query" if self.side else name in {**batch.query.codes, **batch.query.dense}
        return batch.query if on_query else batch.candidate

    def _tried_dim(self) -> int:
        """Width of the output for one row of code 0, which also builds a module that is not built yet."""
        one = {name: tf.zeros((1,), tf.int32) for name in self.features}
        try:
            return int(self.forward(one, training=False).shape[1])
        except (DataError, SpecError):
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise SpecError(
                f"adopt: the module cannot be called on the features {list(self.features)} as codes ({reason}); pass "
                "ids= for those that it takes as raw ids, or build it and pass output_dim="
            ) from error


def _check_module(module: Any) -> None:
    if isinstance(module, tf.keras.layers.Layer):
        return
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    bases = {base.__module__.partition(".")[0] for base in type(module).__mro__}
    if "keras" in bases:
        raise SpecError(
            f"{kind} is a Keras 3 layer, but TFRS runs on Keras 2; build it from tf.keras with TF_USE_LEGACY_KERAS=1, "
            "or adopt it in the keras backend"
        )
    raise SpecError(f"the tensorflow backend adopts a tf.keras.Model or layer of Keras 2, got {kind}")
