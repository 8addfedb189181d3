"""What came of an experiment, and what it is held to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs_core.contract.errors import BundleError
from recs_core.experiment.data import Parts
from recs_core.experiment.files import write_json
from recs_core.experiment.spec import Experiment
from recs_core.storage.paths import local

if TYPE_CHECKING:
    from recs_core.evaluation import Answers, Row
    from recs_core.recommender import Recommender
    from recs_core.two_tower import TwoTower

RECENT_DAYS = 21.0


@dataclass(frozen=True)
class Outcome:
    """What came of an experiment: the model, its history, metrics by name (the model's own and popularity's), and the
    model's with their intervals, for its `card`."""

    experiment: Experiment
    model: TwoTower
    backend: str
    epochs: int
    training_seconds: float
    losses: list[float]
    metrics: dict[str, dict[str, float]]
    card: dict[str, Row]

    def to_json(self) -> dict[str, Any]:
        """What `run.json` holds."""
        from recs_core.evaluation import plain
        from recs_core.version import __version__

        return {
            "recs_core": __version__,
            "run": self.experiment.to_json(),
            "backend": self.backend,
            "epochs": self.epochs,
            "training_seconds": round(self.training_seconds, 3),
            "losses": self.losses,
            "metrics": plain(self.metrics),
        }

    def write(self, folder: str | Path) -> None:
        """Write `run.json`, and the metrics on the bundle, in the `out` of `execute`. Raises `BundleError`."""
        from recs_core.bundle import describe

        folder = local(folder, "Outcome.write", BundleError)
        describe(folder / "bundle", metrics={name: _stated(row) for name, row in self.card.items() if _is_known(row)})
        write_json(folder, self.to_json())


def beside_popularity(model: Recommender, answers: Answers, parts: Parts) -> dict[str, dict[str, float]]:
    """Metrics of the model's `answers`, and of popularity's, plain and (with timestamps) recent, to the same test."""
    from recs_core.evaluation import Measures, answer_popularity

    train, test, measures = parts.train, parts.test, Measures()
    assert test is not None
    k = max(measures.k)
    given = {"model": answers, "popularity": answer_popularity(model.schema, train, test, k=k)}
    if train.timestamps is not None:
        recent = answer_popularity(model.schema, train, test, half_life_days=RECENT_DAYS, k=k)
        given[f"popularity, {RECENT_DAYS:g}-day half-life"] = recent
    return {name: measures.of(each).mean() for name, each in given.items()}


def _is_known(row: Row) -> bool:
    return not math.isnan(row["value"])


def _stated(row: Row) -> float | tuple[float, float, float]:
    return (row["value"], row["low"], row["high"]) if "low" in row else row["value"]
