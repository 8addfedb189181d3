"""An experiment done from beginning to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from recs_core.config import over, placed
from recs_core.contract.errors import ConfigError, WorkerLost
from recs_core.contract.plans import check_precision
from recs_core.contract.training import TrainingSettings
from recs_core.contract.workers import Workers, is_first
from recs_core.experiment.data import Parts, cut, load_data
from recs_core.experiment.files import take_back, write_json
from recs_core.experiment.model import build, choose
from recs_core.experiment.outcome import Outcome, beside_popularity
from recs_core.experiment.spec import Experiment
from recs_core.spread import on_first
from recs_core.storage.manifest import is_bundle
from recs_core.storage.paths import local

if TYPE_CHECKING:
    from recs_core.two_tower import TwoTower

CARD_K = (10, 20)
"""Cuts of the metrics on the model card."""


def execute(
    experiment: Experiment,
    *,
    device: str | None = None,
    workers: Workers | None = None,
    progress: bool | None = None,
    say: Callable[[str], object] | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    **settings: Unpack[TrainingSettings],
) -> Outcome:
    """Load, cut, build, train, evaluate. `device` as in `TwoTower`; `settings`: fields of `TrainingSpec` that win over
    the experiment's. `say` gets a line on each stage. `workers`: which of several this process is; worker 0 says,
    evaluates and writes, and all have the same outcome.

    With a folder `out` the experiment is written there before it trains and its bundle after every epoch, so that
    `resume` can finish one that was cut off, as it would have ended; settings are then as planned. One of which no
    epoch was saved starts at the first.
    """
    from recs_core.recipes import suggest
    from recs_core.two_tower import TwoTower
    from recs_core.version import __version__

    say = say if say is not None and is_first(workers) else (lambda line: None)
    out = None if out is None else local(out, "execute(out=…)")
    checkpoint = None if out is None else out / "bundle"
    backend = over(placed(experiment.backend, device), workers)
    parts = cut(load_data(experiment.data), experiment.data, experiment.seed)
    say(parts.leakage or f"{len(parts.train):,} rows, no test part")
    saved = checkpoint if resume and checkpoint is not None and is_bundle(checkpoint) else None
    if saved is not None:
        model = TwoTower.resume(saved, backend=backend)
        say(f"resumed after {model.position.epoch} epochs")
    else:
        if resume:
            say(f"no epoch was saved in {out}: starting at the first")
        specs, reasons = choose(experiment.model, parts.train)
        for reason in reasons:
            say(f"recipe {specs.recipe}: {reason}")
        if specs.recipe is not None:
            better, why = suggest(parts.train)
            if better != specs.recipe:
                say(f"recipe {better} would be the better guess here: {why}")
        model = build(replace(experiment, model=specs), parts.train, backend=backend)
        model.training = replace(model.training, **settings)
        check_precision(model.backend.info, model.training.precision, model.dtype)
    begun = out if is_first(workers) and not resume else None
    if begun is not None:
        write_json(begun, {"recs_core": __version__, "run": experiment.resolved(model).to_json()})
    try:
        history = model.fit(parts.train, parts.validation, progress=progress, checkpoint=checkpoint)
    except ConfigError:  # of workers that disagree
        if begun is not None:
            take_back(begun)
        raise
    except WorkerLost as lost:
        raise WorkerLost(f"{lost}; {_way_on(checkpoint)}") from lost
    if history.masked_share is not None:
        say(f"masked {history.masked_share:.2%} of the scored pairs: the target's own candidate in another column")
    metrics, card = on_first(model, partial(_judged, parts), "the evaluation", state=False)
    return Outcome(
        experiment=experiment.resolved(model),
        model=model,
        backend=model.backend_name,
        epochs=model.position.epoch,
        training_seconds=sum(model.history["seconds"]),
        losses=model.history["loss"],
        metrics=metrics,
        card=card,
    )


def _judged(parts: Parts, model: TwoTower) -> list[Any]:
    """The metrics of an outcome, and the card's."""
    from recs_core.evaluation import DEFAULT_K, Measures, report_rows

    if parts.test is None:
        return [{}, {}]
    answers = model.answer(parts.test, exclude=parts.train, k=max(DEFAULT_K))
    card = report_rows(Measures(CARD_K).of(answers), with_intervals=True)
    return [beside_popularity(model, answers, parts), card]


def _way_on(checkpoint: Path | None) -> str:
    """How to go on with a run whose workers were lost."""
    if checkpoint is None:
        return "it was saved nowhere: start it anew"
    resume = f"recs train --resume --out {checkpoint.parent}"
    if not is_bundle(checkpoint):
        return f"no epoch was saved, start it anew: {resume}"
    return f"finish it from {checkpoint}, which holds the epochs before: {resume}"
