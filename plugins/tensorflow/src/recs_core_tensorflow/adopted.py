"""A user's own `tf.keras.Model` as a tower."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from recs_core.contract.batch import Batch, Features, Side
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.features import Column
from recs_core.contract.guard import Guard
from recs_core.contract.plans import as_columns
from recs_core.contract.protocols import DType
from recs_core_tensorflow.environment import guard, tf
from recs_core_tensorflow.towers import Tensors, Tower

RETURNED = re.compile(r"\[adopt: (.+?)\] \[(\d+) (\d+)\] \[([\d ]*)\]")
"""What a graph says of a module's output that is of another shape: the module, both shapes."""


class AdoptedTower(Tower):
    """A user's own `tf.keras.Model` as a tower. It takes several columns as a dict by name; one positionally, or as a
    dict where it fails on a tensor.

    A column of one code per row comes as int32 (n,), one of many as a `tf.RaggedTensor` of int32 with int64 splits,
    (n, any), oldest first where it is a history, and a dense one as numbers (n, width).

    `ids`: column → the raw id of each code, for a model that looks ids up itself, as one with a `StringLookup` does;
    codes, ragged or not, are then turned into ids on the way in. Row 0 stands for unknown ids: put there an id that the
    model's lookup does not know.
    """

    def __init__(
        self,
        module: Any,
        features: Sequence[Column | str],
        output_dim: int | None,
        ids: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        _check_module(module)
        self.plan, self.native = None, module
        self.side: Side | None = None
        self.columns = {column.name: column for column in as_columns(features)}
        unknown = sorted(set(ids or {}) - {name for name, column in self.columns.items() if column.kind != "dense"})
        if unknown:
            raise SpecError(
                f"adopt: ids are given for {unknown[0]!r}, which is no column of codes among {list(self.columns)}"
            )
        self.ids = {name: tf.constant(np.asarray(values)) for name, values in (ids or {}).items()}
        self.dtype, self.guard = "float32", guard()
        self.by_name = len(self.columns) > 1
        self._width: int | None = None
        tried = self._tried(output_dim)
        if output_dim not in (None, tried):
            raise SpecError(
                f"adopt: output_dim={output_dim} is stated, but the output of {self._name} has {tried} columns"
            )
        self._width = self.output_dim = tried

    def join(self, side: Side, dtype: DType, guard: Guard) -> None:
        """Become one side of a model."""
        self.side, self.dtype, self.guard = side, dtype, guard

    @property
    def variables(self) -> dict[str, Any]:
        """The module's floating-point variables by place and own name: Keras's whole names count the layers of the
        process, and so differ from run to run. The table of an adapted lookup is among Keras's, but no variable."""
        own = [variable for variable in self.native.variables if isinstance(variable, tf.Variable)]
        variables = [variable for variable in own if variable.dtype.is_floating]
        return {f"{i}/{v.name.split('/')[-1].split(':')[0]}": v for i, v in enumerate(variables)}

    def inputs(self, features: Features) -> dict[str, Any]:
        """The columns that the module takes. Raises `DataError` for one that is missing."""
        have = {**features.codes, **features.dense}
        missing = [name for name in self.columns if name not in have]
        if missing:
            names = ", ".join(have) or "none"
            raise DataError(f"the adopted module takes {missing[0]!r}, but the features are {names}")
        given = super().inputs(features)
        return {name: given[name] for name in self.columns}

    def unpack(self, batch: Batch) -> Features:
        """This tower's side of a batch; the codes of an adopted side are rows of whole tables."""
        if self.side is not None:
            return batch.side(self.side)
        sides: tuple[Side, Side] = ("query", "candidate")
        named = [s for s in sides if self.columns.keys() <= {**batch.side(s).codes, **batch.side(s).dense}.keys()]
        if len(named) != 1:
            where = "both sides" if named else "no side"
            raise SpecError(
                f"{where} of the batch have the columns {list(self.columns)} that the adopted module takes, and it is "
                "part of no model yet; pass batch.query or batch.candidate"
            )
        return batch.side(named[0])

    def local(self, batch: Batch) -> Features:
        """As `unpack`: a batch has no rows of an adopted module's own tables."""
        return self.unpack(batch)

    def forward(self, inputs: Tensors, training: bool) -> Any:
        """(n, output_dim) from codes and numbers; the module has all its weights."""
        given = {name: inputs[name] for name in self.columns}
        first = next(iter(given.values()))
        size = tf.cast(first.nrows(), tf.int32) if isinstance(first, tf.RaggedTensor) else tf.shape(first)[0]
        many = [given[name] for name, column in self.columns.items() if column.kind == "many"]
        if many:
            # Recurrent layers of Keras cannot run where no row holds anything: one more row does then, and is cut off.
            more = tf.reduce_max([tf.cast(tf.size(values.values) == 0, tf.int32) for values in many])
            given = {name: _with_rows(values, more) for name, values in given.items()}
        given.update({name: tf.gather(ids, given[name]) for name, ids in self.ids.items()})
        out = self.native(given if self.by_name else next(iter(given.values())), training=training)
        if many and isinstance(out, tf.Tensor) and out.shape.rank:
            out = out[: tf.shape(out)[0] - more]
        return self._checked(out, size)

    def _checked(self, out: Any, size: Any) -> Any:
        """The module's output, in the model's dtype. Raises `SpecError` for one of another shape; a graph, which may
        know it only when it runs, fails there, and `naming_shapes` reads what it says."""
        if not isinstance(out, tf.Tensor):
            raise _wrong(self._name, ("n", self._width or "d"), type(out).__name__)
        width = self._width
        if width is None and out.shape.rank == 2:  # it is tried
            width = out.shape[1]
        rows = tf.get_static_value(size)
        if not out.shape.is_compatible_with([rows, width]):
            raise _wrong(self._name, ("n" if rows is None else rows, width or "d"), tuple(out.shape))
        if not out.shape.is_fully_defined():
            shape = tf.stack([size, width])
            right = tf.equal(tf.rank(out), 2) & tf.reduce_all(tf.equal(tf.shape(out)[:2], shape))
            with tf.control_dependencies([tf.debugging.Assert(right, [f"adopt: {self._name}", shape, tf.shape(out)])]):
                out = tf.identity(out)
        return tf.cast(out, self.dtype)

    def _tried(self, stated: int | None) -> int:
        """Width of the output for two rows of code 0, which also builds a module that is not built yet and finds out
        whether it takes one column by name. A module that is built, and of a stated width, may fail on code 0."""
        rows = {name: _rows_of(column) for name, column in self.columns.items()}
        failed: Exception | None = None
        for by_name in [True] if self.by_name else [False, True]:
            self.by_name = by_name
            try:
                return int(self.forward(rows, training=False).shape[1])
            except SpecError:
                raise
            except Exception as error:
                failed = failed or error
        self.by_name = len(self.columns) > 1
        if stated is not None and self.native.built:
            return stated
        raise SpecError(self._refusal(failed)) from failed

    def _refusal(self, error: Exception | None) -> str:
        given = ", ".join(f"{_kind(column, name in self.ids)} {name!r}" for name, column in self.columns.items())
        codes = any(column.kind != "dense" and name not in self.ids for name, column in self.columns.items())
        hint = "recs.Adopted(…, raw_ids=True) hands it raw ids; or " if codes else ""
        if isinstance(self.native, tf.keras.Sequential) and self.ids:
            hint = "begin a Sequential of raw ids with tf.keras.Input((), dtype=tf.string); or "
        reason = " ".join(str(error).split())[:200]
        return f"adopt: {self._name} failed on {given} ({reason}); {hint}build the module and state output_dim="

    @property
    def _name(self) -> str:
        return type(self.native).__name__


@contextmanager
def naming_shapes() -> Iterator[None]:
    """Around a graph with adopted modules in it: an output of another shape is a `SpecError` that names the module.
    Of other failures the line that says what is wrong is left, and not where in TensorFlow."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if (found := RETURNED.search(str(error))) is None:
            said = str(error.message).partition("[[{{node")[0].strip().splitlines()[-1:] or [str(error)]
            raise tf.errors.InvalidArgumentError(error.node_def, error.op, said[0]) from error
        name, rows, width, returned = found.groups()
        raise _wrong(name, (rows, width), tuple(map(int, returned.split()))) from None


def _wrong(name: str, expected: tuple[Any, Any], returned: Any) -> SpecError:
    rows, width = expected
    return SpecError(f"adopt: {name} must return a tensor of shape ({rows}, {width}); it returned {returned}")


def _kind(column: Column, raw: bool) -> str:
    return "numbers" if column.kind == "dense" else f"{'raw ids' if raw else 'codes'} of"


def _rows_of(column: Column) -> Any:
    """Two rows of a column: of code 0, or of zeros."""
    if column.kind == "many":
        return tf.RaggedTensor.from_row_splits(tf.zeros((3,), tf.int32), tf.constant([0, 2, 3]))
    return tf.zeros((2, column.length)) if column.kind == "dense" else tf.zeros((2,), tf.int32)


def _with_rows(values: Any, more: Any) -> Any:
    """With `more` rows of one 0 each below; ragged splits as int64, as Keras has them."""
    if isinstance(values, tf.RaggedTensor):
        splits = tf.cast(values.row_splits, tf.int64)
        below = splits[-1:] + tf.range(1, tf.cast(more, tf.int64) + 1)
        flat = tf.pad(values.values, [[0, more]])
        return tf.RaggedTensor.from_row_splits(flat, tf.concat([splits, below], 0), validate=False)
    return tf.pad(values, [[0, more], *([[0, 0]] * (values.shape.rank - 1))])


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
