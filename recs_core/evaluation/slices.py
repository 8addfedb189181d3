"""Metrics of parts of the test data, with their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from recs_core.contract.messages import some
from recs_core.evaluation.answers import Answers, Measures
from recs_core.evaluation.labels import Labels
from recs_core.evaluation.report import Row, number, plain, report_rows, shown

SHOWN = ("recall", "ndcg", "coverage")
"""Families that the text of a table shows, at one k; the value has all."""

BARE = ("ndcg", "coverage")
"""Of these, those shown without their interval."""

PLAIN = (str, int, float, bool, type(None))
"""What JSON can say."""


@dataclass(frozen=True)
class Slice:
    """One part. `name`: the label or the column's value, None for rows without one. `rule`: what the name means, or "".
    `queries`, `targets`: how many it has. `metrics`: name → value, low and high; a value alone for coverage."""

    name: Any
    rule: str
    queries: int
    targets: int
    metrics: Mapping[str, Row]


@dataclass(frozen=True, repr=False)
class Slices(Mapping[Any, Mapping[str, Row]]):
    """Slice → metric → `{"value": …, "low": …, "high": …}`, in the order of the slices; `str` is a table to read.

    `by`: what was sliced by. `slices`: each with its counts; those without a target are left out. `note`: what the
    names mean, "" where they say it themselves.
    """

    by: str
    slices: tuple[Slice, ...]
    note: str = ""

    def __getitem__(self, name: Any) -> Mapping[str, Row]:
        for each in self.slices:
            if each.name == name and type(each.name) is type(name):
                return each.metrics
        raise KeyError(f"by={self.by!r} has no slice {name!r}; there are {some(self, 20)}")

    def __iter__(self) -> Iterator[Any]:
        return (each.name for each in self.slices)

    def __len__(self) -> int:
        return len(self.slices)

    def to_table(self) -> pa.Table:
        """A row per slice and metric: `slice` (a string, null where a row has no value), `rule`, `queries`, `targets`,
        `metric`, `value`, `low`, `high` (null for a metric without an interval)."""
        rows = [
            {
                "slice": None if each.name is None else str(each.name),
                "rule": each.rule,
                "queries": each.queries,
                "targets": each.targets,
                "metric": metric,
                **{bound: row.get(bound) for bound in ("value", "low", "high")},
            }
            for each in self.slices
            for metric, row in each.metrics.items()
        ]
        text, number, real = pa.string(), pa.int64(), pa.float64()
        types = (text, text, number, number, text, real, real, real)
        names = ("slice", "rule", "queries", "targets", "metric", "value", "low", "high")
        return pa.Table.from_pylist(rows, schema=pa.schema(list(zip(names, types, strict=True))))

    def to_json(self) -> list[dict[str, Any]]:
        """A dict per slice, with the fields of `Slice`: plain data, a name that is neither text nor number as text, and
        null for NaN."""
        return [
            {
                **vars(each),
                "name": each.name if isinstance(each.name, PLAIN) else str(each.name),
                "metrics": plain(each.metrics),
            }
            for each in self.slices
        ]

    def __str__(self) -> str:
        """The slices, their counts, some metrics at one k, and own ones: as wide as a terminal."""
        rows = [[f"by {self.by}", "queries", "targets", *self._shown], *map(self._cells, self.slices)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, "; ".join(filter(None, [self.note, "95 % intervals"]))])

    def _cells(self, part: Slice) -> list[str]:
        measured = ((name, part.metrics[name]) for name in self._shown)
        return [
            "(no value)" if part.name is None else str(part.name),
            f"{part.queries:,}",
            f"{part.targets:,}",
            *(number(row["value"]) if name.partition("@")[0] in BARE else shown(row) for name, row in measured),
        ]

    @property
    def _shown(self) -> list[str]:
        """The metrics that the text has: those of `SHOWN` at 20, else at the largest k below, else at the least; and
        own ones."""
        names = list(self.slices[0].metrics) if self.slices else []
        cuts = sorted({int(name.split("@")[1]) for name in names if "@" in name})
        k = max((cut for cut in cuts if cut <= 20), default=min(cuts, default=0))
        wanted = [f"{family}@{k}" for family in SHOWN]
        return [name for name in names if name in wanted or ("@" not in name and name != "mrr")]

    def __repr__(self) -> str:
        return f"Slices(by={self.by!r}, {len(self)} slices)\n{self}"


def slices_of(answers: Answers, by: str, labels: Sequence[Labels], measures: Measures) -> Slices:
    """The metrics of each label's targets: of every query those alone count, ranked over the whole corpus all the same.

    A label of queries takes whole queries. Where labels tell candidates apart, coverage is of the slice's candidates.
    A target that several rows name is in the slice of each.
    """
    note = "; ".join(filter(None, labels[0].rules))
    return Slices(by, tuple(each for one in labels for each in _slices(answers, one, measures)), note)


def _slices(answers: Answers, labels: Labels, measures: Measures) -> Iterator[Slice]:
    counted = answers.asked.of_rows >= 0
    for label, (name, rule) in enumerate(zip(labels.names, labels.rules, strict=True)):
        targets = np.zeros(len(answers.ranks.targets), np.bool_)
        targets[answers.asked.of_rows[counted & (labels.of_rows == label)]] = True
        if targets.any():
            among = None if labels.of_corpus is None else labels.of_corpus == label
            found = measures.of(answers.only(targets, among))
            rows = report_rows(found, with_intervals=True)
            yield Slice(name, rule, len(found.queries), int(found.num_targets.sum()), rows)
