"""The usual mistakes of several workers, each of which the suite sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from recs_core_torch import Backend, distributed
from recs_core_torch.group import Group

from recs_core.conformance.runner import session


def _columns_without_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of a column's vector from its own worker alone, as an all-gather without a backward has it."""

    def own_alone(ctx: Any, grad: torch.Tensor) -> Any:
        low = sum(ctx.sizes[: ctx.group.rank])
        return grad[low : low + ctx.sizes[ctx.group.rank]], None, None

    monkeypatch.setattr(distributed._Gather, "backward", staticmethod(own_alone))


def _a_mean_for_a_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Group.scatter_sum
    monkeypatch.setattr(Group, "scatter_sum", lambda self, x, sizes, what: whole(self, x, sizes, what) / self.size)


def _negatives_of_the_own_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    of_all = distributed.SpreadTrainer._share

    def own(self: Any, batch: Any) -> Any:
        part, columns = of_all(self, batch), batch.candidate.size
        low, high = distributed.edges(columns, self.group.size)[self.group.rank : self.group.rank + 2]
        mask = np.zeros((part.query.size, columns), bool)
        mask[:, low:high] = True
        mask &= part.task.get("score_mask", True)
        return dataclasses.replace(part, task={**part.task, "score_mask": mask})

    monkeypatch.setattr(distributed.SpreadTrainer, "_share", own)


def _a_row_moved_by_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker's part of a row's gradient moves the row, one after the other."""
    added = distributed.SpreadTrainer._added

    def twice(self: Any, name: str, touched: Any, places: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        ends = torch.nonzero(places[1:] <= places[:-1])[:, 0]  # the places of one worker ascend
        cut = int(ends[0]) + 1 if len(ends) else len(places)
        if cut < len(places):
            first = added(self, name, touched, places[:cut], rows[:cut])
            value = self.weights[name].parameter
            value = value if touched is None else value.index_select(0, touched)
            self._move(name, value, first, touched, self.plan.scalars(0.01, self.steps + 1))
        return added(self, name, touched, places[cut:], rows[cut:]) if cut < len(places) else first_of(places, rows)

    def first_of(places: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        raise AssertionError("every row is read by one worker alone: the world is too large to see the mistake")

    monkeypatch.setattr(distributed.SpreadTrainer, "_added", twice)


def _a_clip_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = distributed.optimizers.clip
    monkeypatch.setattr(distributed.SpreadTrainer, "_clip", lambda self, g, limit: clip(g.values(), limit))


@pytest.mark.parametrize(
    ("mistake", "seen_by"),
    [
        (_columns_without_gradient, "distributed/step"),
        (_a_mean_for_a_sum, "distributed/step"),
        (_negatives_of_the_own_worker, "distributed/step"),
        (_a_row_moved_by_each_part, "distributed/step"),
        (_a_clip_for_each_worker, "distributed/clip-and-decay"),
    ],
)
def test_the_suite_sees_the_mistake(
    mistake: Callable[[pytest.MonkeyPatch], None], seen_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert session(Backend()).outcome(seen_by).status == "passed"
    mistake(monkeypatch)
    judged = session(Backend())
    assert judged.outcome(seen_by).status == "failed"
    names = [c.name for c in judged.checks if c.name.startswith("distributed/")]
    assert next(n for n in names if judged.outcome(n).status == "failed") == seen_by
