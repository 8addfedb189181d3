"""Runs of a small model, and callbacks that tests of them are made with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import recs_core as recs
from recs_core.training import EpochRecord, FitStart, StepRecord, TrainingHistory
from tests.bundle.small import every_feature

STEPS = 4  # 60 rows in batches of 16
PLAN: dict[str, Any] = {"epochs": 3, "batch_size": 16, "schedule": recs.Schedule(warmup=0.2), "progress": False}


def model() -> recs.TwoTower:
    return every_feature(seed=3, optimizer=recs.Adam(0.05))


def resumed(folder: Path) -> recs.TwoTower:
    return recs.TwoTower.resume(folder, backend=model().backend)


def same(left: recs.TwoTower, right: recs.TwoTower) -> None:
    for ours, theirs in ((left.weights(), right.weights()), (left._trainer.state(), right._trainer.state())):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert left.history.losses == right.history.losses
    for name in ("loss", "learning_rate"):
        assert left.history[name] == right.history[name]
    assert left.position == right.position


class Notes(recs.Callback):
    """Writes down every call, under a name."""

    def __init__(self, name: str, into: list[str]) -> None:
        self.name, self.into = name, into

    def on_fit_start(self, start: FitStart) -> None:
        self.into.append(f"{self.name} start {start.epoch}.{start.step} until {start.epochs} of {start.steps}")

    def on_step_end(self, step: StepRecord) -> None:
        self.into.append(f"{self.name} step {step.epoch}.{step.step} of {step.steps}")

    def on_epoch_end(self, epoch: EpochRecord) -> None:
        self.into.append(f"{self.name} epoch {epoch.epoch}")

    def on_fit_end(self, history: TrainingHistory) -> None:
        self.into.append(f"{self.name} end {history.stopped} {len(history.epochs)}")


class Does(recs.Callback):
    """Does something at one hook, at the n-th time it is called."""

    def __init__(self, hook: str, do: Callable[[Any], object], at: int = 1) -> None:
        self.left = at

        def method(told: Any) -> None:
            self.left -= 1
            if self.left == 0:
                do(told)

        setattr(self, hook, method)


class Die(Exception):
    """A user's own."""


def die(told: Any) -> None:
    raise Die("no disk")


def stop(told: Any) -> None:
    raise recs.StopTraining
