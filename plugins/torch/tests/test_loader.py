"""The `DataLoader` of what `fit` would train on, in loops of one's own: plain, Lightning's, Accelerate's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from recs_core_torch import loader
from recs_core_torch.data import TensorBatch
from torch import Tensor, nn

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError

ROWS, USERS, ITEMS = 300, 30, 40


@pytest.fixture(scope="module")
def train() -> recs.Interactions:
    """Each row is another pair, so that rows can be told from one another."""
    pairs = np.random.default_rng(0).choice(USERS * ITEMS, ROWS, replace=False)
    table = {
        "user": [f"u{n}" for n in pairs // ITEMS],
        "item": [f"i{n}" for n in pairs % ITEMS],
        "at": np.arange(ROWS, dtype=float),
    }
    items = {"item": [f"i{n}" for n in range(ITEMS)], "price": [float(n) for n in range(ITEMS)]}
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="at", candidates=items)


def declared(**options: Any) -> recs.TwoTower:
    parts = {
        "query": recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4)], layers=[8]),
        "candidate": recs.TowerSpec([recs.Categorical("item", dim=4), recs.Numeric("price")], layers=[8]),
        "training": recs.TrainingSpec(epochs=2, batch_size=32),
        "backend": "torch",
    }
    return recs.TwoTower(**{**parts, **options})


def pairs(batch: TensorBatch) -> list[tuple[int, int]]:
    """The rows of a batch, as table rows of user and item."""
    users, items = batch.query.columns["user"], batch.candidate.columns["item"]
    assert isinstance(users, Tensor)
    assert isinstance(items, Tensor)
    target, column = batch.task["target_query"], batch.task["target_candidate"]
    return list(zip(users[target].tolist(), items[column].tolist(), strict=True))


def each(batch: TensorBatch) -> Iterator[Tensor]:
    for features in (batch.query, batch.candidate):
        for value in features.columns.values():
            yield from value if isinstance(value, tuple) else (value,)


def same(one: TensorBatch, other: TensorBatch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(each(one), each(other), strict=True))


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_neither_repeat_nor_lose_a_row(train: recs.Interactions, workers: int, kept: bool) -> None:
    alone = loader(declared(), train)
    shared = loader(declared(), train, num_workers=workers, persistent_workers=kept)
    assert len(shared) == len(alone) == -(-ROWS // 32)
    for _ in range(3):
        got, expected = list(shared), list(alone)
        assert len({pair for batch in got for pair in pairs(batch)}) == ROWS
        assert sum(len(pairs(batch)) for batch in got) == ROWS
        assert all(same(one, other) for one, other in zip(got, expected, strict=True))


def test_each_pass_is_the_next_epoch(train: recs.Interactions) -> None:
    batches = loader(declared(), train)
    first, second = ([pairs(batch) for batch in batches] for _ in range(2))
    assert first != second
    again = loader(declared(), train, epoch=1)
    assert [pairs(batch) for batch in again] == second


@pytest.mark.parametrize("batch_by", ["interaction", "query"])
def test_its_losses_are_those_of_fit(train: recs.Interactions, batch_by: str) -> None:
    own, fitted = declared(optimizer=recs.SGD(0.5)), declared(optimizer=recs.SGD(0.5))
    batches = loader(own, train, batch_by=batch_by)
    native = own.model
    descent = torch.optim.SGD(native.parameters(), lr=0.5)
    losses = []
    for _ in range(2):
        for batch in batches:
            descent.zero_grad()
            loss = native.task(native.query(batch), native.candidate(batch), **batch.task)
            loss.backward()
            descent.step()
            losses.append(loss.item())
    fitted.fit(train, epochs=2, batch_by=batch_by)
    np.testing.assert_allclose(losses, fitted.history.losses, rtol=1e-5)
    for name, weight in own.weights().items():
        np.testing.assert_allclose(weight, fitted.weights()[name], atol=1e-5)


def test_dropout_is_in_the_batch(train: recs.Interactions) -> None:
    tower = recs.TowerSpec([recs.Categorical("user", dim=4)], layers=[8], dropout=0.5)
    model = declared(query=tower)
    batch = next(iter(loader(model, train)))
    assert batch.query.keep is not None
    table, layer = model.model.query.table("table/user").weight, model.model.query.layers[0]
    expected = layer(table[batch.query.columns["user"].long()] * batch.query.keep)  # type: ignore[union-attr]
    torch.testing.assert_close(model.model.query(batch), expected)


def test_ranks_share_an_epoch(train: recs.Interactions) -> None:
    whole = [pairs(batch) for batch in loader(declared(), train)]
    ranks = [[pairs(b) for b in loader(declared(), train, rank=rank, world_size=3)] for rank in range(3)]
    assert [len(rank) for rank in ranks] == [3, 3, 3]
    assert [ranks[i % 3][i // 3] for i in range(9)] == whole[:9]


def test_a_batch_moves(train: recs.Interactions) -> None:
    model = declared(query=recs.TowerSpec([recs.Categorical("user", dim=4)], layers=[8], dropout=0.5))
    moved = next(iter(loader(model, train))).to("meta", non_blocking=True)
    assert {tensor.device.type for tensor in each(moved)} == {"meta"}
    assert moved.query.keep is not None
    assert moved.query.keep.device.type == "meta"
    assert isinstance(moved.task["target_query"], np.ndarray)


def test_autocast_computes_towers_in_bfloat16_and_the_task_in_float32(train: recs.Interactions) -> None:
    """bfloat16 has 8 bits: a tower of one layer is within 2^-8 of its scale, and so is the loss."""
    model = declared()
    batch = next(iter(loader(model, train)))
    native = model.model
    exact = native.task(native.query(batch), native.candidate(batch), **batch.task)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        query = native.query(batch)
        loss = native.task(query, native.candidate(batch), **batch.task)
    assert query.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact, rtol=2**-6, atol=0)
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in native.parameters() if parameter.grad is not None)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # vectors of float32 stay what they are
        again = native.task(query.detach().float(), native.candidate(batch).float(), **batch.task)
    torch.testing.assert_close(again, loss, rtol=1e-6, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, on its own parts
def test_a_compiled_tower_takes_a_batch(train: recs.Interactions) -> None:
    native = declared().build(train).model
    compiled = torch.compile(native.query, backend="aot_eager")
    for batch in list(loader(declared(), train))[-2:]:  # the last is smaller
        torch.testing.assert_close(compiled(batch), native.query(batch))


@pytest.mark.filterwarnings("ignore")  # of Lightning's, on what it could do on a larger machine
def test_lightning_trains_it(train: recs.Interactions) -> None:
    lightning = pytest.importorskip("lightning")

    class Learns(lightning.LightningModule):
        def __init__(self, native: nn.Module) -> None:
            super().__init__()
            self.native, self.losses = native, []

        def training_step(self, batch: TensorBatch, index: int) -> Tensor:
            loss: Tensor = self.native.task(self.native.query(batch), self.native.candidate(batch), **batch.task)
            self.losses.append(loss.item())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.5)

    own, fitted = declared(optimizer=recs.SGD(0.5)), declared(optimizer=recs.SGD(0.5))
    batches = loader(own, train)
    learns = Learns(own.model)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    lightning.Trainer(max_epochs=2, enable_model_summary=False, **quiet).fit(learns, batches)
    fitted.fit(train)
    np.testing.assert_allclose(learns.losses, fitted.history.losses, rtol=1e-5)


def test_accelerate_trains_it(train: recs.Interactions) -> None:
    accelerate = pytest.importorskip("accelerate")
    own, fitted = declared(optimizer=recs.SGD(0.5)), declared(optimizer=recs.SGD(0.5))
    batches = loader(own, train)
    accelerator = accelerate.Accelerator(cpu=True)
    native, descent, batches = accelerator.prepare(own.model, torch.optim.SGD(own.model.parameters(), lr=0.5), batches)
    losses = []
    for _ in range(2):
        for batch in batches:
            descent.zero_grad()
            loss = native.task(native.query(batch), native.candidate(batch), **batch.task)
            accelerator.backward(loss)
            descent.step()
            losses.append(loss.item())
    fitted.fit(train)
    np.testing.assert_allclose(losses, fitted.history.losses, rtol=1e-5)


def test_a_batch_of_another_model_is_refused(train: recs.Interactions) -> None:
    fewer, _ = train.split(by="time", test=0.9)
    batch = next(iter(loader(declared(), train)))
    other = declared().build(fewer).model
    with pytest.raises(DataError, match=r"the query tower has 'table/user' of \d+ rows; the batch is of a model"):
        other.query(batch)
    tower = recs.TowerSpec([recs.Categorical("item", dim=4)], layers=[8])
    third = declared(candidate=tower, query=recs.TowerSpec([recs.Categorical("user", dim=4)], layers=[8]))
    narrow = next(iter(loader(third, train)))
    with pytest.raises(DataError, match="needs feature"):
        declared().build(train).model.candidate(narrow)


def test_what_stands_where_the_model_should_is_refused(train: recs.Interactions) -> None:
    with pytest.raises(SpecError, match=r"loader\(model, train\); got Interactions as the model"):
        loader(train, declared())  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"the model is on keras\[\w+\]; build it with backend='torch'"):
        loader(declared(backend="keras"), train)


def test_ranks_that_are_none_are_refused(train: recs.Interactions) -> None:
    for rank, size in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(SpecError, match="rank is one of"):
            loader(declared(), train, rank=rank, world_size=size)
    with pytest.raises(SpecError, match="an epoch has 1 batches for 2 ranks"):
        loader(declared(), train, rank=0, world_size=2, batch_size=ROWS)
    with pytest.raises(SpecError, match="epochs: there is no argument 'shuffle'"):
        loader(declared(), train, shuffle=True)  # type: ignore[call-arg]


def test_a_module_of_ones_own_takes_its_batches(train: recs.Interactions) -> None:
    class Late(nn.Module):
        """Returns another shape from its third call on."""

        def __init__(self) -> None:
            super().__init__()
            self.table, self.calls = nn.Embedding(USERS + 1, 8), 0

        def forward(self, codes: Tensor) -> Tensor:
            self.calls += self.training
            out: Tensor = self.table(codes)
            return out if self.calls < 3 else out[:, :5]

    model = declared(query=Late())
    batches = iter(loader(model, train))
    for _ in range(2):
        batch = next(batches)
        model.model.task(model.model.query(batch), model.model.candidate(batch), **batch.task).backward()
    with pytest.raises(SpecError, match=r"Late must return a tensor of shape \(32, 8\); it returned \(32, 5\)"):
        model.model.query(next(batches))
