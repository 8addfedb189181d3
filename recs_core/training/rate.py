"""The learning rate of each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recs_core.contract.errors import SpecError
from recs_core.contract.training import Schedule
from recs_core.contract.validation import is_finite


@dataclass
class Rate:
    """`base`, times the schedule's factor; of both, what holds until a callback sets another one for this fit."""

    base: float
    schedule: Schedule | None = None

    def __call__(self, step: int, total: int) -> float:
        """The rate at `step` (from 0) of `total`."""
        return self.base if self.schedule is None else self.base * self.schedule.factor(step, total)

    def set(self, rate: Any) -> None:
        """The rate from the next step on. Raises `SpecError` for one that is none, or beside a schedule."""
        if self.schedule is not None:
            raise SpecError("the learning rate has a schedule, so a callback cannot set it; fit with schedule=None")
        value = float(rate)
        if not (is_finite(value) and value >= 0):
            raise SpecError(f"a learning rate is a number ≥ 0, a callback set {value!r}")
        self.base = value
