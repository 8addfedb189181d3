"""`TwoTower.fit` on several workers: one process's run, its checkpoints at any number of workers, and refusals that all
make alike. Workers are threads here; `test_worker_processes.py` has processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recs_core_torch import Backend

import recs_core as recs
from recs_core import bundle, config, together
from recs_core.bundle.shares import write_share
from recs_core.conformance.workers import on_workers
from recs_core.contract.errors import BundleError, ConfigError, TrainingError, UnsupportedFeature
from recs_core.contract.workers import Workers
from recs_core.spread import on_first


def shop(rows: int = 300, seed: int = 3) -> recs.Interactions:
    random = np.random.default_rng(seed)
    who, what = random.integers(0, 15, rows), random.integers(0, 12, rows)
    table = {"user": [f"u{n}" for n in who], "item": [f"i{n}" for n in what], "t": np.arange(rows, dtype=float)}
    items = {"item": [f"i{n}" for n in range(12)], "price": [float(n) for n in range(12)]}
    return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="t", candidates=items)


def declared(backend: Any, **options: Any) -> recs.TwoTower:
    parts = {
        "query": recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4)], layers=[6]),
        "candidate": recs.TowerSpec([recs.Categorical("item", dim=4), recs.Numeric("price")], layers=[6]),
        "retrieval": recs.RetrievalSpec(),
        "optimizer": recs.Adam(0.05),
        "training": recs.TrainingSpec(epochs=3, batch_size=64),
        "dtype": "float64",
    }
    return recs.TwoTower(**{**parts, **options}, backend=backend)


class FailsAfter(recs.Callback):
    """A run that is cut off after an epoch, and its checkpoint."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, epoch: Any) -> None:
        if epoch.epoch == self.epoch:
            raise RuntimeError("cut off")


def close(got: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-10) -> None:
    assert set(got) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=tolerance, err_msg=name)


def test_a_run_is_that_of_one_process_with_validation_early_stopping_and_a_checkpoint(tmp_path: Path) -> None:
    train, test = shop().split(by="time", test=0.2)

    def fitted(backend: Any, folder: str = "several") -> tuple[Any, ...]:
        model = declared(backend)
        rule = recs.EarlyStopping("recall@10", patience=1)
        history = model.fit(train, test, epochs=6, early_stopping=rule, checkpoint=tmp_path / folder, progress=False)
        whole = model.gathered()
        return history.losses, [e.metrics for e in history.epochs], history.best_epoch, model.weights(), whole

    losses, metrics, best, weights, alone = fitted(Backend(), "one")
    for got in on_workers(Backend(), 2, fitted):
        np.testing.assert_allclose(got[0], losses, rtol=1e-12)
        assert got[1] == metrics and got[2] == best
        close(got[3], weights)
        assert got[4].recommend(["u1", "u2"], k=5).ids.tolist() == alone.recommend(["u1", "u2"], k=5).ids.tolist()
    assert recs.load(tmp_path / "several", runtime="numpy").recommend(["u3"], k=5).ids.tolist() == (
        recs.load(tmp_path / "one", runtime="numpy").recommend(["u3"], k=5).ids.tolist()
    )


def test_a_checkpoint_is_a_file_of_each_worker_and_no_table_passes_between_them(tmp_path: Path) -> None:
    def begun(backend: Any) -> int:
        declared(backend).fit(
            shop(), checkpoint=tmp_path / "run", early_stopping=recs.EarlyStopping("loss"), progress=False
        )
        return int(backend.group.sent["whole tables"])

    assert on_workers(Backend(), 3, begun) == [0, 0, 0]
    files = bundle.info(tmp_path / "run").manifest["contents"]
    assert len(files["weights"]) == len(files["state"]) == 3 and isinstance(files["history"], str)
    recs.verify(tmp_path / "run")


