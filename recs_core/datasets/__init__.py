"""Data sets by name: `load("online-retail")`. See each module for what is in it and where it is from."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any

from recs_core.errors import DataError

if TYPE_CHECKING:
    from recs_core.data.interactions import Interactions

# name → module with `load(**options) -> Interactions`, imported when asked for
_MODULES = {
    "online-retail": "online_retail",
    "report": "report",
    "synthetic": "synthetic",
    "movielens-100k": "movielens",
}


def names() -> list[str]:
    """Names that `load` knows."""
    return list(_MODULES)


def load(name: str, **options: Any) -> Interactions:
    """The data set of that name.

    `online-retail`: real purchases, embedded. `report`: 10 users × 20 movies. `synthetic`: any size, see
    `recs_core.datasets.synthetic.generate` for its options. `movielens-100k`: from `path=`, where you have it.
    Raises `DataError` for an unknown name or option.
    """
    if name not in _MODULES:
        raise DataError(f"no data set {name!r}; there are {', '.join(_MODULES)}")
    loader = import_module(f"{__name__}.{_MODULES[name]}").load
    known = list(signature(loader).parameters)
    for option in options:
        if option not in known:
            raise DataError(f"data set {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}")
    data: Interactions = loader(**options)
    return data


__all__ = ["load", "names"]
