"""The model of an experiment: specs chosen by its recipe where they are not given, and an unfitted `TwoTower`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from recs_core.contract.errors import ConfigError
from recs_core.experiment.spec import Experiment, ModelSpec

if TYPE_CHECKING:
    from recs_core.contract.protocols import Backend
    from recs_core.data.interactions import Interactions
    from recs_core.two_tower import TwoTower


def choose(spec: ModelSpec, train: Interactions) -> tuple[ModelSpec, tuple[str, ...]]:
    """The specs with those filled in that were left to the recipe, and its reasons; as they are where none was."""
    from recs_core import recipes

    given = {f.name: getattr(spec, f.name) for f in fields(ModelSpec) if f.name not in ("recipe", "context")}
    if spec.recipe is None or None not in given.values():
        return spec, ()
    recipe = recipes.choose(spec.recipe, train, context=spec.context)
    chosen = {name: getattr(recipe, name) for name, value in given.items() if value is None}
    return replace(spec, **chosen), recipe.reasons


def build(experiment: Experiment, train: Interactions, *, backend: str | Backend | None = None) -> TwoTower:
    """The unfitted model; `backend` instead of the experiment's. Raises `ConfigError` where a tower is missing."""
    from recs_core.two_tower import TwoTower

    model, _ = choose(experiment.model, train)
    if model.query is None or model.candidate is None:
        raise ConfigError("a run needs a recipe, or both a query and a candidate tower")
    return TwoTower(
        model.query,
        model.candidate,
        model.retrieval,
        model.optimizer,
        training=model.training,
        seed=experiment.seed,
        backend=backend or experiment.backend,
        dtype=experiment.dtype,
    )
