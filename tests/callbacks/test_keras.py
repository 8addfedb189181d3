"""Callbacks of Keras 3 and of tf_keras in `fit`, on whichever backend is tested."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import SpecError
from recs_core.training import EpochStart
from tests.callbacks.runs import STEPS, Die, Does, die, model, stop

PLAN: dict[str, Any] = {"epochs": 3, "batch_size": 16, "progress": False}


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def callbacks(request: pytest.FixtureRequest) -> Any:
    if request.param == "keras":
        pytest.importorskip("keras")
        recs.backend("keras")  # chooses the engine before Keras is imported
    else:
        pytest.importorskip("tf_keras")
    return importlib.import_module(f"{request.param}.callbacks")


def sgd(rate: float = 0.5) -> recs.TwoTower:
    out = model()
    return recs.TwoTower(out.query, out.candidate, out.retrieval, recs.SGD(rate), seed=3)


def notes(base: type) -> Any:
    class Notes(base):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.events: list[str] = []
            self.logs: list[dict[str, float]] = []

        def on_train_begin(self, logs: Any = None) -> None:
            self.events.append(f"begin {self.params['epochs']}x{self.params['steps']}")

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.events.append(f"epoch {epoch}")

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            self.events.append(f"batch {batch}")

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.events.append(f"end of batch {batch}")
            self.logs.append(dict(logs))

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.events.append(f"end of epoch {epoch}")
            self.logs.append(dict(logs))

        def on_train_end(self, logs: Any = None) -> None:
            self.events.append("end")

    return Notes()


def test_it_is_called_in_the_order_of_keras(data: recs.Interactions, callbacks: Any) -> None:
    noted, fitted = notes(callbacks.Callback), model()
    fitted.fit(data, **{**PLAN, "epochs": 2}, callbacks=[noted])
    expected = ["begin 2x4"]
    for epoch in (0, 1):
        expected.append(f"epoch {epoch}")
        for batch in range(STEPS):
            expected += [f"batch {batch}", f"end of batch {batch}"]
        expected.append(f"end of epoch {epoch}")
    assert noted.events == [*expected, "end"]
    last = STEPS - 1
    assert noted.logs[last] == noted.logs[last + 1] == {"loss": fitted.history["loss"][0]}
    again = notes(callbacks.Callback)
    fitted.fit(data, **{**PLAN, "epochs": 1}, callbacks=[again])
    assert again.events[:2] == ["begin 3x4", "epoch 2"]


def test_a_logger_writes_losses_metrics_and_what_a_callback_before_it_added(
    data: recs.Interactions, callbacks: Any, tmp_path: Path
) -> None:
    train, test = data.split(by="random", test=0.2, seed=1)
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: 0.1 / (1 + epoch))
    logger = callbacks.CSVLogger(str(tmp_path / "log.csv"))
    history = sgd().fit(train, test, **PLAN, k=[3], callbacks=[schedule, logger])
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    rate = "learning_rate" if "learning_rate" in rows[0] else "lr"
    for name, written in (("loss", "loss"), ("recall@3", "val_recall@3"), ("learning_rate", rate)):
        np.testing.assert_allclose([float(row[written]) for row in rows], history[name], rtol=1e-6)
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]


def test_a_scheduler_sets_the_rate_of_the_next_steps(data: recs.Interactions, callbacks: Any) -> None:
    scheduled, by_hand = sgd(), sgd()
    schedule = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    history = scheduled.fit(data, **PLAN, callbacks=[schedule])
    assert history["learning_rate"] == [0.5, 0.25, 0.125]
    for rate in (0.5, 0.25, 0.125):
        by_hand.fit(data, **{**PLAN, "epochs": 1}, optimizer=recs.SGD(rate))
    for name, weight in by_hand.weights().items():
        np.testing.assert_array_equal(scheduled.weights()[name], weight)
    assert scheduled.optimizer == recs.SGD(0.5)
    assert scheduled.fit(data, **{**PLAN, "epochs": 1})["learning_rate"] == [0.5]  # a callback's rate is of its fit


def test_a_plateau_lowers_the_rate(data: recs.Interactions, callbacks: Any) -> None:
    plateau = callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=100)  # nothing improves by 100
    assert sgd().fit(data, **{**PLAN, "epochs": 4}, callbacks=[plateau])["learning_rate"] == [0.5, 0.5, 0.25, 0.125]


def test_early_stopping_stops_and_puts_the_best_weights_back(data: recs.Interactions, callbacks: Any) -> None:
    train, test = data.split(by="random", test=0.2, seed=1)
    rule = callbacks.EarlyStopping(
        "val_recall@3", mode="max", min_delta=2, patience=2, restore_best_weights=True
    )  # nothing improves by 2: the first epoch is the best
    stopped, first = model(), model()
    history = stopped.fit(train, test, **{**PLAN, "epochs": 9}, k=[3], callbacks=[rule])
    first.fit(train, **{**PLAN, "epochs": 1})
    assert len(history.epochs) == 3 and history.stopped == "callback"
    for name, weight in first.weights().items():
        np.testing.assert_array_equal(stopped.weights()[name], weight)


def test_tensorboard_gets_the_numbers_of_an_epoch(data: recs.Interactions, callbacks: Any, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")  # TensorFlow writes summaries by it
    tensorflow = pytest.importorskip("tensorflow")
    train, test = data.split(by="random", test=0.2, seed=1)
    board = callbacks.TensorBoard(log_dir=str(tmp_path))
    history = model().fit(train, test, **PLAN, k=[3], callbacks=[board])

    def written(part: str, tag: str) -> list[float]:
        found = []
        for file in (tmp_path / part).iterdir():
            for event in tensorflow.compat.v1.train.summary_iterator(str(file)):
                found += [tensorflow.make_ndarray(v.tensor) for v in event.summary.value if v.tag == tag]
        return [float(value) for value in found]

    np.testing.assert_allclose(written("train", "epoch_loss"), history["loss"], rtol=1e-6)
    np.testing.assert_allclose(written("validation", "epoch_recall@3"), history["recall@3"], rtol=1e-6)


def test_others_that_need_no_model_work_too(data: recs.Interactions, callbacks: Any) -> None:
    ends: list[int] = []
    kept = callbacks.History()
    called = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(epoch))
    history = model().fit(data, **PLAN, callbacks=[kept, called, callbacks.TerminateOnNaN()])
    assert kept.history == {"loss": history["loss"]} and kept.epoch == ends == [0, 1, 2]


# What is refused before training


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (
            lambda keras: keras.ModelCheckpoint("x.weights.h5"),
            {},
            r"Keras's ModelCheckpoint, .*; pass checkpoint='fold",
        ),
        (lambda keras: keras.BackupAndRestore("x"), {}, r"pass checkpoint='folder', and finish the run with recs\.Two"),
        (lambda keras: keras.EarlyStopping(), {}, "monitors 'val_loss', .* it computes loss; metrics need validation="),
        (lambda keras: keras.ReduceLROnPlateau("loss"), {"schedule": recs.Schedule()}, "and so does schedule="),
        (lambda keras: keras.LearningRateScheduler(len), {"schedule": recs.Schedule()}, "fit with schedule=None"),
        (lambda keras: keras.TensorBoard(histogram_freq=1), {}, "with histogram_freq looks into a Keras model"),
        (lambda keras: type("Tests", (keras.Callback,), {"on_test_end": print})(), {}, "has on_test_end, which fit"),
        (lambda keras: type("Saves", (keras.ModelCheckpoint,), {})("x.weights.h5"), {}, "Saves is of Keras's ModelCh"),
    ],
)
def test_what_does_not_carry_over_is_refused(
    data: recs.Interactions, callbacks: Any, make: Any, settings: dict[str, Any], said: str
) -> None:
    untouched = model()
    with pytest.raises(SpecError, match=rf"^callbacks\[0\]: .*{said}"):
        untouched.fit(data, **{**PLAN, **settings}, callbacks=[make(callbacks)])
    assert untouched.position.epoch == 0 and untouched.run is None


def test_a_metric_whose_rise_would_count_as_worse_is_refused(
    data: recs.Interactions, callbacks: Any, tmp_path: Path
) -> None:
    train, test = data.split(by="random", test=0.2, seed=1)
    for rule in (callbacks.EarlyStopping, callbacks.ReduceLROnPlateau):
        with pytest.raises(SpecError, match="a lower 'val_recall@3' for the better; pass mode='max'"):
            model().fit(train, test, **PLAN, k=[3], callbacks=[rule("val_recall@3")])
    best = callbacks.EarlyStopping("loss", restore_best_weights=True)
    with pytest.raises(SpecError, match=r"after the last checkpoint; pass early_stopping=recs\.EarlyStopping"):
        model().fit(train, **PLAN, checkpoint=tmp_path / "c", callbacks=[best])


# What goes wrong on the way


def test_a_failing_one_is_named_and_leaves_a_run_that_can_be_finished(data: recs.Interactions, callbacks: Any) -> None:
    class Predicts(callbacks.Callback):  # type: ignore[name-defined, misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.predict([1])

    rule = callbacks.EarlyStopping("loss", restore_best_weights=True)
    broken, unbroken = model(), model()
    with pytest.raises(AttributeError, match="a model with optimizer.learning_rate, .* it has no 'predict'") as caught:
        broken.fit(data, **PLAN, callbacks=[rule, Predicts()])
    assert any("Predicts.on_epoch_end, epoch 1" in note for note in caught.value.__notes__)
    broken.fit(data, progress=False)
    unbroken.fit(data, **PLAN)
    for name, weight in unbroken.weights().items():
        np.testing.assert_array_equal(broken.weights()[name], weight)


def test_a_rate_that_is_none_is_refused(data: recs.Interactions, callbacks: Any) -> None:
    for rate in (-1.0, float("nan")):
        with pytest.raises(SpecError, match="a learning rate is a number ≥ 0, a callback set"):
            model().fit(data, **PLAN, callbacks=[callbacks.LearningRateScheduler(lambda epoch, _, rate=rate: rate)])


def test_an_epoch_that_goes_on_begins_where_it_stands(data: recs.Interactions) -> None:
    starts: list[EpochStart] = []
    again = model()
    with pytest.raises(Die):
        again.fit(data, **PLAN, callbacks=[Does("on_step_end", die, at=STEPS + 2)])
    again.fit(data, progress=False, callbacks=[Does("on_epoch_start", starts.append, at=n) for n in (1, 2)])
    assert starts == [EpochStart(2, 2, STEPS), EpochStart(3, 0, STEPS)]
    before = model()
    before.fit(data, **PLAN, callbacks=[Does("on_epoch_start", stop, at=2)])
    assert before.position.epoch == 1 and len(before.history.losses) == STEPS
