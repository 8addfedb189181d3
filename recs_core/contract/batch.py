"""What a training step reads: NumPy only, prepared by the core ahead of the step.

A batch says which rows of which weights it touches; every code in it counts within those rows. So a backend
gathers the rows, runs the towers on them, and scatters the updated rows back: the cost of a step does not
depend on how large the tables are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

Side: TypeAlias = Literal["query", "candidate"]
Codes: TypeAlias = "NDArray[np.int32] | Ragged | Sequences"
Times: TypeAlias = "NDArray[np.float64] | None"

INT32 = 2**31 - 1
"""The largest code, and the largest row number or offset that is held in four bytes."""


@dataclass(frozen=True)
class Ragged:
    """Several codes per row: row i holds values[offsets[i]:offsets[i + 1]].

    Offsets are int32, and int64 where there are more values than int32 counts, which no batch has; so are values that
    are row numbers and no codes.
    """

    values: NDArray[np.int32]  # (nnz,)
    offsets: NDArray[np.int32]  # (n + 1,), from 0 to nnz

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Ragged:
        """From one list of codes per row."""
        flat = [code for row in rows for code in row]
        return cls.from_lengths(np.array(flat, np.int32), np.array([len(row) for row in rows], np.int64))

    @classmethod
    def from_lengths(cls, values: NDArray[np.int32], lengths: NDArray[np.integer]) -> Ragged:
        """From all values end to end, and how many each row holds."""
        return cls(values, offsets_of(lengths))

    @cached_property
    def lengths(self) -> NDArray[np.int32]:
        """(n,): how many codes each row holds."""
        return np.diff(self.offsets)

    @cached_property
    def segments(self) -> NDArray[np.int32]:
        """(nnz,): the row of each value."""
        return np.repeat(np.arange(len(self.lengths), dtype=numbers_of(len(self.lengths))), self.lengths)

    def take(self, rows: NDArray[np.integer]) -> Ragged:
        """The rows asked for, in that order."""
        places = self.places(rows)
        return Ragged(self.values[places.values], places.offsets)

    def take_or_empty(self, rows: NDArray[np.integer]) -> Ragged:
        """As `take`; a row of −1 is empty."""
        places = self.places_or_none(rows)
        return Ragged(self.values[places.values], places.offsets)

    def places(self, rows: NDArray[np.integer]) -> Ragged:
        """Where among all values those of the rows asked for lie, in that order."""
        return self._places(rows, self.lengths[rows])

    def places_or_none(self, rows: NDArray[np.integer]) -> Ragged:
        """As `places`; a row of −1 has none."""
        known = np.maximum(rows, 0)
        return self._places(known, np.where(rows < 0, 0, self.lengths[known]))

    def _places(self, rows: NDArray[np.integer], lengths: NDArray[np.integer]) -> Ragged:
        offsets = offsets_of(lengths)
        starts = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(starts + np.arange(offsets[-1], dtype=offsets.dtype), offsets)

    def without(self, out: NDArray[np.bool_]) -> Ragged:
        """Without the values marked `out` (nnz,)."""
        if not out.any():
            return self
        return Ragged(self.values[~out], offsets_of(~out)[self.offsets])

    def holds(self, rows: NDArray[np.integer], values: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether row `rows[…]` holds `values[…]`, for arrays of any one shape."""
        stride = np.int64(max(self.values.max(initial=0), values.max(initial=0)) + 2)  # leaves room for −1
        held = np.sort(self.segments * stride + self.values)
        asked = rows * stride + values
        return np.searchsorted(held, asked, "right") > np.searchsorted(held, asked, "left")

    def latest(self, length: int | None) -> Ragged:
        """The last `length` values of each row; None: all."""
        return self if length is None else self.without(self.beyond(length))

    def beyond(self, length: int) -> NDArray[np.bool_]:
        """(nnz,): what stands before the last `length` values of its row."""
        return self.offsets[1:][self.segments] - np.arange(len(self.values)) > length

    def followed_by(self, other: Ragged) -> Ragged:
        """The rows of both, the other's below."""
        lengths = np.concatenate([self.lengths, other.lengths])
        return Ragged.from_lengths(np.concatenate([self.values, other.values]), lengths)

    def joined(self, other: Ragged) -> Ragged:
        """Row by row, these values and then the other's."""
        rows = np.concatenate([self.segments, other.segments])
        order = np.argsort(rows, kind="stable")
        return Ragged.from_lengths(np.concatenate([self.values, other.values])[order], self.lengths + other.lengths)


