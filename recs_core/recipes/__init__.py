"""Named defaults: small specs that look at the data and say why they chose what they chose."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from recs_core.contract.errors import DataError, SpecError
from recs_core.data.interactions import Interactions
from recs_core.elsewhere import refuse_unknown
from recs_core.recipes import features, history, ids, sequence
from recs_core.recipes.choice import Recipe
from recs_core.recipes.suggestion import suggest
from recs_core.two_tower import TwoTower

__all__ = ["RECIPES", "Recipe", "choose", "recipe", "suggest"]

log = logging.getLogger("recs_core")

RECIPES: Mapping[str, Callable[..., Recipe]] = {
    "ids": ids.choose,
    "history": history.choose,
    "sequence": sequence.choose,
    "features": features.choose,
}
"""Recipe name → the function that chooses its settings from the training data; that of `features` takes context."""


def choose(name: str, data: Interactions, *, context: Sequence[str] = ()) -> Recipe:
    """The settings a recipe takes for this training data, and its reasons.

    `context`: columns of the rows, their time among them, that are known when a query is asked; for `features`. Raises
    `SpecError` for an unknown name, and for context where the recipe reads none; `DataError` for other data than
    `Interactions`, and for a column there is not.
    """
    if not isinstance(data, Interactions):
        got = type(data).__name__
        raise DataError(f"recipe: expected Interactions, got {got}; make them with Interactions.from_table")
    if not isinstance(name, str) or name not in RECIPES:
        raise SpecError(f"no recipe is called {name!r}; there are {', '.join(RECIPES)}")
    if not context:
        return RECIPES[name](data)
    if isinstance(context, str):
        raise SpecError(f"context is a list of columns, got {context!r}; write [{context!r}]")
    if RECIPES[name] is not features.choose:
        raise SpecError(f"recipe {name!r} reads no context; 'features' does")
    return features.choose(data, tuple(context))


def recipe(name: str, data: Interactions, *, context: Sequence[str] = (), **options: Any) -> TwoTower:
    """An unfitted `TwoTower` with good defaults for this training data, for `fit` too.

    `context`: as in `choose`. `options`: arguments of `TwoTower`, such as backend, seed and dtype; specs among them win
    over the recipe's. The reasons for each choice are logged at level INFO. Raises as `choose`, and `SpecError` for an
    unknown option.
    """
    refuse_unknown("recipe", options, inspect.signature(TwoTower).parameters)
    chosen = choose(name, data, context=context)
    for reason in chosen.reasons:
        log.info("recipe %s: %s", name, reason)
    specs = {field.name: getattr(chosen, field.name) for field in fields(Recipe) if field.name != "reasons"}
    return TwoTower(**{**specs, **options})
