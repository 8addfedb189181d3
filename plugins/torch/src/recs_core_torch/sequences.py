"""Histories as tensors, and how they are laid out for attention and for recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recs_core.contract.batch import Sequences, Times
from recs_core.contract.encoders import TIME_BUCKETS, time_buckets
from recs_core_torch.tensors import as_tensor

PADDED = 1.15
"""Histories are padded together while that makes at most so many places of each code."""

MIN_CODES = 1024
"""Of a block, at least: below that the calls cost more than the padding."""


@dataclass(frozen=True)
class TensorSequences:
    """`Sequences` as tensors. `layout` stays on the host: it says where which history lies."""

    values: Tensor  # (nnz,)
    at: Tensor | None  # (n,); None: every code's own place
    empty: Tensor | None  # (n,) rows that read zeros; None: no row does
    keep: Mapping[str, Tensor]
    layout: Layout

    @classmethod
    def of(cls, sequences: Sequences) -> TensorSequences:
        """The sequences, on the CPU."""
        at, number = sequences.at, len(sequences.values)
        every = len(at) == number and bool((at == np.arange(number)).all())
        empty = at < 0
        return cls(
            as_tensor(sequences.values),
            None if every else as_tensor(np.maximum(at, 0)),
            as_tensor(empty) if empty.any() else None,
            {name: as_tensor(mask) for name, mask in sequences.keep.items()},
            Layout(np.asarray(sequences.codes.offsets, np.int64), sequences.times, sequences.asked),
        )

    def each(self, change: Callable[[Tensor], Tensor]) -> TensorSequences:
        """The same, every tensor changed."""
        return TensorSequences(
            change(self.values),
            None if self.at is None else change(self.at),
            None if self.empty is None else change(self.empty),
            {name: change(mask) for name, mask in self.keep.items()},
            self.layout,
        )

    def read(self, encoded: Tensor) -> Tensor:
        """(n, width): what each row reads of the encoder's output (nnz, width)."""
        if self.at is None:
            return encoded
        if not len(encoded):
            return encoded.new_zeros(len(self.at), encoded.shape[1])
        rows = encoded.index_select(0, self.at)
        return rows if self.empty is None else rows.masked_fill(self.empty[:, None], 0)


@dataclass(frozen=True)
class Layout:
    """Where histories lie, end to end; `offsets` (histories + 1,). `times`, `asked`: as of `Sequences`."""

    offsets: NDArray[np.int64]
    times: Times = None
    asked: Times = None
    _tensors: dict[Any, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """(histories,)"""
        return np.diff(self.offsets)

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """(nnz,): each code's place in its history, from 0."""
        return np.arange(self.offsets[-1]) - np.repeat(self.offsets[:-1], self.lengths)

    @cached_property
    def longest(self) -> NDArray[np.int64]:
        """Histories that hold a code, the longest first."""
        order = np.argsort(-self.lengths, kind="stable")
        return order[self.lengths[order] > 0]

    @cached_property
    def blocks(self) -> list[tuple[int, int]]:
        """Of each block how many of the longest histories it holds, and to how many places each is padded."""
        lengths = self.lengths[self.longest]
        ends = [0]
        codes = 0
        for i, length in enumerate(lengths):
            places = (i + 1 - ends[-1]) * lengths[ends[-1]]
            if codes >= MIN_CODES and places > PADDED * (codes + length):
                ends.append(i)
                codes = 0
            codes += length
        return [(high - low, int(lengths[low])) for low, high in pairwise([*ends, len(lengths)]) if high > low]

    @cached_property
    def padded(self) -> NDArray[np.int64] | None:
        """(nnz,): where each code lies among the places of all blocks; None where it is where it was."""
        starts = np.zeros(len(self.lengths), np.int64)
        each = np.concatenate([np.full(number, length) for number, length in self.blocks] or [np.zeros(0, np.int64)])
        starts[self.longest] = np.cumsum(each) - each
        where = np.repeat(starts, self.lengths) + self.place
        return None if sum(each) == len(where) and bool((where == np.arange(len(where))).all()) else where

    @cached_property
    def buckets(self) -> list[NDArray[np.uint8]]:
        """Of each block (histories, places, places): the row of the time bias of place j, seen from i; 128 where j is
        later. Empty where no time is read."""
        if self.times is None or self.asked is None:
            return []
        sizes = [number * length for number, length in self.blocks]
        padded = np.zeros((2, sum(sizes)))
        padded[:, slice(None) if self.padded is None else self.padded] = self.times, self.asked
        out = []
        for (number, length), part in zip(self.blocks, np.split(padded, np.cumsum(sizes)[:-1], axis=1), strict=True):
            times, asked = part.reshape(2, number, length)
            out.append(np.where(np.tri(length, dtype=bool), time_buckets(asked, times), np.uint8(TIME_BUCKETS)))
        return out

    @cached_property
    def by_place(self) -> NDArray[np.int64]:
        """(nnz,) the codes place by place, those of longer histories first, as a recurrent layer goes through them."""
        rank = np.zeros(len(self.lengths), np.int64)
        rank[self.longest] = np.arange(len(self.longest))
        return np.lexsort((np.repeat(rank, self.lengths), self.place))

    def tensor(self, name: Hashable, array: NDArray[Any], device: torch.device) -> Tensor:
        """An array of the layout on a device, put there once."""
        if (name, device) not in self._tensors:
            self._tensors[name, device] = as_tensor(array, device)
        return self._tensors[name, device]
