"""Where a model's tensors are, that it moves between devices, and that a step makes nobody wait."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import ConfigError
from tests.device.place import DEVICE, ON_DEVICE, assert_same_lists, assert_same_run, torch, trained
from tests.device.test_training import parts_of
from tests.parity.worker import in_order, smooth, tiny

pytestmark = ON_DEVICE

MODELS: dict[str, Any] = {
    "features": smooth,
    "gru": lambda: in_order(recs.GRU(layers=2, dropout=0.2)),
    "attention": lambda: in_order(recs.SelfAttention(heads=2, dropout=0.2)),
}


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    return tiny()[0]


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, data: recs.Interactions) -> recs.TwoTower:
    return trained(data, DEVICE, parts_of(MODELS[request.param]()) | {"dtype": "float64"})


def asked(model: recs.TwoTower, data: recs.Interactions) -> recs.TopK:
    context: dict[str, Any] = {"context": "blank", "at": "2024-01-05T17:30:00"} if model.schema.context else {}
    return model.recommend([1, 2, 3, 59], k=10, exclude=data, **context)


@contextmanager
def never_waiting() -> Iterator[None]:
    """PyTorch raises where the host waits for the GPU."""
    if DEVICE != "cuda":
        yield
        return
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_no_tensor_of_a_model_or_its_trainer_is_elsewhere(model: recs.TwoTower) -> None:
    module, trainer = model.model, model._trainer
    held = dict(module.named_parameters()) | dict(module.named_buffers())  # type: ignore[attr-defined]
    slots = {f"{n}/{s}": t for n, each in trainer.slots.items() for s, t in each.items()}  # type: ignore[union-attr]
    assert slots
    for name, tensor in (held | slots).items():
        assert tensor.device.type == DEVICE, name


@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_step_does_not_wait_for_the_device(data: recs.Interactions, name: str, precision: Any) -> None:
    model = recs.TwoTower(**parts_of(MODELS[name]()), backend="torch", device=DEVICE)
    batches = list(model.epochs(data))[:3]
    trainer = model._with_trainer(None, precision)
    trainer.step(batches[0], 1e-3)  # what is made once is made
    with never_waiting():
        losses = [trainer.step(batch, 1e-3) for batch in batches[1:]]
    assert all(loss.device.type == DEVICE and np.isfinite(float(loss)) for loss in losses)


def test_a_bundle_goes_to_and_fro(model: recs.TwoTower, data: recs.Interactions, tmp_path: Path) -> None:
    folder = model.save(tmp_path / "bundle")
    assert not any("cuda" in file.read_text() for file in folder.rglob("*.json"))
    on_cpu = recs.load(folder, backend="torch")
    again = recs.load(folder, backend="torch", device=DEVICE)
    assert isinstance(on_cpu, recs.TwoTower) and isinstance(again, recs.TwoTower)
    bare = recs.load(folder, runtime="numpy")
    for other in (on_cpu, again, bare):
        assert_same_lists(asked(model, data), asked(other, data))  # type: ignore[arg-type]
    for name, value in model.weights().items():
        assert np.array_equal(on_cpu.weights()[name], value) and np.array_equal(again.weights()[name], value), name
    for each in (on_cpu, again):
        each.fit(data, epochs=1, progress=False)
    assert_same_run(on_cpu, again)


def test_a_run_goes_on_where_another_device_left_it(data: recs.Interactions, tmp_path: Path) -> None:
    parts = parts_of(smooth()) | {"dtype": "float64"}
    whole = trained(data, "cpu", parts, epochs=4)
    folder = tmp_path / "run"
    begun = recs.TwoTower(**parts, backend="torch", device=DEVICE)

    class Cut(recs.Callback):
        def on_epoch_end(self, record: Any) -> None:
            if record.epoch == 2:
                raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        begun.fit(data, epochs=4, checkpoint=folder, callbacks=[Cut()], progress=False)
    for device in ("cpu", DEVICE):
        resumed = recs.TwoTower.resume(folder, backend="torch", device=device)
        resumed.fit(data, progress=False)
        assert resumed.position.epoch == 4
        assert_same_run(whole, resumed)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_stays_on_its_device(model: recs.TwoTower, data: recs.Interactions, copied: Any) -> None:
    other = copied(model)
    assert other.task.log_temperature.device.type == DEVICE
    assert_same_lists(asked(model, data), asked(other, data))


def test_a_module_of_ones_own_moves(data: recs.Interactions) -> None:
    def own() -> Any:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Embedding(61, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 8))

    def run(device: str) -> recs.TwoTower:
        candidate = recs.TowerSpec([recs.Categorical("item", dim=8)], layers=[8], activation="tanh")
        model = recs.TwoTower(own(), candidate, backend="torch", device=device, dtype="float64")
        model.fit(data, epochs=2, batch_size=100, progress=False)
        return model

    there = run(DEVICE)
    assert all(p.device.type == DEVICE for p in there.query_tower.native.parameters())
    assert_same_run(run("cpu"), there)


def test_a_loop_of_ones_own(data: recs.Interactions) -> None:
    from recs_core_torch import loader

    def losses(device: str) -> list[float]:
        model = recs.TwoTower(**parts_of(smooth()), backend="torch", device=device).build(data)
        query, candidate, task = model.model.children()  # type: ignore[attr-defined]
        optimizer = torch.optim.Adam(model.model.parameters(), 3e-3)  # type: ignore[attr-defined]
        found = []
        for batch in loader(model, data):
            loss = task(query(batch), candidate(batch.to(device)), **batch.task)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    np.testing.assert_allclose(losses(DEVICE), losses("cpu"), rtol=1e-5)


def test_a_device_that_is_not_there_is_refused_naming_those_that_are() -> None:
    last = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=rf"no device 'cuda:{last}'; there is 'cpu'"):
        recs.TwoTower(**parts_of(smooth()), backend="torch", device=f"cuda:{last}")
