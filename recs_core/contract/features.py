"""Features: what a tower reads of a column. One class per kind owns all that is special about it.

A kind says what a backend sees of it (`column`: one code, several codes, or numbers per row), what it learns of the
training data, and how it turns values into codes or numbers. No backend knows any kind by name, so one of your own is a
subclass in your program:

>>> from dataclasses import dataclass
>>> import numpy as np, pyarrow as pa
>>> from recs_core.contract.columns import as_numbers
>>> from recs_core.contract.features import Known, TableFeature
>>> @dataclass(frozen=True)
... class Rounded(TableFeature):
...     "A price, by its whole euros up to 99."
...
...     def rows(self, state):
...         return 100
...
...     def encode(self, values, known):
...         return np.clip(np.nan_to_num(as_numbers(values, self.where)), 0, 99).astype(np.int32)
>>> Rounded("price", dim=8).encode(pa.array([3.5, None, 250.0]), Known()).tolist()
[3, 0, 99]
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Codes, Past, Ragged, Sequences, Side
from recs_core.contract.columns import describe_type
from recs_core.contract.encoders import EncoderPlan, Time
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.validation import Declared, is_whole, require
from recs_core.contract.vocabulary import Vocabulary

Kind: TypeAlias = Literal["one", "many", "dense", "sequence"]
State: TypeAlias = Mapping[str, Any]
Encoded: TypeAlias = "Codes | NDArray[np.floating]"


@dataclass(frozen=True)
class Column:
    """One feature as a backend sees it. It adds `width` numbers to its tower's input.

    `kind`: "one" code per row, "many" codes per row (`Ragged`), "dense", numbers x per row, or "sequence", codes in
    order (`Sequences`), which `encoder` turns into numbers. `table`: the canonical
    name of the table that codes are rows of, None where dense. `mean`: many rows are averaged, else summed; no rows are
    zeros. `kernel`: the canonical name of a weight (`length`, `width`) that maps x, (n, `length`), to x · kernel; None
    where x, (n, `width`), is what the tower reads.
    """

    name: str
    kind: Kind
    width: int
    table: str | None = None
    mean: bool = False
    zero_rows: int = 0
    """Rows at the table's head that start at zero: those for unknown ids, which say nothing until trained."""
    kernel: str | None = None
    length: int = 0
    """Numbers per row that come in, of a dense column; by default `width`."""
    encoder: EncoderPlan | None = None

    def __post_init__(self) -> None:
        if self.kind == "dense" and not self.length:
            object.__setattr__(self, "length", self.width)


@dataclass(frozen=True)
class Known:
    """What a feature encodes by: the `state` it learned, and, where it looks ids up, its table's `vocabulary` and the
    number of rows that stand before the vocabulary's, `first_row`."""

    state: State = field(default_factory=dict)
    vocabulary: Vocabulary | None = None
    first_row: int = 0


@dataclass(frozen=True)
class Feature(Declared):
    """The base of all kinds. A frozen dataclass, so that it can be compared, hashed and written as JSON.

    `name`: the column it reads. A subclass sets `kind` and gives `width` and `encode`; the rest has defaults.
    """

    name: str

    kind: ClassVar[Kind] = "dense"
    reads_past: ClassVar[bool] = False
    """Whether it reads the query's past candidates, and not a column."""
    has_vocabulary: ClassVar[bool] = False
    """Whether its table has a row for each id seen in training, which `ids` gives."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(isinstance(self.name, str) and bool(self.name), self, f"name must be a column name, got {self.name!r}")
        require("/" not in self.name, self, f"name {self.name!r} must not contain '/', which separates weight names")

    @property
    def where(self) -> str:
        """What a message calls it: `Numeric('price')`."""
        return f"{type(self).__name__}({self.name!r})"

    def describe(self) -> str:
        """In a few words, for reports: "text title, 64"."""
        return f"{type(self).__name__.lower()} {self.name}, {self.width}"

    # What a backend sees

    @property
    def table_name(self) -> str | None:
        """Canonical name of the table its codes are rows of, `table/…`; None for a dense one."""
        return None

    @property
    def width(self) -> int:
        """How many numbers it adds to its tower's input."""
        raise SpecError(f"{type(self).__qualname__}, a feature class, must define width")

    @property
    def numbers(self) -> int:
        """Of a dense one: how many numbers `encode` gives per row."""
        return self.width

    @property
    def mapped(self) -> bool:
        """Of a dense one: whether a kernel of its own maps its numbers to `width` others."""
        return False

    @property
    def settled(self) -> bool:
        """Whether `width` is known before training."""
        return True

    def settle(self, state: State) -> Feature:
        """The feature with all known that the training data told."""
        return self

    @property
    def averages(self) -> bool:
        """Whether many rows are averaged, and not summed."""
        return False

    @property
    def zero_rows(self) -> int:
        """Rows at the table's head that start at zero."""
        return 0

    @property
    def reads_time(self) -> Time | None:
        """Of a kind that `reads_past`: whether `encode_past` needs times, and of a request too ("request")."""
        return None

    def column(self, side: Side) -> Column:
        """The feature as a backend sees it."""
        kernel = f"{side}/vector/{self.name}/kernel" if self.mapped else None
        numbers = self.numbers if self.kind == "dense" else 0
        return Column(self.name, self.kind, self.width, self.table_name, self.averages, self.zero_rows, kernel, numbers)

    # What the data layer asks

    def ids(self, values: pa.Array) -> pa.Array:
        """Of a kind that `has_vocabulary`: the training values that get a row of their own, as strings or int64."""
        raise SpecError(f"{type(self).__qualname__} has_vocabulary, so it must define ids(values)")

    def learn(self, values: pa.Array) -> State:
        """What `encode` needs of the training values, as plain JSON data. `values`: those of every known id."""
        return {}

    def check_learnt(self, state: State) -> None:
        """Raise `DataError` unless `encode` can use this state, which may come from a damaged file."""

    def rows(self, state: State) -> int:
        """Rows of the table that stand for no id of the vocabulary: for unknown ids, or for buckets."""
        return 0

    def encode(self, values: pa.Array, known: Known) -> Encoded:
        """n values → what the tower reads: (n,) int32 rows of the table, a `Ragged` of n rows of them, or (n,
        numbers) numbers, as `kind` says. Raises `DataError` for values it cannot use, `BadRows` to name rows."""
        raise SpecError(f"{type(self).__qualname__}, a feature class, must define encode(values, known)")

    def encode_past(self, past: Past, rows: NDArray[np.int32]) -> Ragged | Sequences:
        """Of a kind that `reads_past`: what queries did, oldest first → rows of the table, as `Sequences` where
        its column has an encoder. `rows`: (corpus,) the row of each candidate, −1 where it has none."""
        raise SpecError(f"{type(self).__qualname__} reads_past, so it must define encode_past(past, rows)")

    def blank(self, size: int) -> Encoded:
        """What `size` rows read of which nothing is known: row 0, no rows, or zeros."""
        if self.kind == "one":
            return np.zeros(size, np.int32)
        if self.kind == "many":
            return Ragged(np.zeros(0, np.int32), np.zeros(size + 1, np.int32))
        return np.zeros((size, self.numbers))


