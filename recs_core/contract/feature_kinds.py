"""The kinds of features that recs-core brings. `features` says what a feature is; one of your own is written alike."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Ragged
from recs_core.contract.columns import as_lists, as_numbers, as_values
from recs_core.contract.errors import BadRows, DataError
from recs_core.contract.features import Feature, Kind, Known, State, TableFeature, table_rows
from recs_core.contract.validation import is_finite, is_one_of, is_whole, require


@dataclass(frozen=True)
class Categorical(TableFeature):
    """One id per row (string or int64), looked up in a table of shape (num_oov + vocabulary, dim).

    Rows 0 … num_oov − 1 are for ids never seen in training (a stable hash picks one); they start at zero.
    """

    num_oov: int = 1

    has_vocabulary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.num_oov, 1), self, f"{self.name!r} needs num_oov ≥ 1, got {self.num_oov!r}")

    def describe(self) -> str:
        return f"embedding of {self.name}, {self.dim}"

    def ids(self, values: pa.Array) -> pa.Array:
        return as_values(values, self.where).drop_null()

    @property
    def zero_rows(self) -> int:
        return self.num_oov

    def rows(self, state: State) -> int:
        return self.num_oov

    def encode(self, values: pa.Array, known: Known) -> NDArray[np.int32]:
        return table_rows(as_values(values, self.where), known, self.where)


@dataclass(frozen=True)
class Bag(TableFeature):
    """Several ids per row (a list column), pooled: `mean` (÷ the number of ids) or `sum`. An empty bag is zeros."""

    num_oov: int = 1
    pooling: Literal["mean", "sum"] = "mean"

    kind: ClassVar[Kind] = "many"
    has_vocabulary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.num_oov, 1), self, f"{self.name!r} needs num_oov ≥ 1, got {self.num_oov!r}")
        require(
            is_one_of(self.pooling, ("mean", "sum")),
            self,
            f"{self.name!r}: pooling is 'mean' or 'sum', got {self.pooling!r}",
        )

    @property
    def averages(self) -> bool:
        return self.pooling == "mean"

    def ids(self, values: pa.Array) -> pa.Array:
        return as_lists(values, self.where)[0].drop_null()

    @property
    def zero_rows(self) -> int:
        return self.num_oov

    def rows(self, state: State) -> int:
        return self.num_oov

    def encode(self, values: pa.Array, known: Known) -> Ragged:
        ids, offsets = as_lists(values, self.where)
        return Ragged(table_rows(ids, known, self.where), offsets)


@dataclass(frozen=True)
class Text(TableFeature):
    """Words of a text and their n-grams up to `ngrams`, hashed into `buckets` rows, averaged. No text is zeros.

    A gram is lower-cased words joined by one space; its row is crc32(utf-8) mod `buckets`.
    """

    buckets: int = 2**15
    ngrams: int = 2

    kind: ClassVar[Kind] = "many"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.buckets, 1), self, f"{self.name!r} needs buckets ≥ 1, got {self.buckets!r}")
        require(is_whole(self.ngrams, 1), self, f"{self.name!r} needs ngrams ≥ 1, got {self.ngrams!r}")

    @property
    def averages(self) -> bool:
        return True

    def learn(self, values: pa.Array) -> State:
        as_values(values, self.where, "text")  # refuses what is no text before training
        return {}

    def rows(self, state: State) -> int:
        return self.buckets

    def encode(self, values: pa.Array, known: Known) -> Ragged:
        rows_of: dict[str | None, list[int]] = {None: []}
        texts = as_values(values, self.where, "text").to_pylist()
        for text in texts:
            if text not in rows_of:
                rows_of[text] = [zlib.crc32(gram.encode()) % self.buckets for gram in self._grams(str(text))]
        return Ragged.of([rows_of[text] for text in texts])

    def _grams(self, text: str) -> list[str]:
        words = _WORDS.findall(text.lower())
        return [" ".join(words[i : i + n]) for n in range(1, self.ngrams + 1) for i in range(len(words) - n + 1)]


_WORDS = re.compile(r"\w+")


@dataclass(frozen=True)
class History(TableFeature):
    """The query's past candidates, averaged; never the target itself. A query feature only.

    `name` is the candidate id column. `share="candidate"` (default) uses the candidate tower's table of that name;
    `share=None` gives the history its own table, `table/<name>_history`. In batches by interaction the input is the
    strictly earlier candidates; in batches by query a random share `input_share` of them is the input and the rest are
    the targets. `max_length` keeps the latest ones only (None: all).
    """

    share: Literal["candidate"] | None = "candidate"
    input_share: float = 0.5
    max_length: int | None = None

    kind: ClassVar[Kind] = "many"
    reads_past: ClassVar[bool] = True
    has_vocabulary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.share is None or is_one_of(self.share, ("candidate",)),
            self,
            f"{self.name!r}: share is 'candidate' or None, got {self.share!r}",
        )
        require(
            is_finite(self.input_share) and 0 < self.input_share < 1,
            self,
            f"{self.name!r} needs 0 < input_share < 1, got {self.input_share!r}",
        )
        require(
            self.max_length is None or is_whole(self.max_length, 1),
            self,
            f"{self.name!r} needs max_length ≥ 1 or None, got {self.max_length!r}",
        )

    @property
    def table_name(self) -> str:
        if self.table is not None or self.share == "candidate":
            return f"table/{self.table or self.name}"
        return f"table/{self.name}_history"

    @property
    def averages(self) -> bool:
        return True

    def describe(self) -> str:
        return f"mean of past {self.name}, {self.dim}"

    def ids(self, values: pa.Array) -> pa.Array:
        return values

    def rows(self, state: State) -> int:
        return 1

    def encode_past(self, past: Ragged, rows: NDArray[np.int32]) -> Ragged:
        codes = rows[past.values]
        return Ragged(codes, past.offsets).without(codes < 0).latest(self.max_length)


@dataclass(frozen=True)
class Numeric(Feature):
    """One number per row, standardised with the training mean and standard deviation (population; 1 if it is 0)."""

    @property
    def width(self) -> int:
        return 1

    def learn(self, values: pa.Array) -> State:
        numbers = self._numbers(values)
        deviation = float(numbers.std())
        return {"mean": float(numbers.mean()), "deviation": deviation if deviation > 0 else 1.0}

    def check_learnt(self, state: State) -> None:
        mean, deviation = state.get("mean"), state.get("deviation")
        if not (is_finite(mean) and is_finite(deviation) and deviation > 0):  # type: ignore[operator]
            raise DataError(f"{self.where}: has no mean and deviation to standardise with")

    def encode(self, values: pa.Array, known: Known) -> NDArray[np.float64]:
        return ((self._numbers(values) - known.state["mean"]) / known.state["deviation"])[:, None]

    def _numbers(self, values: pa.Array) -> NDArray[np.float64]:
        numbers = as_numbers(values, self.where)
        missing = ~np.isfinite(numbers)
        if missing.any():
            raise BadRows(self.where, missing, "have no finite value", "fill or drop them")
        return numbers


@dataclass(frozen=True)
class Bucketed(TableFeature):
    """A number, by the bucket that it falls into: one of the rows 1 … n of its table; row 0 is for a missing one.

    `edges`: the ascending borders, n − 1 of them, or a number of buckets of equal size in the training data. A number
    on a border belongs to the bucket above it.
    """

    edges: Sequence[float] | int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_whole(self.edges, 2):
            given = list(self.edges) if isinstance(self.edges, (list, tuple, np.ndarray)) else []
            rising = all(is_finite(edge) for edge in given) and all(a < b for a, b in pairwise(given))
            require(bool(given) and rising, self, f"{self.name!r}: edges must rise, or be ≥ 2, got {self.edges!r}")
            object.__setattr__(self, "edges", tuple(float(edge) for edge in given))

    def learn(self, values: pa.Array) -> State:
        numbers = as_numbers(values, self.where)
        if not isinstance(self.edges, int):
            return {"edges": list(self.edges)}
        known = numbers[np.isfinite(numbers)]
        shares = np.arange(1, self.edges) / self.edges
        return {"edges": np.unique(np.quantile(known, shares)).tolist() if len(known) else []}

    def check_learnt(self, state: State) -> None:
        edges = state.get("edges")
        if not isinstance(edges, list) or not all(is_finite(edge) for edge in edges) or edges != sorted(edges):
            raise DataError(f"{self.where}: has no ascending edges")

    def rows(self, state: State) -> int:
        return len(state["edges"]) + 2

    def encode(self, values: pa.Array, known: Known) -> NDArray[np.int32]:
        numbers = as_numbers(values, self.where)
        buckets = 1 + np.searchsorted(known.state["edges"], numbers, side="right")
        return np.where(np.isnan(numbers), 0, buckets).astype(np.int32)


FEATURES: Sequence[type[Feature]] = (Categorical, Bag, Text, History, Numeric, Bucketed)
"""The kinds that recs-core brings."""