def test_best_weights_are_kept_by_rows_and_found_again_by_any_number_of_workers(tmp_path: Path) -> None:
    rule = recs.EarlyStopping("loss", patience=1, min_delta=9.0)  # the first epoch stays the best

    def begun(backend: Any) -> None:
        with pytest.raises(RuntimeError, match="cut off"):
            declared(backend).fit(
                shop(),
                epochs=4,
                early_stopping=rule,
                checkpoint=tmp_path / "run",
                callbacks=[FailsAfter(1)],
                progress=False,
            )

    def ended(backend: Any) -> tuple[int | None, dict[str, Any]]:
        model = recs.TwoTower.resume(tmp_path / "run", backend=backend)
        model.fit(shop(), progress=False)
        return model.history.best_epoch, model.weights()

    alone = declared(Backend())
    alone.fit(shop(), epochs=4, early_stopping=rule, progress=False)
    on_workers(Backend(), 2, begun)
    for best, weights in [*on_workers(Backend(), 3, ended), ended(Backend())]:
        assert best == alone.history.best_epoch == 1
        close(weights, alone.weights())


def full(folder: Path, fitted: Any, rank: int, size: int) -> Any:
    """As `write_share`, where worker 1's disk is full."""
    if rank:
        raise BundleError(f"{folder}: cannot be written, No space left on device")
    return write_share(folder, fitted, rank, size)


def unsaved(model: recs.TwoTower, value: Any) -> Any:
    raise BundleError("cannot be answered")


@pytest.mark.parametrize(("name", "fails"), [("write_share", full), ("answering", unsaved)])
def test_of_a_first_checkpoint_that_cannot_be_written_nothing_is_left(
    name: str, fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, name, fails)

    def refused(backend: Any) -> None:
        with pytest.raises((BundleError, TrainingError)):
            declared(backend).fit(shop(), checkpoint=tmp_path / "run", progress=False)

    on_workers(Backend(), 3, refused)
    assert not list(tmp_path.iterdir())


def test_a_worker_that_cannot_write_leaves_the_old_checkpoint_and_all_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_workers(Backend(), 2, lambda backend: declared(backend).fit(shop(), checkpoint=tmp_path / "run", progress=False))
    before = (tmp_path / "run" / "manifest.json").read_bytes()

    def refused(backend: Any) -> str:
        model = recs.TwoTower.resume(tmp_path / "run", backend=backend)
        monkeypatch.setattr(together, "write_share", full)
        with pytest.raises((BundleError, TrainingError), match="No space left on device") as raised:
            model.fit(shop(), epochs=1, checkpoint=tmp_path / "run", progress=False)
        return str(raised.value)

    first, second = on_workers(Backend(), 2, refused)
    assert "worker 1 failed in the save to" in first and second.endswith("No space left on device")
    assert (tmp_path / "run" / "manifest.json").read_bytes() == before
    recs.verify(tmp_path / "run")
    assert not bundle.info(tmp_path / "run").leftovers


