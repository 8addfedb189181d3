"""Early stopping: the rule, and what it remembers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from recs_core.contract.errors import SpecError
from recs_core.contract.protocols import Model
from recs_core.contract.validation import Declared
from recs_core.contract.weights import Weights
from recs_core.distributed.rows import own_weights
from recs_core.training.history import EpochRecord

LOWER_IS_BETTER = ("loss",)


@dataclass(frozen=True)
class EarlyStopping(Declared):
    """Stop when `metric` has not improved by more than `min_delta` for `patience` validations, and take back the best
    weights. `metric` is "loss" or a validation metric; an unknown name is an error before training starts."""

    metric: str = "recall@20"
    patience: int = 3
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.metric, str) or not self.metric:
            raise SpecError(f"EarlyStopping: metric is a name such as 'recall@20' or 'loss', got {self.metric!r}")
        if not isinstance(self.patience, int) or isinstance(self.patience, bool) or self.patience < 1:
            raise SpecError(f"EarlyStopping: patience must be a whole number ≥ 1, got {self.patience!r}")
        number = isinstance(self.min_delta, (int, float)) and not isinstance(self.min_delta, bool)
        if not number or not 0 <= self.min_delta < math.inf:
            raise SpecError(f"EarlyStopping: min_delta must be a number ≥ 0, got {self.min_delta!r}")

    def improves(self, value: float, best: float | None) -> bool:
        """Whether `value` is better than `best`."""
        if best is None:
            return True
        gain = best - value if self.metric in LOWER_IS_BETTER else value - best
        return gain > self.min_delta


@dataclass
class Best:
    """The best weights so far, under an early-stopping rule."""

    rule: EarlyStopping | None = None
    value: float | None = None
    epoch: int | None = None
    waited: int = 0
    weights: Weights = field(default_factory=dict, repr=False)

    @property
    def exhausted(self) -> bool:
        """Whether patience has run out."""
        return self.rule is not None and self.waited >= self.rule.patience

    def see(self, record: EpochRecord, model: Model) -> None:
        """Take note of an epoch."""
        if self.rule is None:
            return
        value = record.loss if self.rule.metric == "loss" else record.metrics.get(self.rule.metric)
        if value is None:
            return
        if self.rule.improves(value, self.value):
            self.value, self.epoch, self.waited = value, record.epoch, 0
            self.weights = own_weights(model)
        else:
            self.waited += 1

    def restore(self, model: Model) -> int | None:
        """Put the best weights back; the epoch they are from."""
        if self.weights:
            model.load_weights(self.weights)
        return self.epoch