@dataclass(frozen=True)
class Past:
    """What queries did: candidate codes per row, oldest first, and when.

    `times` (nnz,): seconds, None where nothing tells them. `at` (n,): when each query is asked, None: when the latest
    of its codes was.
    """

    codes: Ragged
    times: NDArray[np.float64] | None = None
    at: NDArray[np.float64] | None = None

    @classmethod
    def nothing(cls, size: int) -> Past:
        """That of `size` queries that did nothing, at no time."""
        return cls(Ragged(np.zeros(0, np.int32), np.zeros(size + 1, np.int32)), np.zeros(0))

    @property
    def asked(self) -> NDArray[np.float64] | None:
        """(nnz,): when each place is asked for what follows it: at the time of the next one, the last of a row at its
        query's."""
        if self.times is None:
            return None
        asked = np.append(self.times[1:], 0.0)[: len(self.times)]
        last = self.codes.offsets[1:][self.codes.lengths > 0] - 1
        asked[last] = self.times[last] if self.at is None else self.at[self.codes.lengths > 0]
        return asked

    def without(self, out: NDArray[np.bool_]) -> Past:
        """Without the codes marked `out` (nnz,)."""
        return Past(self.codes.without(out), None if self.times is None else self.times[~out], self.at)

    def latest(self, length: int | None) -> Past:
        """The last `length` codes of each row; None: all."""
        return self if length is None else self.without(self.codes.beyond(length))

    def take_or_none(self, rows: NDArray[np.integer]) -> Past:
        """The rows asked for, in that order; of a row of −1 nothing. It is left open when they are asked."""
        places = self.codes.places_or_none(rows)
        times = None if self.times is None else self.times[places.values]
        return Past(Ragged(self.codes.values[places.values], places.offsets), times)


@dataclass(frozen=True)
class Sequences:
    """Histories whose order counts, and the place in them that each row reads.

    `codes`: one history per row of it, oldest first. Row i of the tower reads the encoder's output at
    `codes.values[at[i]]`, which depends on that code and those before it in its history; −1 reads zeros. `keep`: of
    each array that the encoder masks, by its name in the plan, True where a code's number is kept, (nnz, width);
    without dropout, empty. `times` and `asked`, (nnz,) seconds: when each code was, and from when its place looks back
    at those before it; None of an encoder that reads no time.
    """

    codes: Ragged
    at: NDArray[np.int32]  # (n,)
    keep: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    times: NDArray[np.float64] | None = None
    asked: NDArray[np.float64] | None = None

    @classmethod
    def last(cls, codes: Ragged, times: Times = None, asked: Times = None) -> Sequences:
        """A row per history, which reads its latest code; an empty one reads zeros."""
        at = np.where(codes.lengths > 0, codes.offsets[1:] - 1, -1).astype(np.int32)
        return cls(codes, at, times=times, asked=asked)

    @classmethod
    def every(cls, codes: Ragged, times: Times = None, asked: Times = None) -> Sequences:
        """A row per code."""
        return cls(codes, np.arange(len(codes.values), dtype=np.int32), times=times, asked=asked)

    @property
    def values(self) -> NDArray[np.int32]:
        """(nnz,): all codes."""
        return self.codes.values

    @property
    def read(self) -> Sequences:
        """The same rows, each with a history of its own, up to the place that it reads; without masks."""
        of = np.searchsorted(self.codes.offsets, self.at, side="right") - 1
        starts = np.where(self.at < 0, 0, self.codes.offsets[of])
        lengths = np.where(self.at < 0, 0, self.at - starts + 1)
        offsets = offsets_of(lengths)
        place = np.repeat(starts - offsets[:-1], lengths) + np.arange(offsets[-1])
        return Sequences.last(Ragged(self.values[place], offsets), *self._timed(place))

    def take(self, rows: NDArray[np.integer]) -> Sequences:
        """The rows asked for, in that order, with the histories that they read and the masks of these."""
        at = self.at[rows]
        histories = np.searchsorted(self.codes.offsets, at, side="right") - 1  # −1 where at is
        read, place = np.unique(histories[at >= 0], return_inverse=True)
        places = self.codes.places(read)
        at = at.copy()
        at[at >= 0] += (places.offsets[:-1] - self.codes.offsets[:-1][read])[place]
        times, asked = self._timed(places.values)
        keep = {name: mask[places.values] for name, mask in self.keep.items()}
        return Sequences(Ragged(self.values[places.values], places.offsets), at, keep, times, asked)

    def _timed(self, place: NDArray[np.integer]) -> tuple[Times, Times]:
        """`times` and `asked` of these places."""
        return None if self.times is None else self.times[place], None if self.asked is None else self.asked[place]

    def followed_by(self, other: Sequences) -> Sequences:
        """The rows of both, the other's below; without masks."""
        shifted = np.where(other.at < 0, -1, other.at + len(self.values)).astype(np.int32)
        at = np.concatenate([self.at, shifted])
        both = self.codes.followed_by(other.codes)
        return Sequences(both, at, times=_joined(self.times, other.times), asked=_joined(self.asked, other.asked))


