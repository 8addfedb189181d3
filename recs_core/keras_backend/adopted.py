"""A user's own Keras module as a tower."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
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

    It takes several features as a dict by name; one positionally, or as a dict where it fails on a tensor or declares
    inputs by name. One code per row: int32 (n,). Numbers: (n, width).
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
        by_name: bool,
        side: Side = "query",
        dtype: DType = "float32",
        guard: Guard | None = None,
    ) -> None:
        self.native = module
        self.columns = tuple(columns)
        self.output_dim, self.by_name = output_dim, by_name
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
        given = self._engine, self.native, self.columns, self.output_dim, self.by_name
        return AdoptedTower(*given, side, dtype, guard)

    def inputs(self, features: Features) -> dict[str, Any]:
        """The features as `forward` takes them. Raises `DataError` for one that is missing."""
        return as_given(self.columns, features, self._dtype, f"the module {self.native.name!r}")

    def call(self, tree: Tree, training: bool) -> Tensor:
        """What the module makes of its inputs, with the weights that it has. Raises `SpecError` for another shape."""
        vectors = self.native(_given(tree, self.by_name), **self._mode(training))
        _check(self.native, vectors, (_rows(tree), self.output_dim))
        return ops.cast(vectors, self._dtype)

    def forward(self, values: Values, tree: Tree, training: bool = True) -> tuple[Tensor, Values]:
        """(n, output_dim) with the weights given, and new values of `buffers`. Raises `SpecError` for another shape."""
        vectors, buffers = self.native.stateless_call(
            [values[name] for name in self._trainable],
            [values[name] for name in self.buffers],
            _given(tree, self.by_name),
            **self._mode(training),
        )
        _check(self.native, vectors, (_rows(tree), self.output_dim))
        return ops.cast(vectors, self._dtype), dict(zip(self.buffers, buffers, strict=True))

    def _mode(self, training: bool) -> dict[str, bool]:
        """The mode, for a module that has one."""
        return {"training": training} if "training" in signature(self.native.call).parameters else {}

    def whole(self, batch: Batch) -> Features:
        """The tower's side of a batch; its codes are the module's own already."""
        return batch.side(self._side)

    def __call__(self, features: Features | Batch) -> Tensor:
        """See `Tower.__call__`."""
        tree = self.inputs(self.whole(features) if isinstance(features, Batch) else features)
        with self._guard:
            vectors = self.native(_given(to_tensors(tree), self.by_name))
        _check(self.native, vectors, (_rows(tree), self.output_dim))
        return vectors

    def embed(self, features: Features) -> NDArray[np.floating]:
        """See `Tower.embed`."""
        return in_chunks(self._embed, self.inputs, features, self.output_dim, self._dtype, self._guard)

    def _vectors(self, values: Values, tree: Tree) -> Tensor:
        return self.forward(values, tree["tower"], training=False)[0]


def adopt(engine: Engine, module: Any, features: Sequence[Column | str], output_dim: int | None) -> AdoptedTower:
    """The module as a tower; one that has no weights yet gets them here. Raises `SpecError` for what is no Keras module
    or does not take these features, and for one that was made in float64 where JAX held it in float32."""
    if not isinstance(module, keras.Layer):
        raise SpecError(f"keras adopts a keras.Model or keras.Layer, not a {type(module).__name__}")
    columns = as_columns(features)
    by_name, width = _tried(module, columns, output_dim)
    _check_held(module)
    if output_dim not in (None, width):
        name = type(module).__name__
        raise SpecError(f"adopt: output_dim={output_dim} is stated, but the output of {name} has {width} columns")
    return AdoptedTower(engine, module, columns, width, by_name)


def _check_held(module: Any) -> None:
    """JAX without x64 holds a float64 weight in float32, and Keras says float64 of it still."""
    for variable in module.variables:
        held = keras.backend.standardize_dtype(variable.value.dtype)
        if variable.dtype == "float64" and held != "float64":
            raise SpecError(
                f"adopt: {variable.path} of {module.name!r} was made as float64, but JAX holds it in {held}; set "
                "JAX_ENABLE_X64=1 before the module is made, or make it as float32"
            )


def _tried(module: Any, columns: Sequence[Column], stated: int | None) -> tuple[bool, int]:
    """Whether the module takes its columns by name, and the width of its output, from two rows: code 0, a bag of it and
    an empty one, zeros. A module that has its weights, and whose width is stated, may fail on these."""
    bag = Ragged.of([[0], []])
    codes = {c.name: bag if c.kind == "many" else np.zeros(2, np.int32) for c in columns if c.kind != "dense"}
    dense = {c.name: np.zeros((2, c.length)) for c in columns if c.kind == "dense"}
    tree = to_tensors(as_given(columns, Features(2, codes, dense), module.compute_dtype, module.name))
    named = len(columns) > 1 or isinstance(getattr(module, "input", None), Mapping)
    failed: Exception | None = None
    for by_name in [True] if named else [False, True]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a framework, at a tensor that is taken for a dict
                vectors = module(_given(tree, by_name))
        except Exception as error:
            failed = failed or error
        else:
            _check(module, vectors, (2, vectors.shape[-1] if len(getattr(vectors, "shape", ())) == 2 else "d"))
            return by_name, int(vectors.shape[1])
    if stated is not None and module.built:
        return named, stated
    names = ", ".join(column.name for column in columns)
    raise SpecError(
        f"adopt: {type(module).__name__} failed on code 0 of {names} ({_reason(failed)}); call it "
        "once on an example and state output_dim="
    ) from failed


def _reason(error: Exception | None) -> str:
    """What Keras says was wrong, and not that something was."""
    parts = re.sub(r"\x1b\[\d*m", "", str(error)).split("\n\n")
    said = parts[1] if parts[0].startswith("Exception encountered") and len(parts) > 1 else parts[0]
    return " ".join(said.split())[:200]


def _check(module: Any, vectors: Any, expected: tuple[Any, Any]) -> None:
    """Raise `SpecError` unless the module's output has this shape, as far as an engine knows it before it runs."""
    shape = tuple(vectors.shape) if hasattr(vectors, "shape") else type(vectors).__name__
    right = len(shape) == 2 and all(None in (a, b) or a == b for a, b in zip(shape, expected, strict=True))
    if isinstance(shape, str) or not right:
        raise SpecError(
            f"adopt: {type(module).__name__} must return a tensor of shape ({expected[0]}, {expected[1]}); it returned "
            f"{shape}"
        )


def _rows(tree: Tree) -> int | None:
    """How many rows the tower is given, where that is known."""
    value = next(iter({**tree["codes"], **tree["dense"]}.values()))
    if not isinstance(value, Mapping):
        return value.shape[0]
    ends = value["offsets"].shape[0]
    return None if ends is None else ends - 1


def _given(tree: Tree, by_name: bool) -> Any:
    """What the module is called with."""
    named = {**tree["codes"], **tree["dense"]}
    named = {n: (v["values"], v["offsets"]) if isinstance(v, dict) else v for n, v in named.items()}
    return named if by_name else next(iter(named.values()))


def _numbered(prefix: str, variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """By place and own name: Keras's paths count the layers of the whole process, and so differ from run to run."""
    return {f"{prefix}/{i}/{variable.name}": variable for i, variable in enumerate(variables)}
