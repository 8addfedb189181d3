"""A loop of one's own: a model before training, the batches of `fit`, and what a bundle says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.batch import Batch, Features, Ragged
from recs_core.contract.errors import DataError, NotFitted, SpecError
from recs_core.contract.plans import UpdatePlan
from tests.shop import declared, shop


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    return shop()


def same_weights(one: recs.TwoTower, other: recs.TwoTower) -> bool:
    theirs = other.weights()
    return all(np.array_equal(value, theirs[name]) for name, value in one.weights().items())


def moved(model: recs.TwoTower) -> None:
    model.model.load_weights({name: value + 1 for name, value in model.weights().items()})


def flat(batch: Batch) -> list[object]:
    """All that is in a batch, for comparison."""

    def of(features: Features) -> list[object]:
        codes = [(n, c.values.tolist() if isinstance(c, Ragged) else c.tolist()) for n, c in features.codes.items()]
        return [codes, {name: numbers.tolist() for name, numbers in features.dense.items()}]

    return [{name: rows.tolist() for name, rows in batch.rows.items()}, of(batch.query), of(batch.candidate)]


def test_a_model_that_is_built_answers_and_fit_goes_on_from_there(data: recs.Interactions) -> None:
    model, fitted = declared(), declared()
    assert model.build(data) is model
    start = model.weights()
    assert len(model.recommend(data.query_ids.ids[:3], k=2).ids) == 3
    model.fit(data, epochs=1)
    fitted.fit(data, epochs=1)
    assert any(not np.array_equal(start[name], value) for name, value in model.weights().items())
    assert same_weights(model, fitted)


def test_steps_over_epochs_are_the_steps_of_fit(data: recs.Interactions) -> None:
    own, fitted = declared(), declared()
    epochs = own.epochs(data, batch_size=64)
    trainer = own.backend.trainer(own.model, UpdatePlan(own.optimizer))
    steps = 0
    for _ in range(2):
        for batch in epochs:
            trainer.step(batch, own.optimizer.learning_rate)
            steps += 1
    fitted.fit(data, epochs=2, batch_size=64)
    assert steps == 2 * len(epochs)
    assert same_weights(own, fitted)


@pytest.mark.parametrize("batch_by", ["interaction", "query"])
def test_a_batch_is_made_without_those_before_it(data: recs.Interactions, batch_by: str) -> None:
    epochs = declared().epochs(data, batch_size=4, batch_by=batch_by, epoch=3)
    passes = {epoch: [flat(batch) for batch in epochs] for epoch in (3, 4)}
    assert passes[3] != passes[4]
    for epoch, step in ((4, 1), (3, 0), (3, len(epochs) - 1)):
        assert flat(epochs.batch(epoch, step)) == passes[epoch][step]


def test_epochs_go_on_after_those_of_fit(data: recs.Interactions) -> None:
    model = declared()
    model.fit(data, epochs=2)
    assert model.epochs(data).epoch == 2


def test_what_was_moved_outside_fit_is_stated_and_leaves_no_state(data: recs.Interactions, tmp_path: Path) -> None:
    model = declared()
    model.fit(data, epochs=1)
    trained = recs.load(model.save(tmp_path / "trained"))
    assert not trained.history.own_loop
    assert trained.fitted().progress.state is not None
    moved(model)
    folder = model.save(tmp_path / "moved")
    assert "moved outside `fit`" in (folder / "README.md").read_text("utf-8")
    loaded = recs.load(folder)
    assert loaded.history.own_loop
    assert loaded.fitted().progress.state is None
    loaded.fit(data, epochs=1)
    assert loaded.position.epoch == 2
    assert loaded.fitted().progress.state is not None


def test_what_is_only_built_was_moved_by_nobody(data: recs.Interactions, tmp_path: Path) -> None:
    folder = declared().build(data).save(tmp_path / "built")
    assert not recs.load(folder).history.own_loop
    assert "Training log" not in (folder / "README.md").read_text("utf-8")


def test_an_optimizer_begins_anew_after_weights_were_moved(data: recs.Interactions) -> None:
    """Adam's first step is as long as its rate, whatever the gradient; its later ones are not."""
    model, fresh = declared(), declared()
    model.fit(data, epochs=3)
    moved(model)
    fresh.build(data).model.load_weights(model.weights())
    fresh.position.epoch = 3
    model.fit(data, epochs=1)
    fresh.fit(data, epochs=1)
    assert same_weights(model, fresh)


def test_a_run_that_was_cut_off_is_over_once_weights_were_moved(data: recs.Interactions) -> None:
    class Fails(recs.Callback):
        def on_epoch_end(self, epoch: recs.EpochRecord) -> None:
            raise RuntimeError("no more")

    model = declared()
    with pytest.raises(RuntimeError):
        model.fit(data, epochs=5, callbacks=[Fails()])
    moved(model)
    model.fit(data)  # as declared, and not the four that were left
    assert model.position.epoch == 1 + model.training.epochs


def test_what_cannot_be_meant_is_refused(data: recs.Interactions) -> None:
    with pytest.raises(NotFitted, match=r"build\(train\)"):
        _ = declared().model
    with pytest.raises(DataError, match="build: train must be Interactions, got int"):
        declared().build(3)
    with pytest.raises(DataError, match="epochs: train must be Interactions"):
        declared().epochs(data.to_table())
    with pytest.raises(SpecError, match="epochs: there is no argument 'schedule'"):
        declared().epochs(data, schedule=recs.Schedule(warmup=0.1))
    with pytest.raises(DataError, match="no batch 5; an epoch has 5"):
        declared().epochs(data).batch(0, 5)
    with pytest.raises(SpecError, match="batch_size"):
        declared().epochs(data, batch_size=0)
