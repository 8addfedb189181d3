"""Where a model runs, and what it computes its steps in: asked for, declined, and not part of what is saved."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core import config
from recs_core.contract.errors import BundleError, ConfigError, SpecError, UnsupportedFeature
from recs_core.contract.manifest import BackendInfo
from recs_core.contract.protocols import Backend
from recs_core.reference.backend import OracleBackend
from tests.shop import declared, shop


class Placed(OracleBackend):
    """The oracle with a choice of places, which say where they are."""

    info = BackendInfo("placed", "nowhere:at_all", "", capabilities={"device": True, "precision_bf16": True})

    def __init__(self, device: str = "here") -> None:
        super().__init__()
        self.device = device

    def devices(self) -> dict[str, str]:
        return {"here": "a place", "there": "another"}

    def on(self, device: str) -> Backend:
        if device not in self.devices():
            raise ConfigError(f"no device {device!r}; there is 'here', 'there'")
        return Placed(device)


def where(model: Any) -> str:
    return model.backend.device


def test_a_model_runs_where_it_is_told() -> None:
    assert where(declared(backend=Placed())) == "here"
    assert where(declared(backend=Placed(), device="there")) == "there"
    assert where(declared(backend=Placed("there"), device="here")) == "here"
    assert where(recs.recipe("history", shop(), backend=Placed(), device="there")) == "there"


def test_so_does_one_of_a_value_of_a_bundle_and_of_a_run_cut_off(tmp_path: Path) -> None:
    data = shop()
    model = declared(backend=Placed(), device="there")
    model.fit(data, checkpoint=tmp_path / "run", progress=False)
    assert where(recs.TwoTower.of(model.fitted(), backend=Placed(), device="there")) == "there"
    assert where(recs.TwoTower.resume(tmp_path / "run", backend=Placed(), device="there")) == "there"
    assert where(recs.load(tmp_path / "run", backend=Placed(), device="there")) == "there"
    assert where(recs.load(tmp_path / "run", backend=Placed())) == "here", "a bundle knows no device"
    assert where(pickle.loads(pickle.dumps(model))) == "there"


def test_a_device_that_is_not_there_is_refused_when_the_model_is_declared() -> None:
    with pytest.raises(ConfigError, match="no device 'moon'; there is 'here', 'there'"):
        declared(backend=Placed(), device="moon")


@pytest.mark.parametrize("name", ["keras[jax]", "keras[torch]"])
def test_a_backend_without_a_choice_says_so_before_its_framework_is_imported(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config.manager, "load_backend", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(UnsupportedFeature, match=r"'keras' takes no device='cuda'; leave it out: .*CUDA_VISIBLE_DEVI"):
        declared(backend=name, device="cuda")


def test_nor_has_one_that_is_built() -> None:
    with pytest.raises(UnsupportedFeature, match="'oracle' takes no device='cpu'; leave it out: NumPy computes"):
        declared(backend=OracleBackend(), device="cpu")


def test_numpy_alone_has_no_choice(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="runtime='numpy' runs on the CPU; leave device='cuda' out"):
        recs.load(tmp_path, runtime="numpy", device="cuda")


class Heard(Placed):
    """It says what its trainers were told."""

    def __init__(self, device: str = "here") -> None:
        super().__init__(device)
        self.told: list[Any] = []

    def trainer(self, model: Any, plan: Any) -> Any:
        self.told.append((plan.spec, plan.precision))
        return super().trainer(model, plan)


def test_a_precision_reaches_the_trainer_and_state_goes_with_it() -> None:
    data, backend = shop(), Heard()
    model, plain = declared(backend=backend), declared(backend=OracleBackend())
    for settings in ({}, {"precision": "bf16"}, {"precision": "bf16"}, {}):
        model.fit(data, epochs=1, progress=False, **settings)
    plain.fit(data, epochs=4, progress=False)
    assert [precision for _, precision in backend.told] == [None, "bf16", None]
    assert model.history.losses == plain.history.losses, "the oracle heeds no precision, so nothing else may differ"
    assert int(model._trainer.state()["step"]) == len(model.history.losses)  # type: ignore[union-attr]


def test_a_run_in_bf16_is_finished_in_it_and_its_bundle_loads_where_nobody_can(tmp_path: Path) -> None:
    data = shop()
    model = declared(backend=Placed(), training=recs.TrainingSpec(epochs=2, batch_size=64, precision="bf16"))
    model.fit(data, checkpoint=tmp_path / "run", progress=False)
    elsewhere = recs.load(tmp_path / "run", backend=OracleBackend())
    np.testing.assert_array_equal(elsewhere.recommend(["u1"], k=3).ids, model.recommend(["u1"], k=3).ids)
    with pytest.raises(UnsupportedFeature, match="'oracle' has no precision='bf16': the oracle computes in float64"):
        elsewhere.fit(data, epochs=1)  # type: ignore[attr-defined]
    elsewhere.fit(data, epochs=1, precision=None, progress=False)  # type: ignore[attr-defined]
    backend = Heard()
    recs.TwoTower.resume(tmp_path / "run", backend=backend).fit(data, progress=False)
    assert backend.told[-1][1] == "bf16"


def test_a_precision_that_cannot_be_meant() -> None:
    with pytest.raises(SpecError, match="precision is 'bf16' or None, got 'fp16'"):
        declared(backend=Placed()).fit(shop(), precision="fp16")  # type: ignore[call-overload]
    with pytest.raises(
        SpecError, match="precision='bf16' is for a model of dtype='float32', and this one's is 'float6"
    ):
        declared(backend=Placed(), dtype="float64").fit(shop(), precision="bf16")
