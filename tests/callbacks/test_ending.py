"""Callbacks that end a run: by stopping it, by failing, or by saving what another run goes on with."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

import recs_core as recs
from recs_core.contract.errors import TrainingError
from recs_core.training import StepRecord, TrainingHistory
from tests.callbacks.runs import PLAN, STEPS, Die, Does, Notes, die, model, resumed, same, stop

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


def test_another_run_begins_its_epoch_anew_where_batches_are_cut_otherwise(data: recs.Interactions) -> None:
    def stopped() -> recs.TwoTower:
        out = model()
        out.fit(data, **PLAN, callbacks=[Does("on_step_end", stop, at=6)])
        return out

    goes_on, anew = stopped(), stopped()
    assert len(goes_on.fit(data, **{**PLAN, "epochs": 1}).losses) == STEPS - 2
    assert len(anew.fit(data, **{**PLAN, "epochs": 1, "batch_size": 30}).losses) == 2
    assert goes_on.position.epoch == anew.position.epoch == 2


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