@pytest.mark.parametrize("sizes", [(2, 3, 1), (1, 3, 2)])
def test_a_run_goes_on_with_another_number_of_workers(sizes: tuple[int, ...], tmp_path: Path) -> None:
    data = shop()
    expected = declared(Backend())
    expected.fit(data, progress=False)

    def begun(backend: Any) -> None:
        with pytest.raises(RuntimeError, match="cut off"):
            declared(backend).fit(data, checkpoint=tmp_path / "run", callbacks=[FailsAfter(1)], progress=False)

    def on(backend: Any, last: bool) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
        model = recs.TwoTower.resume(tmp_path / "run", backend=backend)
        if not last:
            with pytest.raises(RuntimeError, match="cut off"):
                model.fit(data, checkpoint=tmp_path / "run", callbacks=[FailsAfter(2)], progress=False)
        else:
            model.fit(data, checkpoint=tmp_path / "run", progress=False)
        assert model._trainer is not None
        return model.history.losses, model.weights(), model._trainer.state()

    on_workers(Backend(), sizes[0], begun)
    on_workers(Backend(), sizes[1], lambda backend: on(backend, last=False))
    for losses, weights, state in on_workers(Backend(), sizes[2], lambda backend: on(backend, last=True)):
        np.testing.assert_allclose(losses, expected.history.losses, rtol=1e-12)
        close(weights, expected.weights())
        assert expected._trainer is not None
        close(state, expected._trainer.state())
    assert recs.load(tmp_path / "run", backend=Backend()).recommend(["u1"], k=3).ids.tolist() == (
        expected.recommend(["u1"], k=3).ids.tolist()
    )


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"data": shop(301)}, "data"),
        ({"seed": 7}, "seed: 7 and 42"),
        ({"optimizer": recs.Adam(0.04)}, "optimizer"),
        ({"retrieval": recs.RetrievalSpec(temperature=0.2)}, "retrieval"),
        ({"training": recs.TrainingSpec(epochs=3, batch_size=65)}, "batch_size: 65 and 64"),
        ({"dtype": "float32"}, "dtype: 'float32' and 'float64'"),
    ],
)
def test_workers_that_disagree_are_refused_before_the_first_step(other: dict[str, Any], field: str) -> None:
    def fit(backend: Any) -> str:
        options = dict(other) if backend.group.rank == 1 else {}
        data = options.pop("data", shop())
        model = declared(backend, **options)
        with pytest.raises(ConfigError) as said:
            model.fit(data, progress=False)
        assert not model.history.losses
        return str(said.value)

    said = on_workers(Backend(), 3, fit)
    assert said[0] == said[1] == said[2] and "\n" not in said[0]
    assert said[0].startswith(f"worker 1 and worker 0 disagree on {field}")


def test_versions_that_differ_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from recs_core.distributed import agreement

    def fit(backend: Any) -> str:
        group = backend.group
        facts = {"version": f"recs-core 0.{group.rank // 2}"}
        with pytest.raises(ConfigError) as said:
            agreement.check_agreement(group, facts)
        return str(said.value)

    for said in on_workers(Backend(), 3, fit):
        assert said.startswith("worker 2 and worker 0 disagree on version: recs-core 0.1 and recs-core 0.0; start")


def test_every_worker_raises_the_same_error_where_the_loss_is_not_finite() -> None:
    def fit(backend: Any) -> str:
        model = declared(backend, retrieval=recs.RetrievalSpec(scoring="dot"), optimizer=recs.SGD(1e200))
        with np.errstate(all="ignore"), pytest.raises(TrainingError) as said:
            model.fit(shop(), progress=False)
        return str(said.value)

    first, second = on_workers(Backend(), 2, fit)
    assert first == second and "the loss is" in first


def test_a_model_on_several_workers_says_what_answers() -> None:
    def ask(backend: Any) -> str:
        model = declared(backend)
        model.fit(shop(), epochs=1, progress=False)
        with pytest.raises(UnsupportedFeature) as said:
            model.recommend(["u1"])
        assert on_first(model, lambda whole: whole.recommend(["u1"], k=2).ids.tolist(), "an answer")
        return str(said.value)

    assert all("TwoTower.gathered()" in said for said in on_workers(Backend(), 2, ask))


def test_a_backend_that_trains_on_one_worker_says_why_before_its_framework_is_imported() -> None:
    for engine in ("torch", "tensorflow"):
        with pytest.raises(UnsupportedFeature, match=r"'keras' trains on one worker alone: .*of keras.jax. or torch"):
            config.over(f"keras[{engine}]", Workers(0, 2))


def test_workers_that_cannot_be_meant() -> None:
    with pytest.raises(ConfigError, match="rank is one of 0 … size − 1, got rank 2 of 2"):
        Workers(2, 2)
    for never in (0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=f"timeout is a finite number of seconds above 0, got {never}"):
            dataclasses.replace(Workers(0, 2), timeout=never)
