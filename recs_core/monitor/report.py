"""A log against its bundle: one record per day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recs_core.bundle import info
from recs_core.contract.errors import DataError
from recs_core.contract.messages import some
from recs_core.loading import load
from recs_core.monitor.drift import BINS, Drift, counts_of, psi
from recs_core.monitor.lines import Answer, Log, Request
from recs_core.monitor.reference import Expected, Reference
from recs_core.recommender import Recommender
from recs_core.storage.paths import local

BLOCK = 2_000
"""Requests counted together: looking ids up scans the vocabulary, once for all of them."""


@dataclass(frozen=True)
class Day:
    """What one day (UTC, ISO 8601) holds.

    `requests` that this bundle answered, `refused` requests, `queries` in the answered ones, `unknown` of them, which
    training never saw. `compared`: answers that drift is told from. `scores`: of each answer the highest;
    `popularity`: of each answer the mean training rows of its candidates; None where nothing was compared. `coverage`:
    share of the corpus that any answer holds, None where the log has no answers.
    """

    day: str
    requests: int
    refused: int
    queries: int
    unknown: int
    compared: int
    scores: Drift | None
    popularity: Drift | None
    coverage: float | None

    @property
    def unknown_share(self) -> float | None:
        """Of all queries; None of none."""
        return self.unknown / self.queries if self.queries else None

    def as_json(self) -> dict[str, Any]:
        """As `recs monitor --json` has it."""
        drifts = {
            name: None if drift is None else {**vars(drift), "verdict": drift.verdict}
            for name, drift in (("scores", self.scores), ("popularity", self.popularity))
        }
        return {**vars(self), "unknown_share": self.unknown_share, **drifts}


@dataclass(frozen=True)
class Report:
    """`bundle`: its digest. `days`, in order. `malformed` lines, the first of them `first_malformed`, counted from 1.
    `others`: requests that other bundles answered, by how their digests begin. `answers`: whether the log holds any."""

    bundle: str
    days: tuple[Day, ...]
    malformed: int
    first_malformed: int | None
    others: dict[str, int]
    answers: bool

    def as_json(self) -> dict[str, Any]:
        """As `recs monitor --json` prints it."""
        return {**vars(self), "days": [day.as_json() for day in self.days]}


def monitor(bundle: str | Path, requests: str | Path) -> Report:
    """What a service's log tells of its bundle.

    `bundle`: its folder. `requests`: the log of `recs serve`, a line of JSON each; with `--log-answers` it holds what
    drift and coverage are told from. The log is read a line at a time; a day takes a byte per candidate.

    Raises `BundleError` for a folder that is no whole bundle or that NumPy cannot run, `DataError` for a log that
    cannot be read, that holds no answered request, or whose requests other bundles answered.
    """
    path = local(requests, "requests", DataError)
    model, digest = load(bundle, runtime="numpy"), str(info(bundle).manifest["digest"])
    log = Log(path, pa.types.is_integer(model.schema.candidates.ids.type))
    tally = _Tally(model, log)
    others: dict[str, int] = {}
    for block in _blocks(log.requests()):
        ours = [request for request in block if digest.startswith(request.bundle)]
        for request in block:
            if not digest.startswith(request.bundle):
                others[request.bundle] = others.get(request.bundle, 0) + 1
        tally.add(ours)
    if not tally.days:
        raise DataError(_nothing(path, digest, log, others))
    for day in log.refused:
        tally.days.setdefault(day, _Counted())
    days = tuple(tally.days[day].as_day(day, log.refused.get(day, 0)) for day in sorted(tally.days))
    answers = any(held.seen is not None for held in tally.days.values())
    return Report(digest, days, log.malformed, log.first_malformed, others, answers)


def _blocks(requests: Iterable[Request]) -> Iterator[list[Request]]:
    requests = iter(requests)
    while block := list(islice(requests, BLOCK)):
        yield block


def _nothing(path: Path, digest: str, log: Log, others: dict[str, int]) -> str:
    """Why a log tells nothing of this bundle."""
    if others:
        return (
            f"{path}: its {sum(others.values()):,} requests were answered by other bundles, whose digests begin with "
            f"{some(sorted(others))}; this one's is {digest[:12]}…: name the bundle that was served"
        )
    if log.malformed:
        unread = f"{log.malformed:,} cannot be read, the first is line {log.first_malformed}"
        return f"{path}: no line tells of an answered request, and {unread}; give the log of `recs serve`"
    return f"{path}: no line tells of an answered request; give the log that `recs serve` writes to stderr"


@dataclass
class _Sum:
    """One number of a day's answers, in the bins of whatever each is expected to be."""

    seen: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    expected: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    total: float = 0.0
    expected_total: float = 0.0
    size: int = 0

    def add(self, values: NDArray[np.float64], expected: Expected) -> None:
        self.seen += counts_of(values, expected.edges)
        self.expected += len(values) * expected.shares
        self.total += float(values.sum())
        self.expected_total += len(values) * expected.mean
        self.size = max(self.size, expected.size)

    def drift(self) -> Drift | None:
        n = int(self.seen.sum())
        if not n:
            return None
        return Drift(*psi(self.seen, self.expected / n, self.size), self.total / n, self.expected_total / n)


