"""Features: what a tower reads of a column."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from recs_core.contract.validation import is_finite, is_whole, require


@dataclass(frozen=True)
class Feature:
    """What every feature has: the name of the column it reads."""

    name: str

    def __post_init__(self) -> None:
        require(isinstance(self.name, str) and bool(self.name), self, f"name must be a column name, got {self.name!r}")
        require("/" not in self.name, self, f"name {self.name!r} must not contain '/', which separates weight names")

    @property
    def table_name(self) -> str | None:
        """Canonical name of the table this feature looks rows up in, `table/…`; None for a dense one."""
        return None

    @property
    def width(self) -> int:
        """How many numbers the feature adds to its tower's input."""
        raise NotImplementedError


@dataclass(frozen=True)
class TableFeature(Feature):
    dim: int = 64
    table: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.dim, 1), self, f"{self.name!r} needs dim ≥ 1, got {self.dim!r}")
        require(self.table is None or bool(self.table), self, f"{self.name!r}: table must be a name or None")

    @property
    def table_name(self) -> str:
        return f"table/{self.table or self.name}"

    @property
    def width(self) -> int:
        return self.dim


@dataclass(frozen=True)
class Categorical(TableFeature):
    """One id a row (string or int64), looked up in a table of shape (num_oov + vocabulary, dim).

    Rows 0 … num_oov − 1 are for ids never seen in training (a stable hash picks one); they start at zero.
    `table`: name of the table, by default the column's; two features that state the same `table` share it
    and its vocabulary.
    """

    num_oov: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.num_oov, 1), self, f"{self.name!r} needs num_oov ≥ 1, got {self.num_oov!r}")


@dataclass(frozen=True)
class Bag(TableFeature):
    """Several ids a row (a list column), pooled: `mean` (÷ the number of ids) or `sum`. An empty bag is zeros."""

    num_oov: int = 1
    pooling: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.num_oov, 1), self, f"{self.name!r} needs num_oov ≥ 1, got {self.num_oov!r}")
        require(
            self.pooling in ("mean", "sum"), self, f"{self.name!r}: pooling is 'mean' or 'sum', got {self.pooling!r}"
        )


@dataclass(frozen=True)
class Text(TableFeature):
    """Words of a text and their n-grams up to `ngrams`, hashed into `buckets` rows, mean-pooled. No text is zeros."""

    buckets: int = 2**15
    ngrams: int = 2
    pooling: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.buckets, 1), self, f"{self.name!r} needs buckets ≥ 1, got {self.buckets!r}")
        require(is_whole(self.ngrams, 1), self, f"{self.name!r} needs ngrams ≥ 1, got {self.ngrams!r}")


@dataclass(frozen=True)
class History(TableFeature):
    """The query's past candidates, mean-pooled; never the target itself. A query feature only.

    `name` is the candidate id column. `share="candidate"` (default) uses the candidate tower's table of that
    name; `share=None` gives the history its own table, `table/<name>_history`. In a step by interaction the
    input is the strictly earlier candidates; in a step by query a random share `keep` of them is the input and
    the rest are the targets. `max_length` keeps the latest ones only (None: all).
    """

    share: Literal["candidate"] | None = "candidate"
    keep: float = 0.5
    max_length: int | None = None
    pooling: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.share in ("candidate", None), self, f"{self.name!r}: share is 'candidate' or None, got {self.share!r}"
        )
        require(
            is_finite(self.keep) and 0 < self.keep < 1, self, f"{self.name!r} needs 0 < keep < 1, got {self.keep!r}"
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


@dataclass(frozen=True)
class Numeric(Feature):
    """One number a row, standardised with the training mean and standard deviation (population; 1 if it is 0)."""

    @property
    def width(self) -> int:
        return 1
