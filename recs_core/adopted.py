"""A user's own native module where a `TowerSpec` goes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Codes, Features, Ragged, Side
from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.features import Column, Feature
from recs_core.contract.messages import one_line
from recs_core.contract.plans import TowerPlan
from recs_core.contract.protocols import Backend, Tower
from recs_core.contract.towers import TowerSpec
from recs_core.data.schema import Schema
from recs_core.fitted import Native

UNKNOWN_NAME, UNKNOWN_NUMBER = "[UNK]", -1
"""The raw id that stands for one training never saw: what a Keras `StringLookup` or `IntegerLookup` calls it."""


_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Adopted:
    """An `nn.Module`, `tf.keras.Model` or `keras.Model` that turns features into vectors.

    It takes one feature positionally (on TensorFlow and Keras as a dict, if it cannot), several as a dict by name, as
    codes: row 0 … num_oov − 1 for ids that training never saw, then the vocabulary in the order of the training data;
    so a table needs num_oov + vocabulary rows. Numbers (`Numeric`) come standardised by the training data, (n, 1),
    unless they are declared with `standardise=False`.
    `features`: what it takes; none given, the ids of its side. `raw_ids`: it takes raw ids and looks them up itself, as
    one with a `StringLookup` does. It keeps its own weights, and every step may touch all of them. `rebuild`: the
    function without arguments that builds it, "package.module:function"; a bundle tells it to whoever loads the model
    and has to build the module again.
    """

    module: Any
    features: Sequence[Feature] = ()
    output_dim: int | None = None
    raw_ids: bool = False
    rebuild: str | None = None

    def __post_init__(self) -> None:
        for feature in self.features:
            if not isinstance(feature, Feature):
                raise SpecError(f"Adopted: features must be Categorical, Bag, …, got {feature!r}")
            if feature.mapped:
                raise SpecError(f"Adopted: a module maps its vectors itself; leave dim out of {feature.where}")
        if self.rebuild is not None and not _FUNCTION.fullmatch(self.rebuild):
            raise SpecError(f"Adopted: rebuild is 'package.module:function', got {self.rebuild!r}")

    def reads(self, id_name: str) -> TowerSpec:
        """The features that the core encodes for it."""
        return TowerSpec(tuple(self.features) or (Categorical(id_name, dim=1),))

    def said(self, backend: str, output_dim: int) -> Native:
        """The module in words, as a bundle holds it; `output_dim` is its tower's."""
        kind = type(self.module)
        return Native(backend, f"{kind.__module__}.{kind.__qualname__}", self.rebuild, output_dim, self.raw_ids)

    def tower(self, backend: Backend, reads: TowerPlan, schema: Schema) -> Tower:
        """The module as the backend's tower. Raises `UnsupportedFeature` where the backend knows no raw ids, and
        `SpecError` for a module that cannot take the last code of a feature."""
        if not self.raw_ids:
            tower = backend.adopt(self.module, reads.columns, output_dim=self.output_dim)
            if self.output_dim is None:  # a module of a stated width is not tried
                _try_last_codes(tower, reads.columns, schema)
            return tower
        if "ids" not in inspect.signature(backend.adopt).parameters:
            raise UnsupportedFeature(
                f"the {backend.info.name} backend hands an adopted module codes, not raw ids; take codes in the "
                "module, or leave raw_ids out"
            )
        ids = {column.name: _raw_ids(column, schema) for column in reads.columns if column.table is not None}
        return backend.adopt(self.module, reads.columns, output_dim=self.output_dim, ids=ids)  # type: ignore[call-arg]


def as_adopted(side: Side, tower: Any) -> Adopted:
    """A native module as a tower; refuses what can be none."""
    if isinstance(tower, Adopted):
        return tower
    features = isinstance(tower, Feature) or (isinstance(tower, (list, tuple)) and bool(tower))
    if features or isinstance(tower, type) or not callable(tower):
        got = f"the class {tower.__name__}" if isinstance(tower, type) else f"{type(tower).__name__}"
        hint = "write recs.TowerSpec([…])" if features else "or a module of the backend's framework"
        raise SpecError(f"TwoTower: {side} must be a recs.TowerSpec, got {got}; {hint}")
    return Adopted(tower)


def _try_last_codes(tower: Tower, columns: Sequence[Column], schema: Schema) -> None:
    """Raise `SpecError` where a module that takes code 0 fails on a column's last, or makes NaN of it, as JAX does of a
    row beyond a table. A GPU may say nothing, or kill the process, once it trains."""
    first = {column.name: 0 for column in columns if column.table is not None}
    finite = np.isfinite(tower.embed(_rows(columns, first))).all()
    for column in columns:
        if column.table is None:
            continue
        rows = schema.table_rows[column.table]
        try:
            vectors = tower.embed(_rows(columns, {**first, column.name: rows - 1}))
        except Exception as error:
            reason = one_line(error)
        else:
            if not finite or np.isfinite(vectors).all():
                continue
            reason = "its output is not finite"
        raise SpecError(
            f"adopt: {type(tower.native).__name__} takes code 0 of {column.name!r}, but not {rows - 1}, the last "
            f"({reason}); a table of these codes needs {rows} rows: those of unknown ids, then the vocabulary"
        )


def _rows(columns: Sequence[Column], codes: Mapping[str, int]) -> Features:
    """Two rows of these codes, and of zeros."""
    given: dict[str, Codes] = {}
    for column in columns:
        if column.name in codes:
            both = np.full(2, codes[column.name], np.int32)
            given[column.name] = Ragged(both, np.arange(3, dtype=np.int32)) if column.kind == "many" else both
    return Features(2, given, {c.name: np.zeros((2, c.width)) for c in columns if c.kind == "dense"})


def _raw_ids(column: Column, schema: Schema) -> NDArray[Any]:
    """(rows,): the raw id of each row of the column's table, the unknown one first."""
    if column.table is None or column.table not in schema.vocabularies:
        raise SpecError(
            f"Adopted: codes of {column.name!r} stand for no ids; leave raw_ids out, or read its values as they are "
            f"by recs.Categorical({column.name!r})"
        )
    ids, first_row = schema.vocabularies[column.table].ids, schema.first_row(column.table)
    if pa.types.is_integer(ids.type):
        return np.concatenate([np.full(first_row, UNKNOWN_NUMBER, np.int64), ids.to_numpy()])
    return np.array([UNKNOWN_NAME] * first_row + ids.to_pylist(), object)