@dataclass(frozen=True)
class Features:
    """A tower's input for `size` rows.

    `codes`: feature name → int32 codes (n,), `Ragged` or `Sequences`, rows of the feature's table. `dense`: feature
    name → float numbers (n, width). `keep`: dropout multipliers (n, input_dim), 0 or 1/(1 − dropout), or None.
    """

    size: int
    codes: Mapping[str, Codes] = field(default_factory=dict)
    dense: Mapping[str, NDArray[np.floating]] = field(default_factory=dict)
    keep: NDArray[np.floating] | None = None

    @property
    def unmasked(self) -> Features:
        """Without the masks of a training step."""
        codes = {name: replace(c, keep={}) if isinstance(c, Sequences) else c for name, c in self.codes.items()}
        return Features(self.size, codes, self.dense)

    def take(self, rows: NDArray[np.integer]) -> Features:
        """The rows asked for, in that order, with their masks."""
        codes: dict[str, Codes] = {
            name: c[rows] if isinstance(c, np.ndarray) else c.take(rows) for name, c in self.codes.items()
        }
        dense = {name: numbers[rows] for name, numbers in self.dense.items()}
        return Features(len(rows), codes, dense, None if self.keep is None else self.keep[rows])

    def beside(self, other: Features) -> Features:
        """These columns and the other's, of the same rows; the other's where both have one of a name."""
        return Features(self.size, {**self.codes, **other.codes}, {**self.dense, **other.dense}, self.keep)

    def only(self, names: Collection[str]) -> Features:
        """The columns of these names."""
        codes = {name: codes for name, codes in self.codes.items() if name in names}
        return Features(self.size, codes, {name: numbers for name, numbers in self.dense.items() if name in names})

    def arrays(self, dtype: str = "float32") -> dict[str, NDArray[Any]]:
        """Every column by name as an exported tower takes it: codes (n,) or, of a column with many per row, its
        `<name>.values` (nnz,) and `<name>.offsets` (n + 1,), all int64; numbers (n, width) of `dtype`, the model's."""
        out: dict[str, NDArray[Any]] = {name: numbers.astype(dtype) for name, numbers in self.dense.items()}
        for name, held in self.codes.items():
            codes = held.read.codes if isinstance(held, Sequences) else held  # the exported tower reads the last place
            if isinstance(codes, Ragged):
                out[f"{name}.values"], out[f"{name}.offsets"] = (
                    a.astype(np.int64) for a in (codes.values, codes.offsets)
                )
            else:
                out[name] = codes.astype(np.int64)
        return out

    def followed_by(self, other: Features) -> Features:
        """The rows of both, the other's below; the same columns."""
        codes: dict[str, Codes] = {}
        for name, held in self.codes.items():
            below = other.codes[name]
            codes[name] = np.concatenate([held, below]) if isinstance(held, np.ndarray) else held.followed_by(below)  # type: ignore[arg-type]
        dense = {name: np.concatenate([held, other.dense[name]]) for name, held in self.dense.items()}
        return Features(self.size + other.size, codes, dense)

    def replaced(self, rows: NDArray[np.integer], by: Features) -> Features:
        """With rows[i] taken from row i of `by`, which has the same features."""
        source = np.arange(self.size)
        source[rows] = self.size + np.arange(by.size)
        codes: dict[str, Codes] = {}
        for name, old in self.codes.items():
            new = by.codes[name]
            if isinstance(old, np.ndarray):
                codes[name] = _written(old, rows, new)  # type: ignore[arg-type]
            else:
                codes[name] = old.followed_by(new).take(source)  # type: ignore[arg-type]
        dense = {name: _written(old, rows, by.dense[name]) for name, old in self.dense.items()}
        return Features(self.size, codes, dense)