@dataclass
class _Counted:
    """A day so far. `seen` (corpus,): what was recommended, once there is an answer."""

    requests: int = 0
    queries: int = 0
    unknown: int = 0
    seen: NDArray[np.bool_] | None = None
    scores: _Sum = field(default_factory=_Sum)
    popularity: _Sum = field(default_factory=_Sum)

    def as_day(self, day: str, refused: int) -> Day:
        coverage = None if self.seen is None else float(self.seen.mean())
        drifts = self.scores.drift(), self.popularity.drift()
        compared = int(self.scores.seen.sum())
        return Day(day, self.requests, refused, self.queries, self.unknown, compared, *drifts, coverage)


class _Tally:
    """Days, counted from requests of this bundle."""

    def __init__(self, model: Recommender, log: Log) -> None:
        self.days: dict[str, _Counted] = {}
        self._model, self._log, self._reference = model, log, Reference(model)

    def add(self, block: list[Request]) -> None:
        """Count these. A line that names a candidate that is not in the corpus is malformed."""
        lists = [answer.candidates for request in block for answer in request.answers or ()]
        flat = pa.array([id_ for row in lists for id_ in row], self._model.schema.candidates.ids.type)
        codes = self._model.schema.candidates.encode(flat)
        rows = iter(np.split(codes, np.cumsum([len(row) for row in lists])[:-1]) if lists else ())
        groups: dict[tuple[str, int, bool], list[tuple[Answer, NDArray[np.int32]]]] = {}
        for request in block:
            answers = [(answer, next(rows)) for answer in request.answers or ()]
            if any((row < 0).any() for _, row in answers):
                self._log.bad(request.line)
                continue
            held = self._counted(request)
            for answer, row in answers:
                assert held.seen is not None
                held.seen[row] = True
                if answer.answered_by == "model" and len(row) and not request.narrowed:
                    groups.setdefault((request.day, request.k, request.exclude_seen), []).append((answer, row))
        for (day, k, exclude_seen), answers in groups.items():
            self._compare(self.days[day], self._reference.expected(k, exclude_seen), answers)

    def _counted(self, request: Request) -> _Counted:
        held = self.days.setdefault(request.day, _Counted())
        held.requests += 1
        held.queries += request.queries
        held.unknown += request.unknown
        if request.answers is not None and held.seen is None:
            held.seen = np.zeros(len(self._model.schema.candidates), np.bool_)
        return held

    def _compare(
        self,
        held: _Counted,
        expected: tuple[Expected, Expected] | None,
        answers: list[tuple[Answer, NDArray[np.int32]]],
    ) -> None:
        if expected is None:
            return
        counts = self._model.catalog.counts
        held.scores.add(np.array([answer.top for answer, _ in answers], np.float64), expected[0])
        popularity = np.array([counts[row].mean() for _, row in answers])
        held.popularity.add(popularity, expected[1])
