"""A tower, declared: features side by side, then dense layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from recs_core.contract.batch import Side
from recs_core.contract.encoders import Time
from recs_core.contract.errors import SpecError
from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.features import Feature, State, TableFeature
from recs_core.contract.validation import Declared, is_finite, is_one_of, is_whole, require

Activation: TypeAlias = Literal["relu", "tanh", "sigmoid"]

ACTIVATIONS = ("relu", "tanh", "sigmoid")
SIDES: tuple[Side, Side] = ("query", "candidate")


@dataclass(frozen=True)
class TowerSpec(Declared):
    """Features, concatenated in the order given, then dense layers.

    `activation` follows every layer but the last, `final_activation` the last; None is linear. `dropout` is the
    share of the concatenated input that a training step zeroes (the rest is scaled by 1/(1 − dropout)).
    Without layers the tower's output is the concatenation itself.
    """

    features: Sequence[Feature]
    layers: Sequence[int] = ()
    activation: Activation | None = "relu"
    final_activation: Activation | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("features", "layers"):
            value = getattr(self, name)
            require(
                isinstance(value, Sequence) and not isinstance(value, (str, bytes)),
                self,
                f"{name} must be a list, got {value!r}",
            )
            object.__setattr__(self, name, tuple(v.item() if isinstance(v, np.generic) else v for v in value))
        require(bool(self.features), self, "needs at least one feature")
        for feature in self.features:
            require(isinstance(feature, Feature), self, f"features must be Categorical, Bag, …, got {feature!r}")
        names = [feature.name for feature in self.features]
        twice = next((name for name in names if names.count(name) > 1), None)
        require(
            twice is None,
            self,
            f"two features are named {twice!r}, after the column that they read; to read it twice, give its table a "
            f"copy of it, such as '{twice}_text', and name one of them after that",
        )
        require(
            all(is_whole(units, 1) for units in self.layers),
            self,
            f"layers must be widths ≥ 1, got {list(self.layers)}",
        )
        for name in ("activation", "final_activation"):
            value = getattr(self, name)
            require(
                value is None or is_one_of(value, ACTIVATIONS),
                self,
                f"{name} is one of {', '.join(ACTIVATIONS)} or None, got {value!r}",
            )
        require(is_finite(self.dropout) and 0 <= self.dropout < 1, self, f"needs 0 ≤ dropout < 1, got {self.dropout!r}")

    @property
    def input_dim(self) -> int:
        """Width of the concatenated features."""
        return sum(feature.width for feature in self.features)

    @property
    def output_dim(self) -> int:
        """Width of the tower's raw output."""
        return self.layers[-1] if self.layers else self.input_dim

    @property
    def reads_time(self) -> Time | None:
        """Whether it reads when past candidates were, and when a request is made too ("request")."""
        return next((feature.reads_time for feature in self.features if feature.reads_time), None)

    @property
    def settled(self) -> bool:
        """Whether the widths are known, which training data tells of vectors whose length is not stated."""
        return all(feature.settled for feature in self.features)

    def settle(self, states: Mapping[str, State]) -> TowerSpec:
        """The tower with all known that the training data told; `states`: feature name → what it learned."""
        if self.settled:
            return self
        return replace(self, features=tuple(feature.settle(states.get(feature.name, {})) for feature in self.features))


def check_pair(query: TowerSpec, candidate: TowerSpec) -> None:
    """Raise `SpecError` unless the two towers fit together: output dims where they are known, shared tables, history's
    place."""
    told = all(tower.layers or tower.settled for tower in (query, candidate))
    if told and query.output_dim != candidate.output_dim:
        raise SpecError(
            f"the query tower's output has {query.output_dim} dims, the candidate tower's {candidate.output_dim}; "
            "give both the same last layer"
        )
    for feature in candidate.features:
        if feature.reads_past:
            raise SpecError(f"{feature.where} stands in the candidate tower; it is a query feature")
    owners: dict[str, tuple[str, Feature]] = {}
    for side, tower in (("query", query), ("candidate", candidate)):
        for feature in tower.features:
            if not isinstance(feature, TableFeature):
                continue
            if feature.table_name in owners:
                _check_shared(owners[feature.table_name], (side, feature))
            owners[feature.table_name] = (side, feature)
    for feature in query.features:
        shares = isinstance(feature, History) and feature.share == "candidate" and feature.table is None
        if shares and not any(isinstance(f, Categorical) and f.name == feature.name for f in candidate.features):
            raise SpecError(
                f"History({feature.name!r}, share='candidate') shares {feature.table_name}, but the candidate tower "
                f"has no Categorical({feature.name!r}); add it, or say share=None"
            )


def _check_shared(first: tuple[str, Feature], second: tuple[str, Feature]) -> None:
    """Two features of one table must mean it (a stated `table`, or a shared history) and agree on its shape."""
    (side_a, a), (side_b, b) = first, second
    assert isinstance(a, TableFeature) and isinstance(b, TableFeature)
    meant = (a.table is not None and b.table is not None) or any(isinstance(f, History) for f in (a, b))
    if not meant:
        raise SpecError(
            f"both {side_a} {a.name!r} and {side_b} {b.name!r} would use {a.table_name}; give each its own table=, "
            "or the same one to share it"
        )
    if a.dim != b.dim:
        raise SpecError(
            f"{side_a} {a.name!r} and {side_b} {b.name!r} share {a.table_name} but have dim {a.dim} and {b.dim}"
        )
    if a.has_vocabulary != b.has_vocabulary:
        raise SpecError(
            f"{side_a} {a.name!r} and {side_b} {b.name!r} share {a.table_name}, but only one of them looks ids up"
        )
    for attribute in ("num_oov", "buckets"):
        x, y = getattr(a, attribute, None), getattr(b, attribute, None)
        if x is not None and y is not None and x != y:
            raise SpecError(
                f"{side_a} {a.name!r} and {side_b} {b.name!r} share {a.table_name} but have {attribute} {x} and {y}"
            )
