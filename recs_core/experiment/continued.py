"""A bundle and the rows that came since → a model that knows them: extended, and trained on from where it stood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING

from recs_core import datasets
from recs_core.contract.errors import ConfigError
from recs_core.contract.training import TrainingSettings
from recs_core.experiment.data import load_data
from recs_core.experiment.spec import DataSpec

if TYPE_CHECKING:
    from recs_core.recommender import Recommender
    from recs_core.two_tower import TwoTower

EPOCHS, REPLAY = 1, 0.5
"""What a continued training does where nothing is said; benchmarks/growth.py measures it."""


def continued(
    bundle: str | Path,
    data: DataSpec,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    replay: float | None = None,
    backend: str | None = None,
    device: str | None = None,
    progress: bool | None = None,
    say: Callable[[str], object] | None = None,
) -> TwoTower:
    """The model of a bundle, extended by all rows of `data` and trained on with them; not saved.

    `data`: of a file, `query` and `candidate` are by default named as the bundle's. `epochs`, `replay`: by default 1
    and 0.5; `batch_size` and all else as the model was declared, but at the optimizer's own rate, without a schedule,
    which would begin anew. `backend` and `device` as in `recs.load`. `say` gets a line on each rule. Raises
    `BundleError`, `ConfigError` for a file without the times that the model has, and as `load_data`, `extend`, `fit`.
    """
    from recs_core.loading import load
    from recs_core.two_tower import TwoTower

    say = say or (lambda line: None)
    epochs, replay = epochs or EPOCHS, REPLAY if replay is None else replay
    model = load(bundle, backend=backend, device=device)
    assert isinstance(model, TwoTower)
    rows = load_data(_named(data, model))
    before = len(model.schema.queries), len(model.schema.candidates)
    say(f"{bundle}: {_sizes(*before)}, {model.position.epoch} epochs on {model.data.get('rows') or 0:,} rows")
    model.extend(rows)
    joined = len(model.schema.queries) - before[0], len(model.schema.candidates) - before[1]
    say(f"joined: {_sizes(*joined)}; their rows start at the mean of their table, optimizer state as of a new row")
    say("known before: rows and features stay; what they took adds up")
    if model.schema.context:
        replay = 0.0
        say("no replay: a model does not keep the context of the rows that it saw")
    else:
        say(f"each epoch: all {len(rows):,} new rows, and {replay:.0%} of it drawn from what earlier fits saw")
    settings: TrainingSettings = {"epochs": epochs, "replay": replay, "schedule": None}
    if batch_size is not None:
        settings["batch_size"] = batch_size
    model.fit(rows, progress=progress, **settings)
    return model


def _named(data: DataSpec, model: Recommender) -> DataSpec:
    """With the bundle's names where none are given. Raises `ConfigError` for a file that is not there, or whose times
    are not named."""
    if data.source in datasets.names():
        return data
    schema = model.schema
    data = replace(
        data,
        query=data.query or schema.query_name,
        candidate=data.candidate or schema.candidate_name,
        timestamp=data.timestamp or schema.time_name,
    )
    if not (has_magic(data.source) or Path(data.source).exists()):
        raise ConfigError(f"{data.source}: no such file; name a file, a folder or a data set (recs data list)")
    if data.timestamp is None and model.catalog.seen_at is not None:
        raise ConfigError(f"{data.source}: this bundle knows when rows happened; name the column with --timestamp")
    return data


def _sizes(queries: int, candidates: int) -> str:
    return f"{queries:,} queries and {candidates:,} candidates"
