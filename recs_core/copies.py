"""Copies of a model that trains: `copy.copy`, `copy.deepcopy`, `pickle`, `joblib`. Each is a model of its own.

What a copy is made of is what a bundle holds: specs, the catalog, weights and optimizer state as arrays. A framework's
own objects are built anew, so that no two models share one. For keeping and passing on there are bundles: a pickle runs
code when it is read, and is of one version.
"""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from recs_core.contract.errors import UnsupportedFeature

if TYPE_CHECKING:
    from recs_core.contract.protocols import Backend
    from recs_core.two_tower import TwoTower

Parts = dict[str, Any]

_DECLARED = ("query", "candidate", "retrieval", "optimizer", "training", "seed", "dtype")


def reduced(model: TwoTower) -> tuple[Any, ...]:
    """For pickle: how to build the model, and of what. A backend goes by its name. Raises `UnsupportedFeature`."""
    parts = _parts(model)
    backend = parts["backend"]
    if not (backend is None or isinstance(backend, str)) and _is_installed(model):
        parts["backend"] = model.backend_name
    return built, (type(model), parts)


def copied(model: TwoTower) -> TwoTower:
    """A copy on the same backend. Raises `UnsupportedFeature` for a model that cannot be copied."""
    return built(type(model), _parts(model))


def built(cls: type[TwoTower], parts: Parts) -> TwoTower:
    """The model of these parts."""
    parts = dict(parts)
    index = parts.pop("index")
    out = cls.restored(**parts) if "weights" in parts else cls(**parts)
    out.index = index
    return out


def _parts(model: TwoTower) -> Parts:
    """What `TwoTower` or `TwoTower.restored` takes, nothing shared that may change."""
    for side in model._adopted:
        raise UnsupportedFeature(
            f"the {side} tower is a module of your own, of which no copy is made: model.save(folder), build the module "
            f"again, and recs.load(folder, native={{{side!r}: module}})"
        )
    parts: Parts = {name: getattr(model, name) for name in _DECLARED}
    parts |= {"backend": _backend(model), "index": own_index(model.index)}
    if model._model is None:
        return parts
    parts |= {"catalog": model.catalog, "weights": model.weights(), "position": copy.copy(model.position)}
    parts |= {name: copy.deepcopy(getattr(model, name)) for name in ("history", "data", "run")}
    if model._trainer is not None:
        parts["state"] = {name: np.array(value) for name, value in model._trainer.state().items()}
    return parts


def _backend(model: TwoTower) -> str | Backend | None:
    """The one that the model has loaded; else the one that was asked for."""
    return model.backend if "backend" in vars(model) else model._backend


def _is_installed(model: TwoTower) -> bool:
    """Whether another process finds the backend by its name."""
    return model._backend is None or isinstance(model._backend, str)


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