@dataclass(frozen=True)
class TableFeature(Feature):
    """A feature whose codes are rows of a table of width `dim`. `table`: the table's name, by default the column's; two
    features that state the same `table` share it, and its vocabulary."""

    dim: int = 64
    table: str | None = None

    kind: ClassVar[Kind] = "one"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.dim, 1), self, f"{self.name!r} needs dim ≥ 1, got {self.dim!r}")
        named = isinstance(self.table, str) and bool(self.table)
        require(self.table is None or named, self, f"{self.name!r}: table is a name or None, got {self.table!r}")

    @property
    def table_name(self) -> str:
        return f"table/{self.table or self.name}"

    @property
    def width(self) -> int:
        return self.dim


def table_rows(ids: pa.Array, known: Known, where: str) -> NDArray[np.int32]:
    """The row of each id; a null or unseen one gets an OOV row. Raises `DataError` for ids of another type."""
    vocabulary = known.vocabulary
    assert vocabulary is not None
    given = ids.drop_null()
    if len(given) and len(vocabulary) and given.type != vocabulary.ids.type:
        raise DataError(
            f"{where} learnt {describe_type(vocabulary.ids.type)} (such as {vocabulary.ids[0].as_py()!r}), but got "
            f"{describe_type(given.type)} (such as {given[0].as_py()!r}): convert them"
        )
    codes = np.full(len(ids), -1, np.int32)
    codes[ids.is_valid().to_numpy(zero_copy_only=False)] = vocabulary.encode(given)
    unseen = np.flatnonzero(codes < 0)
    rows = codes + np.int32(known.first_row)
    oov = known.first_row
    rows[unseen] = [zlib.crc32(str(ids[int(i)].as_py()).encode()) % oov for i in unseen] if oov > 1 else 0
    return rows


def check_encoded(feature: Feature, encoded: Any, size: int, rows: int | None) -> None:
    """Raise `SpecError` naming class and method unless this is what `encode` must give for `size` rows. `rows`: those
    of the feature's table, or None."""
    where = f"{type(feature).__qualname__}.encode must return"
    if feature.kind == "many":
        ok = isinstance(encoded, Ragged) and len(encoded.offsets) == size + 1 and encoded.values.dtype == np.int32
        if not ok:
            raise SpecError(f"{where} a Ragged of {size} rows of int32 codes, got {_described(encoded)}")
    else:
        one = feature.kind == "one"
        shape = (size,) if one else (size, feature.numbers)
        ok = isinstance(encoded, np.ndarray) and encoded.shape == shape
        if not ok or (encoded.dtype != np.int32 if one else encoded.dtype.kind != "f"):
            kind = "int32" if one else "floating-point numbers"
            raise SpecError(f"{where} {kind} of shape {shape}, got {_described(encoded)}")
    codes = encoded.values if isinstance(encoded, Ragged) else encoded
    if rows is not None and len(codes) and not (codes.min() >= 0 and codes.max() < rows):
        wrong = int(codes.min() if codes.min() < 0 else codes.max())
        raise SpecError(f"{where} rows 0 … {rows - 1} of {feature.table_name}, got {wrong}")


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, Ragged):
        return f"a Ragged of {len(value.offsets) - 1} rows of {value.values.dtype}"
    return type(value).__name__
