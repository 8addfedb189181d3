"""What came of an experiment, and what it is held to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recs_core.contract.errors import BundleError
from recs_core.experiment.data import Parts
from recs_core.experiment.files import write_json
from recs_core.experiment.spec import Experiment
from recs_core.storage.paths import local

if TYPE_CHECKING:
    from recs_core.evaluation import Interval, Ranks
    from recs_core.recommender import Recommender
    from recs_core.two_tower import TwoTower

RECENT_DAYS = 21.0


@dataclass(frozen=True)
class Outcome:
    """What came of an experiment: the model, its history, metrics by name (the model's own and popularity's), and
    intervals of the model's, for its card."""

    experiment: Experiment
    model: TwoTower
    backend: str
    epochs: int
    training_seconds: float
    losses: list[float]
    metrics: dict[str, dict[str, float]]
    intervals: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """What `run.json` holds."""
        from recs_core.version import __version__

        return {
            "recs_core": __version__,
            "run": self.experiment.to_json(),
            "backend": self.backend,
            "epochs": self.epochs,
            "training_seconds": round(self.training_seconds, 3),
            "losses": self.losses,
            "metrics": self.metrics,
        }

    def write(self, folder: str | Path) -> None:
        """Write `run.json`, and the metrics on the bundle, in the `out` of `execute`. Raises `BundleError`."""
        from recs_core.bundle import describe

        folder = local(folder, "Outcome.write", BundleError)
        card = {name: (found["value"], found["low"], found["high"]) for name, found in self.intervals.items()}
        describe(folder / "bundle", metrics=card)
        write_json(folder, self.to_json())


def beside_popularity(model: Recommender, ranks: Ranks, parts: Parts) -> dict[str, dict[str, float]]:
    """Metrics of the model and of popularity, plain and (with timestamps) recent, on the same test."""
    from recs_core.evaluation import metrics, rank_popularity

    train, test = parts.train, parts.test
    assert test is not None
    found = {"model": metrics(ranks)}
    found["popularity"] = metrics(rank_popularity(model.schema, train, test))
    if train.timestamps is not None:
        recent = rank_popularity(model.schema, train, test, half_life_days=RECENT_DAYS)
        found[f"popularity, {RECENT_DAYS:g}-day half-life"] = metrics(recent)
    return found
