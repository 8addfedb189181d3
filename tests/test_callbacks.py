"""Callbacks: what is called when, with what; what one can stop, and what it cannot break."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.compare.watch import Watch
from recs_core.contract.errors import SpecError, TrainingError
from recs_core.contract.protocols import BatchPlan
from recs_core.contract.training import TrainingSettings
from recs_core.training import EpochRecord, FitStart, StepRecord, TrainingHistory
from recs_core.training.callbacks import HOOKS, Callbacks
from tests.bundle.small import every_feature, interactions

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


@pytest.fixture(scope="module")
def data() -> recs.Interactions:
    return interactions()


@pytest.fixture(scope="module")
def whole(data: recs.Interactions) -> recs.TwoTower:
    out = model()
    out.fit(data, **PLAN)
    assert len(out.history.losses) == 3 * STEPS
    return out


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
    assert heard == {"on_fit_start": 1, "on_step_end": 3 * STEPS, "on_epoch_end": 3, "on_fit_end": 1}


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


# Stopping


@pytest.mark.parametrize(
    ("hook", "at", "losses", "epochs"),
    [
        ("on_fit_start", 1, 0, 0),
        ("on_step_end", 1, 1, 0),
        ("on_step_end", 6, 6, 1),
        ("on_step_end", 8, 8, 2),
        ("on_epoch_end", 2, 8, 2),
    ],
)
def test_stop_training_ends_in_good_order(
    data: recs.Interactions, tmp_path: Path, hook: str, at: int, losses: int, epochs: int
) -> None:
    events: list[str] = []
    stopped = model()
    history = stopped.fit(
        data, **PLAN, checkpoint=tmp_path / "c", callbacks=[Does(hook, stop, at), Notes("after", events)]
    )
    assert (history.stopped, len(history.losses), len(history.epochs)) == ("callback", losses, epochs)
    assert (
        sum(" step " in event for event in events) == losses and sum(" epoch " in event for event in events) == epochs
    )
    assert events[-1] == f"after end callback {epochs}"
    assert stopped.recommend([100], k=2).ids.shape == (1, 2)
    assert resumed(tmp_path / "c").fit(data, progress=False).losses == []  # a run that was stopped has ended


def test_stop_training_after_the_end_changes_nothing(data: recs.Interactions, whole: recs.TwoTower) -> None:
    ended = model()
    assert ended.fit(data, **PLAN, callbacks=[Does("on_fit_end", stop)]).stopped == "finished"
    same(ended, whole)


def test_what_stopped_training_first_is_named(data: recs.Interactions) -> None:
    rule = recs.EarlyStopping("loss", patience=1, min_delta=10.0)
    history = model().fit(data, **PLAN, early_stopping=rule, callbacks=[Does("on_epoch_end", stop, at=2)])
    assert history.stopped == "early stopping" and len(history.epochs) == 2


# Failing

MOMENTS = [("on_fit_start", 1), ("on_step_end", 1), ("on_step_end", 6), ("on_step_end", 8), ("on_step_end", 12),
           ("on_epoch_end", 1), ("on_epoch_end", 2), ("on_epoch_end", 3), ("on_fit_end", 1)]  # fmt: skip


@pytest.mark.parametrize(("hook", "at"), MOMENTS)
def test_a_failing_callback_is_named_and_the_run_can_be_finished(
    data: recs.Interactions, whole: recs.TwoTower, tmp_path: Path, hook: str, at: int
) -> None:
    events: list[str] = []
    failed = model()
    callbacks = [Does(hook, die, at), Notes("other", events)]
    with pytest.raises(Die, match="no disk") as caught:
        failed.fit(data, **PLAN, checkpoint=tmp_path / "c", callbacks=callbacks)
    (note,) = caught.value.__notes__
    assert note.startswith(f"raised by callback Does.{hook}") and note in traceback.format_exception(caught.value)[-1]
    assert ("epoch" in note) == (hook in ("on_step_end", "on_epoch_end"))
    assert failed.recommend([100], k=2).ids.shape == (1, 2)
    state = "finished" if hook == "on_fit_end" else "failed"
    assert failed.history.stopped == state
    if hook != "on_fit_start":
        assert events[-1] == f"other end {state} {len(failed.history.epochs)}"
    if (tmp_path / "c").exists():
        again = resumed(tmp_path / "c")
        assert again.position.epoch == {"on_step_end": (at - 1) // STEPS, "on_epoch_end": min(at, 2)}.get(hook, 3)
        again.fit(data, progress=False)
        same(again, whole)
    if hook != "on_fit_end":
        failed.fit(data, progress=False)  # and in the same process
    same(failed, whole)
    assert failed.history.stopped == "finished"


def test_a_note_says_the_place(data: recs.Interactions) -> None:
    for hook, at, said in (("on_step_end", 6, "Does.on_step_end, epoch 2, step 2"), ("on_epoch_end", 2, ", epoch 2")):
        with pytest.raises(Die) as caught:
            model().fit(data, **PLAN, callbacks=[Does(hook, die, at)])
        assert caught.value.__notes__[0].endswith(said)


def test_every_callback_that_was_started_hears_the_end(data: recs.Interactions) -> None:
    events: list[str] = []
    with pytest.raises(Die) as caught:
        model().fit(data, **PLAN, callbacks=[Notes("a", events), Does("on_fit_start", die), Notes("b", events)])
    assert events == ["a start 0.0 until 3 of 4", "a end failed 0"]

    class Worse(recs.Callback):
        def on_step_end(self, step: StepRecord) -> None:
            raise Die("first")

        def on_fit_end(self, history: TrainingHistory) -> None:
            raise ValueError("second")

    with pytest.raises(Die, match="first") as caught:
        model().fit(data, **PLAN, callbacks=[Worse(), Notes("c", events)])
    assert any("then ValueError: second" in note for note in caught.value.__notes__)
    assert events[-1] == "c end failed 0"


def test_a_step_that_fails_leaves_the_checkpoint_before(
    data: recs.Interactions, whole: recs.TwoTower, tmp_path: Path
) -> None:
    failed = model()

    def spoil(told: Any) -> None:
        failed._trainer.step = lambda batch, rate: float("nan")  # type: ignore[union-attr, method-assign]

    with pytest.raises(TrainingError, match="epoch 2, batch 3 of 4: the loss is nan"):
        failed.fit(data, **PLAN, checkpoint=tmp_path / "c", callbacks=[Does("on_step_end", spoil, at=6)])
    assert failed.history.losses == whole.history.losses[:6]
    again = resumed(tmp_path / "c")
    assert again.position.epoch == 1
    again.fit(data, progress=False)
    same(again, whole)


# Saving along the way


@pytest.mark.parametrize("at", [1, 4, 6, 12])
def test_what_a_callback_saves_after_a_step_ends_as_the_whole(
    data: recs.Interactions, whole: recs.TwoTower, tmp_path: Path, at: int
) -> None:
    saving = model()
    saving.fit(data, **PLAN, callbacks=[Does("on_step_end", lambda _: saving.save(tmp_path / "s"), at)])
    again = resumed(tmp_path / "s")
    assert len(again.history.losses) == at
    again.fit(data, progress=False)
    same(again, whole)


def test_what_is_saved_when_patience_ran_out_has_nothing_left_to_do(data: recs.Interactions, tmp_path: Path) -> None:
    rule = recs.EarlyStopping("loss", patience=1, min_delta=10.0)
    saving = model()
    save = Does("on_epoch_end", lambda _: saving.save(tmp_path / "s"), at=2)
    saving.fit(data, **PLAN, early_stopping=rule, callbacks=[save])
    again = resumed(tmp_path / "s")
    history = again.fit(data, progress=False)
    assert history.stopped == "early stopping" and history.losses == [] and again.history.best_epoch == 1
    same(again, saving)


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


# Settings


def test_settings_of_fit_are_the_fields_of_the_spec() -> None:
    assert list(TrainingSettings.__annotations__) == [field.name for field in dataclasses.fields(recs.TrainingSpec)]


def test_what_is_given_wins_and_none_is_a_value(data: recs.Interactions) -> None:
    declared = recs.TrainingSpec(epochs=1, batch_size=16, recency_days=1.0, schedule=recs.Schedule(), row_weight=0.5)
    fitted = every_feature(training=declared)
    fitted.fit(data, recency_days=None, schedule=None)
    assert fitted.run is not None
    assert fitted.run.settings == dataclasses.replace(declared, recency_days=None, schedule=None)
    for name in ("epochs", "batch_size", "drop_last"):
        with pytest.raises(SpecError, match="got None"):
            fitted.fit(data, **{name: None})  # type: ignore[arg-type]


def test_a_plan_of_batches_is_that_of_the_training() -> None:
    spec = recs.TrainingSpec(
        batch_size=3, batch_by="query", recency_days=2.0, row_weight=0.5, drop_last=True, schedule=recs.Schedule()
    )
    retrieval = recs.RetrievalSpec(temperature=0.3)
    assert BatchPlan.of(spec, retrieval) == BatchPlan(3, "query", retrieval, 0.5, 2.0, True)


def test_another_run_begins_its_epoch_anew_where_batches_are_cut_otherwise(data: recs.Interactions) -> None:
    def stopped() -> recs.TwoTower:
        out = model()
        out.fit(data, **PLAN, callbacks=[Does("on_step_end", stop, at=6)])
        return out

    goes_on, anew = stopped(), stopped()
    assert len(goes_on.fit(data, **{**PLAN, "epochs": 1}).losses) == STEPS - 2
    assert len(anew.fit(data, **{**PLAN, "epochs": 1, "batch_size": 30}).losses) == 2
    assert goes_on.position.epoch == anew.position.epoch == 2


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
