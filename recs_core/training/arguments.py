"""What `fit` and `TwoTower` are given, checked before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.training import TrainingSpec
from recs_core.data.interactions import Interactions
from recs_core.training.run import FitRun


def check_declared(retrieval: Any, optimizer: Any, training: Any, seed: Any, dtype: Any) -> None:
    """Raise `SpecError` for what a model cannot be declared with; None stands for a default."""
    check_kind("retrieval", retrieval, RetrievalSpec, "recs.RetrievalSpec(scoring='cosine', …)")
    check_optimizer(optimizer)
    check_kind("training", training, TrainingSpec, "recs.TrainingSpec(epochs=10, …)")
    check_seed(seed)
    check_dtype(dtype)


def check_optimizer(optimizer: Any) -> None:
    """Raise `SpecError` unless this is None or an optimizer."""
    check_kind("optimizer", optimizer, Optimizer, "recs.Adam(2e-3) or recs.Adagrad(0.1)")


def check_seed(seed: Any) -> None:
    """Raise `SpecError` unless this is a whole number."""
    if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool):
        raise SpecError(f"TwoTower: seed must be a whole number, got {seed!r}")


def check_dtype(dtype: Any) -> None:
    """Raise `SpecError` unless this is "float32" or "float64"."""
    if not isinstance(dtype, str) or dtype not in ("float32", "float64"):
        raise SpecError(f"TwoTower: dtype is 'float32' or 'float64', got {dtype!r}")


def check_kind(name: str, value: Any, kind: type, example: str) -> None:
    """Raise `SpecError` unless this is None or one of ours."""
    if value is None or isinstance(value, kind):
        return
    what = value if isinstance(value, type) else type(value)
    home = "" if what.__module__ == "builtins" else f"{what.__module__}."
    raise SpecError(f"{name} must be {example}, got {'the class ' if what is value else ''}{home}{what.__qualname__}")


def check_every(**counts: Any) -> None:
    """Raise `SpecError` for one that is no whole number ≥ 1."""
    for name, every in counts.items():
        if not isinstance(every, (int, np.integer)) or isinstance(every, bool) or every < 1:
            raise SpecError(f"fit: {name} must be a whole number ≥ 1, got {every!r}")


def check_progress(progress: Any) -> None:
    """Raise `SpecError` unless this is True, False or None."""
    if progress is not None and not isinstance(progress, bool):
        raise SpecError(f"fit: progress is True, False or None, got {progress!r}")


def check_rows(train: Any, validation: Any, asker: str = "fit") -> None:
    """Raise `DataError` unless these are `Interactions`; `validation` may be None."""
    for name, rows in (("train", train), ("validation", validation)):
        if not isinstance(rows, Interactions) and (rows is not None or name == "train"):
            got = type(rows).__name__
            raise DataError(f"{asker}: {name} must be Interactions, got {got}; make them with Interactions.from_table")


def check_validated(run: FitRun, validation: Interactions | None) -> None:
    """Raise `SpecError` where early stopping looks at a metric that there will not be."""
    rule = run.best.rule
    if rule is None or rule.metric == "loss":
        return
    from recs_core.evaluation import metric_names

    if validation is None:
        raise SpecError(f"early stopping on {rule.metric!r} needs validation=, or metric='loss'")
    names = metric_names(run.k)
    if rule.metric not in names:
        raise SpecError(f"early stopping: unknown metric {rule.metric!r}; known are loss, {', '.join(names)}")
