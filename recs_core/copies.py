"""Copies of a model that trains: `copy.copy`, `copy.deepcopy`, `pickle`, `joblib`. Each is a model of its own.

A copy is made of the same value as a bundle: specs, the catalog, weights and optimizer state as arrays. A framework's
own objects are built anew, so that no two models share one. For keeping and passing on there are bundles: a pickle runs
code when it is read, and is of one version.
"""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from recs_core.contract.errors import UnsupportedFeature
from recs_core.fitted import Declared, Fitted

if TYPE_CHECKING:
    from recs_core.contract.protocols import Backend, Index
    from recs_core.two_tower import TwoTower


def reduced(model: TwoTower) -> tuple[Any, ...]:
    """For pickle: how to build the model, and of what. A backend that another process finds by its name goes by it.
    Raises `UnsupportedFeature`."""
    by_name = model._backend is None or isinstance(model._backend, str)
    backend = model.backend_name if by_name and "backend" in vars(model) else model._backend
    return built, (type(model), _value(model), backend, own_index(model.index))


def copied(model: TwoTower) -> TwoTower:
    """A copy on the same backend, the one it has loaded if it has. Raises `UnsupportedFeature`."""
    backend = vars(model).get("backend", model._backend)
    return built(type(model), _value(model), backend, own_index(model.index))


def built(
    kind: type[TwoTower], value: Fitted | Declared, backend: str | Backend | None, index: Index | str | None
) -> TwoTower:
    """The model of this value."""
    out = kind.of(value, backend=backend) if isinstance(value, Fitted) else kind(**vars(value), backend=backend)
    out.index = index
    return out


def _value(model: TwoTower) -> Fitted | Declared:
    for side in model._adopted:
        raise UnsupportedFeature(
            f"the {side} tower is a module of your own, of which no copy is made: model.save(folder), build the module "
            f"again, and recs.load(folder, native={{{side!r}: module}})"
        )
    return model.declared if model._model is None else model.fitted()


def own_index(index: Any) -> Any:
    """An index of the copy's own, since it holds the vectors of one model. Raises `UnsupportedFeature`."""
    if index is None or isinstance(index, str):
        return index
    try:
        return pickle.loads(pickle.dumps(index))
    except Exception as error:
        raise UnsupportedFeature(
            f"the index {index.info.name!r} cannot be copied ({type(error).__name__}): give index= by name, or "
            "model.save(folder) and recs.load(folder, index=another)"
        ) from error
