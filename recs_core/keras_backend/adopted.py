"""A user's own Keras module as a tower."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from recs_core.contract.batch import Batch, Features, Ragged, Side
from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.features import Column
from recs_core.contract.guard import Guard
from recs_core.contract.plans import as_columns
from recs_core.contract.protocols import DType
from recs_core.keras_backend import engines
from recs_core.keras_backend.data import as_given, to_tensors
from recs_core.keras_backend.engines import Engine, Tensor, Tree, Values
from recs_core.keras_backend.towers import in_chunks


class AdoptedTower:
    """A user's own `keras.Model` or `keras.Layer`. See `Tower`; it has no plan and no table of ours.

    It takes one feature positionally, or several as a dict by name. One code per row: int32 (n,). Numbers: (n, width).
    Several codes per row: a tuple `(values, offsets)`, int32: row i holds `values[offsets[i]:offsets[i + 1]]`, those of
    a history oldest first. `values` always holds one more than `offsets[-1]` says, or several: an engine that compiles
    by shape pads both, and the rows with empty ones.
    """

    plan = None

    def __init__(
        self,
        engine: Engine,
        module: Any,
        columns: Sequence[Column],
        output_dim: int,
        side: Side = "query",
        dtype: DType = "float32",
        guard: Guard | None = None,
    ) -> None:
        self.native = module
        self.columns = tuple(columns)
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
        return AdoptedTower(self._engine, self.native, self.columns, self.output_dim, side, dtype, guard)

    def inputs(self, features: Features) -> dict[str, Any]:
        """The features as `forward` takes them. Raises `DataError` for one that is missing."""
        return as_given(self.columns, features, self._dtype, f"the module {self.native.name!r}")

    def forward(self, values: Values, tree: Tree, training: bool = True) -> tuple[Tensor, Values]:
        """(n, output_dim) with the weights given, and new values of `buffers`."""
        mode = {"training": training} if "training" in signature(self.native.call).parameters else {}
        vectors, buffers = self.native.stateless_call(
            [values[name] for name in self._trainable], [values[name] for name in self.buffers], _given(tree), **mode
        )
        return ops.cast(vectors, self._dtype), dict(zip(self.buffers, buffers, strict=True))

    def whole(self, batch: Batch) -> Features:
        """The tower's side of a batch; its codes are the module's own already."""
        return batch.side(self._side)

    def __call__(self, features: Features | Batch) -> Tensor:
        """See `Tower.__call__`."""
        tree = self.inputs(self.whole(features) if isinstance(features, Batch) else features)
        with self._guard:
            return self.native(_given(to_tensors(tree)))

    def embed(self, features: Features) -> NDArray[np.floating]:
        """See `Tower.embed`."""
        return in_chunks(self._embed, self.inputs, features, self.output_dim, self._dtype, self._guard)

    def _vectors(self, values: Values, tree: Tree) -> Tensor:
        return self.forward(values, tree["tower"], training=False)[0]


def adopt(engine: Engine, module: Any, features: Sequence[Column | str], output_dim: int | None) -> AdoptedTower:
    """The module as a tower. Raises `SpecError` for what is no Keras module, has no weights yet, or cannot be asked for
    the width of its output."""
    if not isinstance(module, keras.Layer):
        raise SpecError(f"keras adopts a keras.Model or keras.Layer, not a {type(module).__name__}")
    if not module.built:
        raise SpecError(f"the module {module.name!r} has no weights yet; call it once on an example, then adopt it")
    columns = as_columns(features)
    return AdoptedTower(engine, module, columns, output_dim or _width(module, columns))


def _width(module: Any, columns: Sequence[Column]) -> int:
    """The width of the module's output, from two rows: code 0, a bag of it and an empty one, zeros."""
    bag = Ragged.of([[0], []])
    codes = {c.name: bag if c.kind == "many" else np.zeros(2, np.int32) for c in columns if c.kind != "dense"}
    dense = {c.name: np.zeros((2, c.width)) for c in columns if c.kind == "dense"}
    tree = to_tensors(as_given(columns, Features(2, codes, dense), module.compute_dtype, module.name))
    try:
        shape = tuple(module(_given(tree)).shape)
    except Exception as error:
        names, reason = ", ".join(codes | dense), str(error).split("\n")[0]
        raise SpecError(f"adopt: {module.name!r} failed on code 0 of {names} ({reason}); give output_dim=") from error
    if len(shape) != 2:
        raise SpecError(f"adopt: {module.name!r} must return vectors (n, width); of 2 rows it returned {shape}")
    return int(shape[1])


def _given(tree: Tree) -> Any:
    """What the module is called with."""
    named = {**tree["codes"], **tree["dense"]}
    named = {n: (v["values"], v["offsets"]) if isinstance(v, dict) else v for n, v in named.items()}
    return next(iter(named.values())) if len(named) == 1 else named


def _numbered(prefix: str, variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """By place and own name: Keras's paths count the layers of the whole process, and so differ from run to run."""
    return {f"{prefix}/{i}/{variable.name}": variable for i, variable in enumerate(variables)}
