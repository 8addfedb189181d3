"""Optimizers: what is declared, what state they keep per weight, and their formulas.

A formula is written once, in arithmetic that the arrays of every framework have, and `xp`: a namespace of `sqrt` and
`mean`, as NumPy's. A backend may put one of its own in a formula's place where that is faster. One of your own
is a frozen dataclass in your program:

>>> from dataclasses import dataclass
>>> import numpy as np
>>> from recs_core.contract.optimizers import Optimizer
>>> from recs_core.contract.plans import UpdatePlan
>>> @dataclass(frozen=True)
... class SignDescent(Optimizer):
...     "w ← w − lr·sign(g)."
...
...     def direction(self, g, slots, scalars, xp):
...         return g / (xp.sqrt(g * g) + 1e-12), {}
>>> w, _ = UpdatePlan(SignDescent(0.5)).update("table/a", np.ones(2), np.array([3.0, -4.0]), {}, {"rate": 0.5}, np)
>>> w.round(6).tolist()
[0.5, 1.5]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from recs_core.contract.errors import SpecError
from recs_core.contract.validation import Declared, is_finite, require

Slots = Mapping[str, Any]


@dataclass(frozen=True)
class Optimizer(Declared):
    """What every optimizer has. `weight_decay` is decoupled (w ← w − lr·decay·w, before the update, on touched rows
    and dense weights, not on `task/…`); `clip_norm`: g ← g · clip_norm / max(‖g‖, clip_norm), one norm over all
    weights, rows merged."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            is_finite(self.learning_rate) and self.learning_rate > 0,
            self,
            f"needs learning_rate > 0, got {self.learning_rate!r}",
        )
        require(
            is_finite(self.weight_decay) and self.weight_decay >= 0,
            self,
            f"needs weight_decay ≥ 0, got {self.weight_decay!r}",
        )
        require(
            self.clip_norm is None or (is_finite(self.clip_norm) and self.clip_norm > 0),
            self,
            f"needs clip_norm > 0 or None, got {self.clip_norm!r}",
        )

    by_row: ClassVar[bool] = False
    """Whether the slots of a table hold one number per row."""

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of the state kept for each weight."""
        return ()

    @property
    def start(self) -> float:
        """What every slot holds before the first step."""
        return 0.0

    @property
    def moves_all_rows(self) -> bool:
        """Whether every row of a table moves at every step, touched or not."""
        return False

    @property
    def is_well_conditioned(self) -> bool:
        """Whether rounding in float32 stays as small as it was, also where gradients are nearly 0."""
        return True

    def scalars(self, step: int) -> dict[str, float]:
        """What the formula corrects by at step `step` (from 1)."""
        return {}

    def direction(self, g: Any, slots: Slots, scalars: Mapping[str, Any], xp: Any) -> tuple[Any, dict[str, Any]]:
        """What a weight moves against, w ← w − lr·direction, and its slots after the step.

        `g`: the gradient, and `slots`: the state before the step, of the same rows, as arrays of one framework, which
        stay as they are. `scalars`: those of the step. `xp`: see above.
        """
        raise SpecError(f"{type(self).__qualname__}, an optimizer class, must define direction(g, slots, scalars, xp)")


@dataclass(frozen=True)
class SGD(Optimizer):
    """v ← momentum·v + g; w ← w − lr·v. Touched rows only. Slot `velocity`, shaped as the weight.

    Without momentum there is no slot: w ← w − lr·g. As in PyTorch, a step's rate scales all of v.
    """

    learning_rate: float = 0.01
    momentum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            is_finite(self.momentum) and 0 <= self.momentum < 1, self, f"needs 0 ≤ momentum < 1, got {self.momentum!r}"
        )

    @property
    def slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def direction(self, g: Any, slots: Slots, scalars: Mapping[str, Any], xp: Any) -> tuple[Any, dict[str, Any]]:
        if not self.momentum:
            return g, {}
        velocity = self.momentum * slots["velocity"] + g
        return velocity, {"velocity": velocity}


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """a ← a + g²; w ← w − lr·g / (√a + epsilon). Touched rows only. Slot `accumulator`, shaped as the weight."""

    learning_rate: float = 0.1
    initial_accumulator: float = 0.1
    epsilon: float = 1e-7

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            is_finite(self.initial_accumulator) and self.initial_accumulator >= 0,
            self,
            f"needs initial_accumulator ≥ 0, got {self.initial_accumulator!r}",
        )
        require(is_finite(self.epsilon) and self.epsilon > 0, self, f"needs epsilon > 0, got {self.epsilon!r}")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("accumulator",)

    @property
    def start(self) -> float:
        return self.initial_accumulator

    @property
    def is_well_conditioned(self) -> bool:
        return self.initial_accumulator >= 0.1

    def direction(self, g: Any, slots: Slots, scalars: Mapping[str, Any], xp: Any) -> tuple[Any, dict[str, Any]]:
        by_row = len(slots["accumulator"].shape) < len(g.shape)
        accumulator = slots["accumulator"] + (xp.mean(g * g, axis=1) if by_row else g * g)
        root = xp.sqrt(accumulator)
        return g / ((root[:, None] if by_row else root) + self.epsilon), {"accumulator": accumulator}


@dataclass(frozen=True)
class RowWiseAdagrad(Adagrad):
    """Adagrad with one accumulator per row: a ← a + mean of the row's g². Dense weights use plain Adagrad."""

    by_row: ClassVar[bool] = True


@dataclass(frozen=True)
class Adam(Optimizer):
    """m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; w ← w − lr·m̂ / (√v̂ + epsilon), m̂ = m/(1−β₁ᵗ), v̂ = v/(1−β₂ᵗ).

    By default lazy for tables: only rows that a batch touches move, with one global step counter t. `dense=True` is
    the textbook one: every row's slots decay at every step. Slots `m` and `v`, shaped as the weight.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-5
    dense: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("beta_1", "beta_2"):
            value = getattr(self, name)
            require(is_finite(value) and 0 <= value < 1, self, f"needs 0 ≤ {name} < 1, got {value!r}")
        require(is_finite(self.epsilon) and self.epsilon > 0, self, f"needs epsilon > 0, got {self.epsilon!r}")
        require(isinstance(self.dense, bool), self, f"dense is True or False, got {self.dense!r}")

    @property
    def slots(self) -> tuple[str, ...]:
        return ("m", "v")

    @property
    def moves_all_rows(self) -> bool:
        return self.dense

    @property
    def is_well_conditioned(self) -> bool:
        return self.epsilon >= 1e-5

    def scalars(self, step: int) -> dict[str, float]:
        return {"m_scale": 1 / (1 - self.beta_1**step), "v_scale": 1 / (1 - self.beta_2**step)}

    def direction(self, g: Any, slots: Slots, scalars: Mapping[str, Any], xp: Any) -> tuple[Any, dict[str, Any]]:
        m = self.beta_1 * slots["m"] + (1 - self.beta_1) * g
        v = self.beta_2 * slots["v"] + (1 - self.beta_2) * g * g
        return m * scalars["m_scale"] / (xp.sqrt(v * scalars["v_scale"]) + self.epsilon), {"m": m, "v": v}


OPTIMIZERS: Sequence[type[Optimizer]] = (SGD, Adagrad, RowWiseAdagrad, Adam)
"""The optimizers that recs-core brings."""
