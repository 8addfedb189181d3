"""A model that several workers train: what one of them makes of it, whole, and what all were given alike."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from recs_core.bundle import Towers
from recs_core.config import group_of
from recs_core.contract import workers
from recs_core.contract.plans import TowerPlan
from recs_core.contract.rows import Rows
from recs_core.contract.towers import SIDES
from recs_core.copies import own_index
from recs_core.distributed.agreement import check_agreement
from recs_core.distributed.rows import own_state
from recs_core.fitted import Fitted, Progress
from recs_core.runtime.towers import NumpyTower
from recs_core.version import installed

if TYPE_CHECKING:
    from recs_core.data.interactions import Interactions
    from recs_core.training import FitRun
    from recs_core.two_tower import TwoTower

    Model = TypeVar("Model", bound=TwoTower)

T = TypeVar("T")


def is_first(model: TwoTower) -> bool:
    """Whether this is worker 0, which evaluates, says and writes; also where there are no workers."""
    group = group_of(model.backend)
    return workers.is_first(None if group is None else group.workers)


def on_first(model: Any, then: Callable[[Any], T], what: str, *, state: bool = True) -> T:
    """What `then` makes of a model on worker 0, where it is whole, told to all as JSON keeps it; all workers call it.

    `what` it is: for the error of a worker that is lost. `state`: give it the optimizer's too.
    """
    group = group_of(getattr(model, "backend", None))
    if group is None:
        return then(model)
    value = model.fitted(state=state)
    return group.told(lambda: then(_whole(model, value)), what)


def validating(
    model: TwoTower, train: Interactions, validation: Interactions | None, k: Sequence[int]
) -> Callable[[], Mapping[str, float]] | None:
    """What measures the model on `validation`, as `fit` does; None where there is none."""
    if validation is None:
        return None
    from recs_core.evaluation.measures import metrics

    def measured(whole: TwoTower) -> dict[str, float]:
        return metrics(whole.rank(validation, exclude=train), k=k)

    return lambda: on_first(model, measured, "the validation", state=False)


def progress_of(model: TwoTower, *, state: bool, whole: bool) -> Progress:
    """Where training stands; `state` and `whole` as in `TwoTower.fitted`."""
    trainer, run = model._trainer if state else None, model.run
    held = None if trainer is None else trainer.state() if whole else own_state(trainer)
    return Progress(model.position, model.history, _with_whole_best(model, run, state) if whole else run, held).copied()


def _with_whole_best(model: TwoTower, run: FitRun | None, state: bool) -> FitRun | None:
    """A run with the best weights whole on every worker; without them where it could not go on, for want of `state`."""
    if run is None or not any(isinstance(weight, Rows) for weight in run.best.weights.values()):
        return run
    whole = model.model.whole(run.best.weights) if state else {}  # type: ignore[attr-defined]  # what has made `Rows`
    return replace(run, best=replace(run.best, weights=whole))


def answering(model: TwoTower, value: Fitted) -> Towers:
    """The towers of a value's weights, on NumPy; those that are the user's own modules are on every worker."""
    sides: dict[str, Any] = {"query": model.query_tower, "candidate": model.candidate_tower}
    for side in SIDES:
        if side not in value.natives:
            sides[side] = NumpyTower(TowerPlan.of(side, getattr(value.declared, side)), value.weights)
    return Towers(sides["query"], sides["candidate"], None)


def gathered(model: Model) -> Model:
    """The model, whole, on this process alone; itself where there are no workers. All workers call it."""
    return model if group_of(model.backend) is None else _whole(model, model.fitted())


def _whole(model: Model, value: Fitted) -> Model:
    alone = model.backend.over(None)  # type: ignore[attr-defined]
    out = type(model).of(value, backend=alone, natives=model._adopted)
    out.index = own_index(model.index)
    return out


def _settings(run: FitRun) -> dict[str, str]:
    said = {**vars(run.settings), "k": run.k, "early_stopping": run.best.rule, "epochs": run.until}
    return {name: repr(value) for name, value in said.items()}


def check_alike(model: TwoTower, train: str, validation: Interactions | None) -> None:
    """Raise `ConfigError` on every worker where two would train different things. `train`: the data's digest."""
    group = group_of(model.backend)
    if group is None:
        return
    run, info = model.run, model.backend.info
    declared = {name: repr(value) for name, value in vars(model.declared).items() if name != "training"}
    facts = {
        **{f"version of {name}": version for name, version in installed(info.requires).items()},
        "data": train,
        "validation": "none" if validation is None else validation.digest(),
        **declared,
        **({} if run is None else _settings(run)),
        "position": f"epoch {model.position.epoch}, step {model.position.step}",
        "losses so far": f"{zlib.crc32(np.asarray(model.history.losses).tobytes()):08x}",
    }
    check_agreement(group, facts)
