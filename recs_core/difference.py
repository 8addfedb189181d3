"""From one bundle to another: ids that joined, went or retired, rows, settings, metrics, and the overlap of lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from recs_core.bundle import Stored, read
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.catalog import Catalog
from recs_core.loading import on_numpy

K = 10
SAMPLE = 1_000
"""Queries that both know, spread evenly, whose lists are compared."""


@dataclass(frozen=True)
class Ids:
    """How many there were and are, and which joined and went, in order."""

    before: int
    after: int
    joined: pa.Array
    gone: pa.Array

    @classmethod
    def of(cls, before: pa.Array, after: pa.Array) -> Ids:
        """Ids of two types have nothing in common."""
        if before.type != after.type:
            return cls(len(before), len(after), after, before)
        joined = after.filter(pc.invert(pc.is_in(after, value_set=before)))
        gone = before.filter(pc.invert(pc.is_in(before, value_set=after)))
        return cls(len(before), len(after), joined, gone)


@dataclass(frozen=True)
class Lists:
    """How far the lists of `queries` agree: the mean share of the best `k` that both have, and the share of queries
    whose lists are the same, order and all."""

    queries: int
    k: int
    overlap: float
    same: float


@dataclass(frozen=True)
class Difference:
    """What changed from a bundle to another. `ids`: of "queries", "candidates" and "retired"; `rows`, `settings`,
    `metrics`: name → (before, after), None where there is none. `lists`: None where `why` says why."""

    digests: tuple[str, str]
    ids: Mapping[str, Ids]
    rows: Mapping[str, tuple[Any, Any]]
    settings: Mapping[str, tuple[Any, Any]]
    metrics: Mapping[str, tuple[Any, Any]]
    lists: Lists | None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "digests": list(self.digests),
            "ids": {
                name: {
                    "before": ids.before,
                    "after": ids.after,
                    "joined": ids.joined.to_pylist(),
                    "gone": ids.gone.to_pylist(),
                }
                for name, ids in self.ids.items()
            },
            **{name: dict(getattr(self, name)) for name in ("rows", "settings", "metrics")},
            "lists": None if self.lists is None else vars(self.lists),
            "why_no_lists": self.why,
        }


def difference(before: str | Path, after: str | Path) -> Difference:
    """What changed from the bundle `before` to the bundle `after`; both are verified as they are read. Lists are
    answered by NumPy alone, without exclusions, of a request that says nothing. Raises `BundleError` for a folder that
    is no bundle, or damaged."""
    stored = [read(path, asks="diff") for path in (before, after)]
    one, other = stored
    lists, why = _lists(one, other)
    old, new = one.fitted.catalog, other.fitted.catalog
    return Difference(
        digests=(str(one.info.manifest["digest"]), str(other.info.manifest["digest"])),
        ids={
            "queries": Ids.of(old.schema.queries.ids, new.schema.queries.ids),
            "candidates": Ids.of(old.schema.candidates.ids, new.schema.candidates.ids),
            "retired": Ids.of(_retired(old), _retired(new)),
        },
        rows=_changed(_rows(one), _rows(other)),
        settings=_changed(*(_flat(each.info.manifest["model"]) for each in stored)),
        metrics=_pairs(*(each.info.manifest["metrics"] for each in stored)),
        lists=lists,
        why=why,
    )


def _retired(catalog: Catalog) -> pa.Array:
    return catalog.schema.candidates.decode(catalog.retired)


def _rows(stored: Stored) -> dict[str, Any]:
    """Rows of the data and of every table, and epochs."""
    catalog, progress = stored.fitted.catalog, stored.fitted.progress
    tables = {name: int(rows) for name, rows in catalog.schema.table_rows.items()}
    epochs = None if progress is None else progress.position.epoch
    facts = stored.info.stated.provenance.data
    last = {"rows of the last fit": facts.rows, "from": facts.from_, "to": facts.to}
    return {"epochs": epochs, "rows seen": len(catalog.seen.values), **last, **tables}


def _flat(data: Any, name: str = "") -> dict[str, Any]:
    """Nested JSON by dotted names; features by the column that they read."""
    if isinstance(data, Mapping):
        return {k: v for key, value in data.items() for k, v in _flat(value, f"{name}.{key}" if name else key).items()}
    if isinstance(data, list) and data and all(isinstance(each, Mapping) and "name" in each for each in data):
        return _flat({each["name"]: {k: v for k, v in each.items() if k != "name"} for each in data}, name)
    return {name: data}


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: (before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {name: pair for name, pair in _pairs(before, after).items() if pair[0] != pair[1]}


def _lists(before: Stored, after: Stored) -> tuple[Lists | None, str | None]:
    """Of queries that both know; the reason where there are none."""
    for stored in (before, after):
        for side, native in stored.info.needed.items():
            return None, f"{stored.info.path}: its {side} tower is {native}, which NumPy cannot run"
    known, theirs = before.fitted.catalog.schema.queries, after.fitted.catalog.schema.queries
    common = known.ids.filter(pa.array(_known(theirs, known.ids)))
    if not len(common):
        return None, "no query is known to both"
    asked = common.take(pa.array(np.unique(np.linspace(0, len(common) - 1, min(len(common), SAMPLE)).astype(int))))
    lists = [_answered(stored, asked) for stored in (before, after)]
    longest = [max(1, min(K, len([each for each in row if each is not None]))) for row in lists[1]]
    shares = [len({*a} & {*b} - {None}) / size for a, b, size in zip(*lists, longest, strict=True)]
    same = [[*a] == [*b] for a, b in zip(*lists, strict=True)]
    return Lists(len(asked), K, float(np.mean(shares)), float(np.mean(same))), None


def _known(vocabulary: Vocabulary, ids: pa.Array) -> NDArray[np.bool_]:
    if ids.type != vocabulary.ids.type:
        return np.zeros(len(ids), bool)
    return vocabulary.encode(ids) >= 0


def _answered(stored: Stored, queries: pa.Array) -> list[list[Any]]:
    """The best K ids of each, None where fewer are left."""
    model, _ = on_numpy(stored)
    found = model.recommend_codes(queries, K, unknown="quiet", context=model.schema.blank_request)
    ids = model.schema.candidates.decode(found.ids.ravel()).to_pylist()
    width = found.ids.shape[1]
    return [ids[start : start + width] for start in range(0, len(ids), width)]
