"""The interactions of an experiment: loaded, and cut into what trains, validates and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from recs_core.contract.errors import ConfigError, DataError
from recs_core.experiment.spec import OF_FILES, DataSpec
from recs_core.storage.paths import local

if TYPE_CHECKING:
    from recs_core.data.interactions import Interactions


@dataclass(frozen=True)
class Parts:
    """What trains, what validates while training, what tests at the end, and a line on leakage."""

    train: Interactions
    validation: Interactions | None
    test: Interactions | None
    leakage: str | None


def load_data(spec: DataSpec, *, check: bool = False) -> Interactions:
    """The interactions, filtered, before the cut. `check`: look at every row of a store. Raises `DataError`."""
    from recs_core import datasets
    from recs_core.data.interactions import Interactions
    from recs_core.store.layout import check_store, is_store, open_store

    named = spec.source in datasets.names()
    stored = not named and is_store(local(spec.source, "source", DataError))
    said = [name for name in OF_FILES if getattr(spec, name) is not None]
    if said and (named or stored):
        what = "store" if stored else "data set"
        raise ConfigError(f"{' and '.join(said)}: for files; the {what} {spec.source!r} knows its own")
    if stored:
        data = (check_store if check else open_store)(spec.source)
    elif named:
        data = datasets.load(spec.source, **({} if spec.path is None else {"path": spec.path}))
    else:
        if spec.query is None or spec.candidate is None:
            raise ConfigError(
                f"{spec.source} is none of {', '.join(datasets.names())}, so it is read as a file: name its id columns "
                "with --query and --candidate"
            )
        data = Interactions.from_table(
            local(spec.source, "source", DataError),
            query=spec.query,
            candidate=spec.candidate,
            timestamp=spec.timestamp,
            weight=spec.weight,
            negatives=spec.negatives,
            unit=spec.unit,
            queries=_file_or_columns(spec.queries, "queries"),
            candidates=_file_or_columns(spec.candidates, "candidates"),
            encoding=spec.encoding,
            delimiter=spec.delimiter,
            null_values=spec.null_values,
            lists=spec.lists,
        )
    if spec.min_per_query > 1 or spec.min_per_candidate > 1:
        data = data.filter(min_per_query=spec.min_per_query, min_per_candidate=spec.min_per_candidate)
    return data


def absolute(spec: DataSpec) -> DataSpec:
    """The same with absolute paths of files, for a process that works in another folder."""
    from recs_core import datasets

    names = ["path", "queries", "candidates"] + (["source"] if spec.source not in datasets.names() else [])
    files = {name: getattr(spec, name) for name in names if isinstance(getattr(spec, name), str)}
    whole: dict[str, Any] = {name: str(local(file, name, DataError).absolute()) for name, file in files.items()}
    return replace(spec, **whole)


def _file_or_columns(side: str | Sequence[str] | None, role: str) -> Path | Sequence[str] | None:
    return local(side, role, DataError) if side and isinstance(side, str) else side


def cut(data: Interactions, spec: DataSpec, seed: int) -> Parts:
    """Train, validation and test parts."""
    train, test, leakage = data, None, None
    if spec.split is not None:
        options: dict[str, Any] = {"at": spec.at} if spec.at is not None else {}
        if spec.split != "last" and spec.at is None:
            options["test"] = spec.test if spec.test is not None else 0.1
        by = "random" if spec.split == "time" and data.timestamps is None else spec.split
        parts = data.split(by=by, known_only=spec.known_only, **options, **({"seed": seed} if by == "random" else {}))
        train, test = parts
        leakage = str(parts)
    validation = None
    if spec.validation is not None:
        by = "time" if train.timestamps is not None else "random"
        train, validation = train.split(by=cast(Any, by), test=spec.validation, known_only=True)
    return Parts(train, validation, test, leakage)
