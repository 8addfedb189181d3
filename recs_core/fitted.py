"""A fitted model as one value: what a bundle stores, what a model is made of, what a copy is a copy of.

Models and bundles look down at it and know nothing of each other. It holds specs and arrays, and no object of any
framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Side
from recs_core.contract.errors import SpecError
from recs_core.contract.optimizers import Optimizer
from recs_core.contract.protocols import DType
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.contract.training import TrainingSpec
from recs_core.contract.weights import Weights

if TYPE_CHECKING:
    from recs_core.data.catalog import Catalog
    from recs_core.training import FitRun, Position, TrainingHistory


@dataclass(frozen=True)
class Declared:
    """What a user declared, by the names of `TwoTower`'s arguments.

    A side whose tower is a user's own module has the features that it reads, and no layers.
    """

    query: TowerSpec
    candidate: TowerSpec
    retrieval: RetrievalSpec
    optimizer: Optimizer
    training: TrainingSpec = field(default_factory=TrainingSpec)
    seed: int = 42
    dtype: DType = "float32"


@dataclass(frozen=True)
class Native:
    """A user's own module, said in words: its code is nowhere in here.

    `backend`: whose modules it is one of. `module`: its class, `package.module.Class`. `rebuild`: what its owner said
    builds it, `package.module:function`; for people, and never imported. `output_dim`, `raw_ids`: as in `Adopted`.
    """

    backend: str
    module: str
    rebuild: str | None
    output_dim: int
    raw_ids: bool

    def built(self, side: Side) -> str:
        """What to type for the module: the call of its function, or a name for what its owner builds."""
        return f"{side}_tower" if self.rebuild is None else f"{str(self.rebuild).replace(':', '.')}()"

    def __str__(self) -> str:
        return f"a {self.backend} module, {self.module}"


@dataclass(frozen=True)
class Progress:
    """Where training stands: what `fit` needs to go on.

    `run`: the last call of `fit`, None before any. `state`: the optimizer's, by `<weight>/<slot>`; None where it was
    left out, or never begun.
    """

    position: Position
    history: TrainingHistory
    run: FitRun | None = None
    state: Mapping[str, NDArray[Any]] | None = None

    def copied(self) -> Progress:
        """The same, of which nothing moves when a model trains on; arrays, which are never written to, are shared."""
        run = self.run and replace(self.run, best=replace(self.run.best))
        return Progress(replace(self.position), self.history.since(0, 0), run, self.state)

    def as_arrays(self) -> Progress:
        """As `Fitted.as_arrays`."""
        out = self.copied()
        if out.run is not None:
            out.run.best.weights = _as_arrays(out.run.best.weights)
        return replace(out, state=out.state and _as_arrays(out.state))


@dataclass(frozen=True)
class Fitted:
    """A model that has weights.

    `weights`: by canonical name, those of native modules too. `natives`: the sides whose tower is a user's own module.
    `progress`: None for weights that were given, not trained. `facts`: what is told of the training data (digest,
    rows, queries, candidates, from, to). `versions`: the backend that holds it, and of what that requires.
    """

    declared: Declared
    catalog: Catalog
    weights: Weights
    natives: Mapping[Side, Native] = field(default_factory=dict)
    progress: Progress | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def refuse_without(self, natives: Mapping[Side, Any], asks: str) -> None:
        """Raise `SpecError` for a side whose tower is a user's own module and not among `natives`."""
        for side, native in self.natives.items():
            if side not in natives:
                hint = f"pass natives={{{side!r}: recs.Adopted({native.built(side)}, …)}}"
                raise SpecError(f"{asks}: the {side} tower is {native}; build it and {hint}")

    def as_arrays(self) -> Fitted:
        """The same, with an array wherever there are `Rows` in several parts."""
        progress = self.progress and self.progress.as_arrays()
        return replace(self, weights=_as_arrays(self.weights), progress=progress)


def _as_arrays(given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(array) for name, array in given.items()}
