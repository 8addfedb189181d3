"""Callbacks: what is called when, with what; what is refused, and what a callback cannot change."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.compare.watch import Watch
from recs_core.contract.errors import SpecError
from recs_core.training import EpochRecord, FitStart, StepRecord, TrainingHistory
from recs_core.training.callbacks import HOOKS, Callbacks
from tests.callbacks.runs import PLAN, STEPS, Does, Notes, model, resumed, same, stop

# What is called when


def test_the_order_of_events(data: recs.Interactions) -> None:
    events: list[str] = []
    model().fit(data, **{**PLAN, "epochs": 2}, callbacks=[Notes("a", events), Notes("b", events)])
    expected = ["start 0.0 until 2 of 4"]
    for epoch in (1, 2):
        expected += [*(f"step {epoch}.{step} of 4" for step in (1, 2, 3, 4)), f"epoch {epoch}"]
    expected.append("end finished 2")
    assert events == [f"{name} {event}" for event in expected for name in "ab"]
    assert len(events) == 2 * (1 + 2 * (4 + 1) + 1)


def test_a_later_fit_begins_where_the_first_ended(data: recs.Interactions) -> None:
    events: list[str] = []
    again = model()
    again.fit(data, **{**PLAN, "epochs": 2})
    again.fit(data, **{**PLAN, "epochs": 1}, callbacks=[Notes("a", events)])
    assert events[0] == "a start 2.0 until 3 of 4" and events[1] == "a step 3.1 of 4"
    assert events[-1] == "a end finished 1" and len(events) == 7


def test_each_hook_is_optional_and_an_object_needs_no_base_class(data: recs.Interactions) -> None:
    heard: dict[str, int] = dict.fromkeys(HOOKS, 0)

    def only(hook: str) -> Any:
        def method(self: Any, told: Any) -> None:
            heard[hook] += 1

        return type("Only", (), {hook: method})()

    model().fit(data, **PLAN, callbacks=[*map(only, HOOKS), recs.Callback()])
    assert heard == {
        "on_fit_start": 1,
        "on_epoch_start": 3,
        "on_step_end": 3 * STEPS,
        "on_epoch_end": 3,
        "on_fit_end": 1,
    }


def test_a_record_of_a_step_tells_that_step(data: recs.Interactions, whole: recs.TwoTower) -> None:
    steps: list[StepRecord] = []
    watched = model()
    watched.fit(data, **PLAN, callbacks=[Does("on_step_end", steps.append, at=each) for each in range(1, 13)])
    same(watched, whole)
    assert [step.loss for step in steps] == whole.history.losses
    assert [step.queries for step in steps] == [16, 16, 16, 12] * 3
    assert [step.learning_rate for step in steps[STEPS - 1 :: STEPS]] == whole.history["learning_rate"]
    assert [step.mean_loss for step in steps[STEPS - 1 :: STEPS]] == whole.history["loss"]
    assert [step.batch.query.size for step in steps] == [step.queries for step in steps]


def test_without_a_hook_for_steps_there_is_no_record_of_one() -> None:
    class Quiet(recs.Callback):
        def on_epoch_end(self, epoch: EpochRecord) -> None:
            """Nothing."""

    class Duck:
        def on_fit_end(self, history: TrainingHistory) -> None:
            """Nothing."""

    assert not Callbacks([recs.Callback(), Quiet(), Duck()], TrainingHistory()).want_steps
    assert Callbacks([Quiet(), Notes("a", [])], TrainingHistory()).want_steps


def test_the_model_answers_for_the_weights_of_the_step(data: recs.Interactions) -> None:
    asked, plain = model(), model()
    vectors: list[np.ndarray] = []
    look = [Does("on_step_end", lambda _: vectors.append(asked.encode_candidate().copy()), at=n) for n in (1, 2, 5)]
    asked.fit(data, **PLAN, callbacks=look)
    for n, found in zip((1, 2, 5), vectors, strict=True):
        plain = model()
        plain.fit(data, **PLAN, callbacks=[Does("on_step_end", stop, at=n)])
        assert len(plain.history.losses) == n
        np.testing.assert_array_equal(found, plain.encode_candidate())


def test_the_end_sees_the_model_and_the_checkpoint_that_are_left(data: recs.Interactions, tmp_path: Path) -> None:
    fitted = model()
    seen: dict[str, Any] = {}

    def look(history: TrainingHistory) -> None:
        seen.update(history=history, weights=fitted.weights(), bundle=recs.load(tmp_path / "c", runtime="numpy"))
        seen["open"] = json.loads((tmp_path / "c" / "manifest.json").read_text())["run"]["open"]

    rule = recs.EarlyStopping("loss", patience=2, min_delta=10.0)  # nothing improves: the first epoch is the best
    plan = {**PLAN, "epochs": 9, "early_stopping": rule, "checkpoint": tmp_path / "c"}
    returned = fitted.fit(data, **plan, callbacks=[Does("on_fit_end", look)])
    assert seen["history"] == returned and returned.stopped == "early stopping" and returned.best_epoch == 1
    assert seen["open"] is False
    for name, weight in fitted.weights().items():
        np.testing.assert_array_equal(seen["weights"][name], weight)
        np.testing.assert_array_equal(seen["bundle"].weights()[name], weight)


def test_an_epoch_ends_after_its_validation_and_its_checkpoint(data: recs.Interactions, tmp_path: Path) -> None:
    found: list[tuple[int, dict[str, float]]] = []

    def look(epoch: EpochRecord) -> None:
        found.append((resumed(tmp_path / "c").position.epoch, dict(epoch.metrics)))

    train, test = data.split(by="random", test=0.2, seed=1)
    callbacks = [Does("on_epoch_end", look, at=n) for n in (1, 2)]  # of the third the fit's end writes the checkpoint
    history = model().fit(train, test, **PLAN, k=[3], checkpoint=tmp_path / "c", callbacks=callbacks)
    assert found == [(1, history.epochs[0].metrics), (2, history.epochs[1].metrics)] and "recall@3" in found[0][1]


# Changing nothing by accident


def test_what_a_callback_is_given_can_be_kept_and_changed_without_changing_the_model(
    data: recs.Interactions, whole: recs.TwoTower
) -> None:
    class Meddles(recs.Callback):
        def on_fit_start(self, start: FitStart) -> None:
            with pytest.raises(dataclasses.FrozenInstanceError):
                start.epochs = 1  # type: ignore[misc]

        def on_step_end(self, step: StepRecord) -> None:
            with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
                step.loss = 0.0  # type: ignore[misc]
            batch = step.batch
            for array in (*batch.rows.values(), *batch.candidate.dense.values(), batch.task["target_query"]):
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0
            with pytest.raises(TypeError):
                batch.rows["table/x"] = np.zeros(1, np.int32)  # type: ignore[index]

        def on_epoch_end(self, epoch: EpochRecord) -> None:
            with pytest.raises(dataclasses.FrozenInstanceError):
                epoch.loss = 0.0  # type: ignore[misc]
            epoch.metrics["mine"] = 1.0  # type: ignore[index]

        def on_fit_end(self, history: TrainingHistory) -> None:
            history.epochs.clear()
            history.losses.clear()
            history.stopped = "whenever"

    meddled = model()
    history = meddled.fit(data, **PLAN, callbacks=[Meddles()])
    same(meddled, whole)
    assert history.stopped == "finished" and len(history.epochs) == 3
    assert all(record.metrics == {} for record in (*history.epochs, *meddled.history.epochs))


def test_a_callback_does_not_fit_the_model_that_is_being_fitted(data: recs.Interactions, whole: recs.TwoTower) -> None:
    busy = model()
    with pytest.raises(SpecError, match="this model is being fitted"):
        busy.fit(data, **PLAN, callbacks=[Does("on_epoch_end", lambda _: busy.fit(data))])
    busy.fit(data, progress=False)
    same(busy, whole)


# What is refused before training


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (
            {"on_epoch_end": lambda self, epoch, logs: None},
            r"on_epoch_end\(epoch, logs\) is called with one argument, an",
        ),
        ({"on_step_end": lambda self: None}, r"on_step_end\(\) is called with one argument, a StepRecord"),
        ({"on_epoch_end": lambda self, e: None, "on_epochs_end": lambda self, e: None}, "it calls on_epoch_end$"),
        (
            {"on_fit_end": lambda self, h: None, "on_train_begin": lambda self: None},
            "has on_train_begin, which fit does",
        ),
        ({"on_epoch": lambda self, e: None}, "has no on_epoch_end"),
        ({"on_epoch_end": 3}, "has no on_epoch_end"),
    ],
)
def test_a_callback_that_could_not_be_called_is_refused(
    data: recs.Interactions, methods: dict[str, Any], said: str
) -> None:
    untouched = model()
    with pytest.raises(SpecError, match=said) as caught:
        untouched.fit(data, **PLAN, callbacks=[type("Mine", (), methods)()])
    assert "\n" not in str(caught.value) and "callbacks[0]: Mine" in str(caught.value)
    assert untouched.position.epoch == 0 and untouched.run is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("batchsize", "there is batch_size$"),
        ("callback", "there is callbacks$"),
        ("step", "there is batch_by, batch_size"),
    ],
)
def test_an_argument_that_fit_does_not_know_is_refused(data: recs.Interactions, name: str, said: str) -> None:
    with pytest.raises(SpecError, match=f"fit: there is no argument '{name}'; .*{said}"):
        model().fit(data, **{name: 1})


# The comparison's


@pytest.mark.parametrize("at", [3, 8])
def test_a_watch_ends_training_after_the_steps_that_may_be_taken(data: recs.Interactions, at: int) -> None:
    watched, said = model(), []
    watch = Watch(watched, lambda stage, **facts: said.append((stage, facts)), also=at, stop_after=at)
    watched.fit(data, **PLAN, callbacks=[watch])
    assert watch.done == at == len(watched.history.losses)
    assert sorted(watch.digests) == sorted({0, 1, 2, 3, 5, at} - ({5} if at == 3 else set()))
    assert watch.digests[0].keys() == {"weights"} and watch.digests[at].keys() == {"weights", "batch"}
    assert [facts["epoch"] for stage, facts in said if stage == "epoch"] == list(range(1, at // STEPS + 1))
