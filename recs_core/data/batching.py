"""Cutting an encoded data set into batches: by interaction, by query or by sequence, the same for every backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import (
    Batch,
    Codes,
    Features,
    Past,
    Ragged,
    Sequences,
    Side,
    Times,
    numbers_of,
    offsets_of,
)
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.randomness import generator
from recs_core.contract.towers import TowerSpec
from recs_core.data.encoded import EncodedDataset
from recs_core.data.encoding import past
from recs_core.data.impressions import once_each
from recs_core.data.negatives import candidate_columns, task_inputs
from recs_core.data.rows import localised, strictly_earlier, unique
from recs_core.data.sequences import check_sequences, length_of, windows_of, with_masks
from recs_core.data.shuffle import Pools, Shuffle


@dataclass(frozen=True)
class _Targets:
    """One batch before features: Q queries, T targets, and each query's input history."""

    queries: NDArray[np.int32]  # (Q,) query codes
    target_query: NDArray[np.int32]  # (T,)
    codes: NDArray[np.int32]  # (T,) candidate codes
    weight: NDArray[np.floating] | None  # (T,)
    history: Past | None  # (Q,), or by sequence one per window
    context: Features | None = None  # (Q rows)
    shown: Ragged | None = None  # (Q rows) candidate codes


class Batching:
    """The core's `Dataset`: encoded interactions, cut into batches by any plan."""

    def __init__(self, data: EncodedDataset) -> None:
        self.data = data
        self._cuts: dict[BatchPlan, _Cut] = {}

    def __len__(self) -> int:
        return len(self.data)

    def steps(self, plan: BatchPlan) -> int:
        """Number of batches per epoch."""
        return self._cut(plan).steps

    def batches(self, plan: BatchPlan, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from number `start` on: every row once, in an order drawn from (seed, epoch).

        Raises `DataError` for data without rows, a plan that leaves no batch, or one that needs times and has none.
        """
        cut = self._cut(plan)
        return (cut.batch(seed=seed, epoch=epoch, step=step) for step in range(start, cut.steps))

    def batch(self, plan: BatchPlan, *, seed: int, epoch: int, step: int) -> Batch:
        """One of `batches`, made without those before it. Raises as `batches`."""
        return self._cut(plan).batch(seed=seed, epoch=epoch, step=step)

    def _cut(self, plan: BatchPlan) -> _Cut:
        if plan not in self._cuts:
            self._cuts[plan] = _Cut(self.data, plan)
        return self._cuts[plan]


class _Cut:
    """One data set under one plan. What does not change from epoch to epoch is computed once."""

    def __init__(self, data: EncodedDataset, plan: BatchPlan) -> None:
        if not len(data):
            raise DataError("no interactions to train on")
        self.data, self.plan = data, plan
        self.corpus = len(data.schema.candidates)
        check_sequences(data, plan)
        if not self.steps:
            raise DataError(f"drop_last leaves no batch of {plan.size}, an epoch has {self.units}; lower batch_size")
        if plan.batch_by == "query" and data.schema.context:
            raise SpecError(
                f"batch_by='query' has one vector for all interactions of a query, but the query tower reads "
                f"{', '.join(map(repr, data.schema.context))} of each; train with batch_by='interaction'"
            )
        if data.negatives is not None and plan.retrieval.negatives == "corpus":
            raise SpecError(
                "negatives='corpus' has every candidate as a negative already, those of from_table(negatives=) among "
                "them; leave that out, or train with negatives='in-batch', 'uniform' or 'mixed'"
            )
        if data.weights is not None and not data.weights.any():
            raise DataError(f"all {len(data):,} rows have weight 0: nothing would be learnt")
        if plan.recency_days is not None:
            _ = data.newest  # refuses rows without times

    def batch(self, *, seed: int, epoch: int, step: int) -> Batch:
        """A batch of an epoch."""
        places = np.arange(step * self.plan.size, min((step + 1) * self.plan.size, self.units))
        chosen = self.order(places, seed=seed, epoch=epoch)
        random = generator(seed, "batch", epoch, step)
        if self.plan.batch_by == "query":
            return self._batch(self._by_query(chosen, random), random)
        return self._batch(
            self._by_sequence(chosen) if self.plan.batch_by == "sequence" else self._by_interaction(chosen), random
        )

    def order(self, places: NDArray[np.integer], *, seed: int, epoch: int) -> NDArray[np.int64]:
        """Numbers of the units that stand at these places of an epoch."""
        chosen = _order(self.units, self.plan.pool_rows, seed, epoch)(places)
        if self.data.old is None:
            return chosen
        fresh, old = self.fresh_and_old
        drawn = chosen >= len(fresh)
        chosen[~drawn] = fresh[chosen[~drawn]]
        chosen[drawn] = old[Shuffle(len(old), seed, "replay", epoch)(chosen[drawn] - len(fresh))]
        return chosen

    @cached_property
    def units(self) -> int:
        """What an epoch goes through once: interactions, queries, or sequences."""
        if self.data.old is None:
            return len(self.data) if self.plan.batch_by == "interaction" else len(self._rows_of_unit.lengths)
        fresh, old = self.fresh_and_old
        share = self.plan.replay
        return len(fresh) + min(len(old), round(share / (1 - share) * len(fresh)))

    @cached_property
    def fresh_and_old(self) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Numbers of the units that have a row of these data as a target, and of those that have only old ones."""
        assert self.data.old is not None
        old = self._old_units(self.data.old)
        return np.flatnonzero(~old), np.flatnonzero(old)

    def _old_units(self, old: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self.plan.batch_by == "interaction":
            return old
        rows = self._rows_of_unit
        counted = ~old[rows.values]
        if self.plan.batch_by == "sequence":
            counted[rows.offsets[:-1]] = False  # which is read, and no target
        return np.bincount(rows.segments[counted], minlength=len(rows.lengths)) == 0

    @cached_property
    def counts(self) -> NDArray[np.floating] | NDArray[np.int64]:
        """(corpus,): how many targets an epoch has of each candidate, of drawn units as many as are expected."""
        data = self.data
        if data.old is None:
            return data.counts
        fresh, old = self.fresh_and_old
        share = (self.units - len(fresh)) / max(1, len(old))
        weight = np.ones(len(fresh) + len(old))
        weight[old] = share
        if self.plan.batch_by == "interaction":
            return np.bincount(data.candidate_codes, weight, minlength=self.corpus)
        rows = self._rows_of_unit
        return np.bincount(data.candidate_codes[rows.values], weight[rows.segments], minlength=self.corpus)

    @property
    def steps(self) -> int:
        """Number of batches per epoch."""
        return self.units // self.plan.size if self.plan.drop_last else -(-self.units // self.plan.size)

    @cached_property
    def full(self) -> tuple[int, int]:
        """How many queries and targets a full batch may hold: by query or sequence, but for one batch in thousands."""
        queries = min(self.plan.size, self.units)
        if self.plan.batch_by == "interaction":
            return queries, queries
        if self.plan.batch_by == "sequence":
            targets = self.windows.lengths - 1
            most = int(
                min(np.sort(targets)[-queries:].sum(), queries * targets.mean() + 4 * queries**0.5 * targets.std())
            )
            return most, most * self.plan.targets
        lengths = self.rows_of_query[1].lengths
        targets = lengths - np.floor((self.data.input_share or 0) * lengths)
        return queries, int(min(targets.sum(), queries * targets.mean() + 4 * queries**0.5 * targets.std()))

    @property
    def _rows_of_unit(self) -> Ragged:
        """The rows of each query, or of each sequence."""
        return self.rows_of_query[1] if self.plan.batch_by == "query" else self.windows

    @cached_property
    def windows(self) -> Ragged:
        """Of each sequence its rows, in order: all but the first are targets, all but the last are read."""
        return windows_of(self.row_counts, length_of(self.data))

    @cached_property
    def rows_of_query(self) -> tuple[NDArray[np.int32], Ragged]:
        """Codes of the queries that have rows, and of each its rows: the last one of every distinct candidate."""
        data = self.data
        keys = data.query_codes.astype(np.int64) * self.corpus + data.candidate_codes
        _, last = np.unique(keys[::-1], return_index=True)
        rows = np.sort(len(keys) - 1 - last).astype(numbers_of(len(keys)))
        queries, counts = np.unique(data.query_codes[rows], return_counts=True)
        return queries, Ragged.from_lengths(rows, counts)

    @cached_property
    def positives(self) -> Ragged:
        """(queries,): the distinct candidate codes of each query."""
        queries, rows = self.rows_of_query
        lengths = np.zeros(len(self.data.schema.queries), np.int64)
        lengths[queries] = rows.lengths
        return Ragged.from_lengths(self.data.candidate_codes[rows.values], lengths)

    @cached_property
    def row_counts(self) -> NDArray[np.int64]:
        """(queries,): training rows of each query."""
        return np.bincount(self.data.query_codes, minlength=len(self.data.schema.queries))

    def _by_interaction(self, rows: NDArray[np.integer]) -> _Targets:
        """Each row is one query with one target; its history is what the query did strictly before."""
        data = self.data
        queries, codes = data.query_codes[rows], data.candidate_codes[rows]
        history = None
        if self.data.input_share is not None:
            start = self.first_row[queries]
            lengths = strictly_earlier(rows, start, data.timestamps)
            offsets = offsets_of(lengths)
            index = np.repeat(start - offsets[:-1], lengths) + np.arange(offsets[-1])
            before = Past(Ragged(data.candidate_codes[index], offsets), *self._timed(index, rows))
            history = before.without(before.codes.values == codes[before.codes.segments])
        weight = self._weight(rows, self.row_counts[queries])
        context = None if data.context is None else data.context.take(rows)
        shown = data.negatives and data.negatives.take(rows)
        return _Targets(queries, np.arange(len(rows), dtype=np.int32), codes, weight, history, context, shown)

    def _timed(self, read: NDArray[np.integer], rows: NDArray[np.integer]) -> tuple[Times, Times]:
        """When what is read was, and when the targets are, by numbers of rows."""
        times = self.data.timestamps
        return (None, None) if times is None else (times[read], times[rows])

    @cached_property
    def first_row(self) -> NDArray[np.int64]:
        """(queries,): where the rows of each query begin."""
        return np.concatenate([[0], np.cumsum(self.row_counts)])[:-1]

    def _by_query(self, chosen: NDArray[np.integer], random: np.random.Generator) -> _Targets:
        """Each query with all its targets, or with a random part as its history and the rest as targets."""
        queries, rows_of = self.rows_of_query
        rows = rows_of.take(chosen)
        history = None
        if self.data.input_share is not None:
            is_input = _random_share(rows, self.data.input_share, random)
            history = Past(Ragged(self.data.candidate_codes[rows.values], rows.offsets).without(~is_input))
            rows = rows.without(is_input)
        weight = self._weight(rows.values, rows.lengths[rows.segments])
        shown = None if self.data.negatives is None else self._shown(rows)
        codes = self.data.candidate_codes[rows.values]
        return _Targets(queries[chosen], rows.segments, codes, weight, history, shown=shown)

    def _by_sequence(self, chosen: NDArray[np.integer]) -> _Targets:
        """Each row but a window's first is the target of those before it, and so are the rows of its query that follow,
        up to the plan's targets; the longest windows first, so that who pads can pad neighbours alike."""
        data = self.data
        windows = self.windows.take(chosen[np.argsort(-self.windows.lengths[chosen], kind="stable")])
        places = np.arange(len(windows.values))
        read = windows.without(places == (windows.offsets[1:] - 1)[windows.segments])
        rows = windows.without(places == windows.offsets[:-1][windows.segments]).values
        last = windows.values[windows.offsets[1:] - 1]
        queries = data.query_codes[rows]
        targets = self._next_rows(rows)
        return _Targets(
            queries=queries,
            target_query=targets.segments,
            codes=data.candidate_codes[targets.values],
            weight=self._weight(targets.values, self.targets_of_query[queries][targets.segments]),
            history=Past(Ragged(data.candidate_codes[read.values], read.offsets), *self._timed(read.values, last)),
            context=None if data.context is None else data.context.take(rows),
            shown=data.negatives and data.negatives.take(rows),
        )

    def _next_rows(self, rows: NDArray[np.integer]) -> Ragged:
        """Each row, and those of its query that follow it, as many as the plan has targets."""
        queries = self.data.query_codes[rows]
        left = self.first_row[queries] + self.row_counts[queries] - rows
        number = np.minimum(self.plan.targets, left)
        offsets = offsets_of(number)
        return Ragged(np.repeat(rows - offsets[:-1], number) + np.arange(offsets[-1], dtype=offsets.dtype), offsets)

    @cached_property
    def targets_of_query(self) -> NDArray[np.int64]:
        """(queries,): how many targets the places of each query's sequences have, all together."""
        places = np.maximum(self.row_counts - 1, 0)
        most = np.minimum(self.plan.targets, places)  # of all places but the last ones, which have fewer left
        return most * places - most * (most - 1) // 2

    def _shown(self, rows: Ragged) -> Ragged:
        """What the targets of each query were shown and not taken: `rows` holds, of each, numbers of interactions."""
        assert self.data.negatives is not None
        listed = self.data.negatives.take(rows.values)
        return once_each(Ragged(listed.values, listed.offsets[rows.offsets]))

    def _weight(self, rows: NDArray[np.integer], targets_of_query: NDArray[np.integer]) -> NDArray[np.floating] | None:
        alpha = self.plan.row_weight
        weight = None if alpha == 1 else targets_of_query.astype(np.float64) ** (alpha - 1)
        factors = [] if self.data.weights is None else [self.data.weights[rows]]
        if self.plan.recency_days is not None:
            factors.append(self.data.recency(rows, self.plan.recency_days))
        for factor in factors:
            weight = factor if weight is None else weight * factor
        return weight

    def _batch(self, targets: _Targets, random: np.random.Generator) -> Batch:
        spec, data = self.plan.retrieval, self.data
        columns, target_column, start = candidate_columns(spec, targets.codes, self.corpus, random)
        if targets.shown is not None:
            columns = np.concatenate([columns, np.unique(targets.shown.values)])
        never, shown = self._never_negative(targets), targets.shown
        task = task_inputs(
            spec, columns, targets.target_query, target_column, start, self.counts, targets.weight, never, shown
        )
        if never is not None and self.plan.batch_by == "sequence":
            assert targets.history is not None
            task["positives_row"] = targets.history.codes.segments
        query = data.query.take(targets.queries)
        if targets.history is not None:
            query = query.beside(Features(query.size, self._past(targets.history)))
        if targets.context is not None:
            query = query.beside(targets.context)
        everything = spec.negatives == "corpus"
        candidate = data.candidate if everything else data.candidate.take(columns)
        rows, query, candidate, whole = localised(data, query, candidate, everything)
        bias_codes = None
        if spec.candidate_bias:
            rows["task/bias"], bias_codes = unique(columns)
            whole |= {"task/bias"} if everything else set()
        query = _with_dropout(query, "query", data.query_tower, random)
        candidate = _with_dropout(candidate, "candidate", data.candidate_tower, random)
        return Batch(rows, query, candidate, task, bias_codes, frozenset(whole), self.full)

    def _past(self, history: Past) -> dict[str, Codes]:
        """What the features that read the past make of it: by sequence, a row per code."""
        found = past(self.data.query_tower, self.data.schema, history)
        if self.plan.batch_by != "sequence":
            return found
        return {
            name: Sequences.every(codes.codes, codes.times, codes.asked)
            for name, codes in found.items()
            if isinstance(codes, Sequences)
        }

    def _never_negative(self, targets: _Targets) -> Ragged | None:
        """Candidate codes that are no negatives of each query, or by sequence of each window: all positives of the
        query, or by query its input history."""
        if self.plan.retrieval.mask_positives:
            if self.plan.batch_by == "sequence":
                assert targets.history is not None
                return self.positives.take(targets.queries[targets.history.codes.offsets[:-1]])
            return self.positives.take(targets.queries)
        return targets.history.codes if self.plan.batch_by == "query" and targets.history is not None else None


@lru_cache(maxsize=4)
def _order(units: int, pool: int | None, seed: int, epoch: int) -> Shuffle | Pools:
    """The order of an epoch; a pool that holds all of it is no pool."""
    if pool is None or pool >= units:
        return Shuffle(units, seed, "shuffle", epoch)
    return Pools(units, pool, seed, epoch)


def _random_share(rows: Ragged, share: float, random: np.random.Generator) -> NDArray[np.bool_]:
    """Marks ⌊share · n⌋ random values of each row, so that at least one is left."""
    draw = random.random(len(rows.values))
    order = np.lexsort((draw, rows.segments))
    place = np.empty(len(draw), np.int64)
    place[order] = np.arange(len(draw)) - rows.offsets[:-1][rows.segments]
    return place < np.floor(share * rows.lengths)[rows.segments]


def _with_dropout(features: Features, side: Side, tower: TowerSpec, random: np.random.Generator) -> Features:
    """With the keep masks of a training step, of the tower's input and of its encoders."""
    codes = dict(features.codes)
    for encoder, name in ((column.encoder, column.name) for column in (f.column(side) for f in tower.features)):
        if encoder is not None and encoder.masked:
            codes[name] = with_masks(codes[name], encoder, random)
    keep = None
    if tower.dropout:
        kept = random.random((features.size, tower.input_dim), np.float32) >= tower.dropout
        keep = kept / np.float32(1 - tower.dropout)
    return Features(features.size, codes, features.dense, keep)
