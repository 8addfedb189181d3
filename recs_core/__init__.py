"""Write a two-tower recommender once; train it in any framework; serve it with none.

`import recs_core as recs` imports no framework: every public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from recs_core.version import __version__ as __version__

_HOMES = {
    "recs_core.adopted": ("Adopted",),
    "recs_core.loading": ("load", "verify"),
    "recs_core.config": ("backend", "use"),
    "recs_core.data.interactions": ("Interactions",),
    "recs_core.explained": ("Explanation",),
    "recs_core.exporting": ("export_vectors",),
    "recs_core.index": ("ExactIndex",),
    "recs_core.contract.protocols": ("TopK",),
    "recs_core.recipes": ("recipe",),
    "recs_core.recommender": ("Recommender",),
    "recs_core.store.ingest": ("ingest",),
    "recs_core.store.layout": ("check_store", "open_store"),
    "recs_core.training": ("Callback", "EarlyStopping", "StopTraining"),
    "recs_core.two_tower": ("TwoTower",),
    "recs_core.contract.encoders": ("GRU", "SelfAttention"),
    "recs_core.contract.feature_kinds": (
        "Bag",
        "Bucketed",
        "Categorical",
        "Clock",
        "History",
        "Numeric",
        "Text",
        "Vector",
    ),
    "recs_core.contract.features": ("Feature", "TableFeature"),
    "recs_core.contract.optimizers": ("SGD", "Adagrad", "Adam", "Optimizer", "RowWiseAdagrad"),
    "recs_core.contract.retrieval": ("RetrievalSpec",),
    "recs_core.contract.towers": ("TowerSpec",),
    "recs_core.contract.training": ("Schedule", "TrainingSpec"),
}
_MODULES = {name: f"recs_core.{name}" for name in ("bundle", "datasets", "evaluation", "recipes")}
_MODULES["errors"] = "recs_core.contract.errors"
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if TYPE_CHECKING:
    from recs_core import bundle as bundle
    from recs_core import datasets as datasets
    from recs_core import evaluation as evaluation
    from recs_core import recipes as recipes
    from recs_core.adopted import Adopted as Adopted
    from recs_core.config import backend as backend
    from recs_core.config import use as use
    from recs_core.contract import errors as errors
    from recs_core.contract.encoders import GRU as GRU
    from recs_core.contract.encoders import SelfAttention as SelfAttention
    from recs_core.contract.feature_kinds import Bag as Bag
    from recs_core.contract.feature_kinds import Bucketed as Bucketed
    from recs_core.contract.feature_kinds import Categorical as Categorical
    from recs_core.contract.feature_kinds import Clock as Clock
    from recs_core.contract.feature_kinds import History as History
    from recs_core.contract.feature_kinds import Numeric as Numeric
    from recs_core.contract.feature_kinds import Text as Text
    from recs_core.contract.feature_kinds import Vector as Vector
    from recs_core.contract.features import Feature as Feature
    from recs_core.contract.features import TableFeature as TableFeature
    from recs_core.contract.optimizers import SGD as SGD
    from recs_core.contract.optimizers import Adagrad as Adagrad
    from recs_core.contract.optimizers import Adam as Adam
    from recs_core.contract.optimizers import Optimizer as Optimizer
    from recs_core.contract.optimizers import RowWiseAdagrad as RowWiseAdagrad
    from recs_core.contract.protocols import TopK as TopK
    from recs_core.contract.retrieval import RetrievalSpec as RetrievalSpec
    from recs_core.contract.towers import TowerSpec as TowerSpec
    from recs_core.contract.training import Schedule as Schedule
    from recs_core.contract.training import TrainingSpec as TrainingSpec
    from recs_core.data.interactions import Interactions as Interactions
    from recs_core.explained import Explanation as Explanation
    from recs_core.exporting import export_vectors as export_vectors
    from recs_core.index import ExactIndex as ExactIndex
    from recs_core.loading import load as load
    from recs_core.loading import verify as verify
    from recs_core.recipes import recipe as recipe
    from recs_core.recommender import Recommender as Recommender
    from recs_core.store.ingest import ingest as ingest
    from recs_core.store.layout import check_store as check_store
    from recs_core.store.layout import open_store as open_store
    from recs_core.training import Callback as Callback
    from recs_core.training import EarlyStopping as EarlyStopping
    from recs_core.training import StopTraining as StopTraining
    from recs_core.two_tower import TwoTower as TwoTower


def __getattr__(name: str) -> object:
    if name in _HOME_OF:
        value: object = getattr(importlib.import_module(_HOME_OF[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    else:
        raise AttributeError(f"module 'recs_core' has no attribute {name!r}")
    globals()[name] = value  # the next access is a plain one
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF, *_MODULES})


__all__ = ["__version__", *_HOME_OF, *_MODULES]  # noqa: PLE0604 (both hold names)
