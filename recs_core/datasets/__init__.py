"""Data sets by name: `load("online-retail")`. See each module for what is in it and where it is from."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recs_core.contract.errors import DataError

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


def summary(name: str) -> str:
    """One line on a data set. Raises `DataError` for an unknown name."""
    return (_module(name).__doc__ or "").strip().splitlines()[0]


def load(name: str, **options: Any) -> Interactions:
    """The data set of that name.

    `online-retail`: real purchases, embedded. `report`: 10 users × 20 movies. `synthetic`: any size, see
    `recs_core.datasets.synthetic.generate` for its options. `movielens-100k`: from `path=`, where you have it.
    Raises `DataError` for an unknown name or option.
    """
    loader = _module(name).load
    known = list(signature(loader).parameters)
    for option in options:
        if option not in known:
            raise DataError(f"data set {name!r} has no option {option!r}; it has {', '.join(known) or 'none'}")
    data: Interactions = loader(**options)
    return data


def _module(name: str) -> ModuleType:
    if name not in _MODULES:
        raise DataError(f"no data set {name!r}; there are {', '.join(_MODULES)}")
    return import_module(f"{__name__}.{_MODULES[name]}")


__all__ = ["load", "names", "summary"]
