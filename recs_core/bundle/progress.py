"""Where training stands: the parts of a bundle from which it goes on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from recs_core.bundle.parts import Arrays, Parts
from recs_core.bundle.stated import Manifest, spec
from recs_core.contract.as_json import to_json
from recs_core.contract.training import TrainingSpec
from recs_core.fitted import Fitted, Progress
from recs_core.training import Best, EarlyStopping, EpochRecord, FitRun, Position, TrainingHistory


def losses_of(progress: Progress) -> Arrays:
    """The arrays of the part `history`."""
    return {"losses": np.asarray(progress.history.losses, np.float64)}


def arrays_of(fitted: Fitted) -> dict[str, Arrays]:
    """Part → its arrays by the names of weights: `weights`, and where training can go on `state` and `best`."""
    out: dict[str, Arrays] = {"weights": fitted.weights}
    progress = fitted.progress
    if progress is not None and progress.state is not None:
        out["state"] = progress.state
        if progress.run is not None and progress.run.open and progress.run.best.weights:
            out["best"] = progress.run.best.weights
    return out


def fields_of(progress: Progress) -> dict[str, Any]:
    """`position`, `run` and `history` of the manifest. A run without its optimizer's state is not open."""
    history = {name: value for name, value in asdict(progress.history).items() if name != "losses"}
    run = progress.run and {**_run(progress.run), "open": progress.run.open and progress.state is not None}
    return {"position": asdict(progress.position), "run": run, "history": history}


def _run(run: FitRun) -> dict[str, Any]:
    best = run.best
    return {
        "settings": to_json(run.settings),
        "until": run.until,
        "data": run.data,
        "validate_every": run.validate_every,
        "k": list(run.k),
        "early_stopping": None if best.rule is None else asdict(best.rule),
        "best": {"value": best.value, "epoch": best.epoch, "waited": best.waited},
    }


def progress_of(stated: Manifest, parts: Parts) -> Progress:
    """What the manifest states, with the arrays that belong to it. Raises `BundleError`."""
    history = stated.history
    records = [EpochRecord(**vars(record)) for record in history.epochs]
    return Progress(
        position=Position(**vars(stated.position)),
        history=TrainingHistory(**{**vars(history), "epochs": records}, losses=parts.losses().tolist()),
        run=_run_of(stated, parts),
        state=parts.arrays("state") if "state" in parts.names else None,
    )


def _run_of(stated: Manifest, parts: Parts) -> FitRun | None:
    run = stated.run
    if run is None:
        return None
    rule = None if run.early_stopping is None else EarlyStopping(**vars(run.early_stopping))
    best: Arrays = parts.arrays("best") if "best" in parts.names else {}
    return FitRun(
        settings=spec(TrainingSpec, run.settings, f"{parts.manifest}, run, settings"),
        until=run.until,
        data=run.data,
        validate_every=run.validate_every,
        k=run.k,
        best=Best(rule, **vars(run.best), weights=dict(best)),
        open=run.open,
    )
