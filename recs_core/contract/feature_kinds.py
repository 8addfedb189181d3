"""The kinds of features that recs-core brings: those of ids and words here, those of numbers in `feature_numbers`
and `feature_vectors`.

`features` says what a feature is; one of your own is written alike.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.contract.batch import Past, Ragged, Sequences, Side
from recs_core.contract.columns import as_lists, as_values
from recs_core.contract.encoders import GRU, EncoderPlan, SelfAttention, Time
from recs_core.contract.errors import DataError
from recs_core.contract.feature_numbers import Bucketed, Clock, Numeric
from recs_core.contract.feature_vectors import Vector
from recs_core.contract.features import Column, Encoded, Feature, Kind, Known, State, TableFeature, table_rows
from recs_core.contract.validation import is_finite, is_one_of, is_whole, require

__all__ = ["FEATURES", "Bag", "Bucketed", "Categorical", "Clock", "History", "Numeric", "Text", "Vector"]


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
    """The query's past candidates, averaged, or in their order through an `encoder`. A query feature only.

    `name` is the candidate id column. `share="candidate"` (default) uses the candidate tower's table of that name;
    `share=None` gives the history its own table, `table/<name>_history`. In batches by interaction the input is the
    strictly earlier candidates, never the target itself; in batches by query a random share `input_share` of them is
    the input and the rest are the targets. `max_length` keeps the latest ones only (None: all).

    `encoder`: `GRU` or `SelfAttention`, trained in batches by sequence; it needs `max_length`. None: the mean.
    """

    share: Literal["candidate"] | None = "candidate"
    input_share: float = 0.5
    max_length: int | None = None
    encoder: GRU | SelfAttention | None = None

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
        require(
            self.encoder is None or isinstance(self.encoder, GRU | SelfAttention),
            self,
            f"{self.name!r}: encoder is recs.GRU(…), recs.SelfAttention(…) or None, got {self.encoder!r}",
        )
        if self.encoder is not None:
            self.encoder.check(self.where, self.dim, self.max_length)

    @property
    def table_name(self) -> str:
        if self.table is not None or self.share == "candidate":
            return f"table/{self.table or self.name}"
        return f"table/{self.name}_history"

    @property
    def averages(self) -> bool:
        return True

    def describe(self) -> str:
        if self.encoder is not None:
            return f"past {self.name} in order, {self.dim}: {self.encoder.describe()}, latest {self.max_length}"
        return f"mean of past {self.name}, {self.dim}"

    def column(self, side: Side) -> Column:
        column = super().column(side)
        if self.encoder is None:
            return column
        assert self.max_length is not None
        plan = EncoderPlan(self.encoder, f"{side}/encoder/{self.name}", self.dim, self.max_length)
        return replace(column, kind="sequence", encoder=plan)

    def ids(self, values: pa.Array) -> pa.Array:
        return values

    def rows(self, state: State) -> int:
        return 1

    @property
    def reads_time(self) -> Time | None:
        return None if self.encoder is None else self.encoder.reads_time

    def encode_past(self, past: Past, rows: NDArray[np.int32]) -> Ragged | Sequences:
        latest = past.without(rows[past.codes.values] < 0).latest(self.max_length)
        codes = Ragged(rows[latest.codes.values], latest.codes.offsets)
        if self.encoder is None:
            return codes
        if not self.reads_time:
            return Sequences.last(codes)
        if latest.times is None:
            raise DataError(f"{self.where}: SelfAttention(time={self.reads_time!r}) reads the times of past candidates")
        return Sequences.last(codes, latest.times, latest.asked if self.reads_time == "request" else latest.times)

    def blank(self, size: int) -> Encoded:
        return self.encode_past(Past.nothing(size), np.zeros(0, np.int32))


FEATURES: Sequence[type[Feature]] = (Categorical, Bag, Text, History, Numeric, Bucketed, Clock, Vector)
"""The kinds that recs-core brings."""