def _written(old: NDArray[Any], rows: NDArray[np.integer], new: NDArray[Any]) -> NDArray[Any]:
    """A copy of `old` with these rows."""
    out = old.astype(np.result_type(old, new))
    out[rows] = new
    return out


def _joined(first: Times, second: Times) -> Times:
    return None if first is None or second is None else np.concatenate([first, second])


def flat(codes: Codes) -> NDArray[np.int32]:
    """All codes, end to end."""
    return codes if isinstance(codes, np.ndarray) else codes.values


def recoded(codes: Codes, values: NDArray[np.int32]) -> Codes:
    """The same rows with other codes, given end to end."""
    if isinstance(codes, Ragged):
        return Ragged(values, codes.offsets)
    if isinstance(codes, Sequences):
        return replace(codes, codes=Ragged(values, codes.codes.offsets))
    return values


def offsets_of(lengths: ArrayLike) -> NDArray[np.int32]:
    """(n + 1,): where each row begins, and where the last one ends; int64 where that is beyond int32."""
    lengths = np.asarray(lengths)
    offsets = np.zeros(len(lengths) + 1, numbers_of(int(lengths.sum(dtype=np.int64))))
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def numbers_of(count: int) -> type[np.int32]:
    """The type that numbers of so many things are held in: int32 where it holds them, else int64."""
    return np.int32 if count <= INT32 else np.int64  # type: ignore[return-value]


class TaskInputs(TypedDict, total=False):
    """The keyword arguments of `RetrievalTask.__call__`, as a batch carries them: `task(q, c, **batch.task)`."""

    target_query: NDArray[np.int32]  # (T,) row of the query of each target
    target_candidate: NDArray[np.int32]  # (T,) its column among the candidates
    sample_weight: NDArray[np.floating]  # (T,) ≥ 0
    candidate_sampling_probability: NDArray[np.floating]  # (C,) q of each column, per draw
    candidate_ids: NDArray[np.int32]  # (C,) codes of the candidates, rows of task/bias
    positives: Ragged  # (Q rows, or as many as `positives_row` names) columns that are never negatives of the query
    positives_row: NDArray[np.int32]  # (Q,) the row of `positives` of each query; by default its own
    negatives_from: int  # columns from this one on are negatives of every query; earlier ones serve as targets only
    score_mask: NDArray[np.bool_]  # (Q, C) True = keep
    uncorrected_from: int  # columns from this one on are no draws: as negatives they have no correction


@dataclass(frozen=True)
class Batch:
    """One training step's input.

    `rows`: canonical weight name (`table/…`, `task/bias`) → its rows this batch touches, int32, unique, ascending.
    `query` and `candidate`: features of the Q queries and C candidate columns; their codes index into `rows`.
    `bias_codes`: (C,) index into `rows["task/bias"]`, or None without a bias.
    `whole`: names whose `rows` are all of the weight's rows, in order, so no gather is needed.
    `full`: how many queries and targets a full batch of its epoch may hold, about; a backend that compiles by shape
    pads to it, so that all batches of an epoch share a program. (0, 0): unknown.
    """

    rows: Mapping[str, NDArray[np.int32]]
    query: Features
    candidate: Features
    task: TaskInputs
    bias_codes: NDArray[np.int32] | None = None
    whole: frozenset[str] = frozenset()
    full: tuple[int, int] = (0, 0)

    def side(self, side: Side) -> Features:
        """The features of one side."""
        return self.query if side == "query" else self.candidate
