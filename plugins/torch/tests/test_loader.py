"""The `DataLoader` over a data set of the core."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from recs_core_torch import Backend, loader
from torch_worlds import codes, spec

from recs_core.contract.batch import Batch, Features
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.plans import TowerPlan
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.randomness import generator
from recs_core.contract.towers import TowerSpec

PLAN = BatchPlan(2, "interaction", spec())


class Pairs:
    """Seven pairs (i, i) in an order drawn from (seed, epoch)."""

    def __len__(self) -> int:
        return 7

    def batches(self, plan: BatchPlan, *, seed: int, epoch: int) -> Iterator[Batch]:
        order = generator(seed, "pairs", epoch).permutation(7)
        for start in range(0, 7, plan.size):
            rows = np.sort(order[start : start + plan.size]).astype(np.int32)
            local = Features(len(rows), {"user": codes(*range(len(rows)))})
            item = Features(len(rows), {"item": codes(*range(len(rows)))})
            yield Batch({"table/user": rows, "table/item": rows}, local, item, {})


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_keep_batches_and_their_order(workers: int) -> None:
    expected = [batch.rows["table/user"].tolist() for batch in Pairs().batches(PLAN, seed=3, epoch=1)]
    got = [batch.rows["table/user"].tolist() for batch in loader(Pairs(), PLAN, seed=3, epoch=1, num_workers=workers)]
    assert got == expected


def test_a_native_loop_learns_the_pairs() -> None:
    towers = (
        TowerPlan.of("query", TowerSpec([Categorical("user", dim=4)])),
        TowerPlan.of("candidate", TowerSpec([Categorical("item", dim=4)])),
    )
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(7, 4)).astype(np.float32) for name in ("table/user", "table/item")}
    model = Backend().model(*towers, spec(), weights)
    query, candidate, task = model.query, model.candidate, model.task
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    plan = BatchPlan(7, "interaction", spec())
    for epoch in range(60):
        for batch in loader(Pairs(), plan, seed=0, epoch=epoch):
            optimizer.zero_grad()
            loss = task(query(batch), candidate(batch), **batch.task)
            loss.backward()
            optimizer.step()
    every = Features(7, {"user": codes(*range(7)), "item": codes(*range(7))})
    scores = query.embed(every) @ candidate.embed(every).T
    assert scores.argmax(1).tolist() == list(range(7))
