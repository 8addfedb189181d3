"""A run that was cut off ends as one that was not, bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import BundleError, DataError, SpecError
from recs_core.reference.backend import OracleBackend
from recs_core.training import EarlyStopping
from tests.bundle.small import every_feature, fitted, interactions

PLAN = {"epochs": 5, "batch_size": 16, "schedule": recs.Schedule(warmup=0.2), "progress": False}


def model(seed=3):
    return every_feature(seed=seed, optimizer=recs.Adam(0.05, weight_decay=0.01, clip_norm=1.0))


def same(left, right):
    for ours, theirs in ((left.weights(), right.weights()), (left._trainer.state(), right._trainer.state())):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert left.history.losses == right.history.losses
    assert left.history["loss"] == right.history["loss"]
    assert left.history.stopped == right.history.stopped


def resumed(folder):
    return recs.TwoTower.resume(folder, backend=OracleBackend())


class Dies(Exception):
    """Stands for the power cut."""


class DiesAfter:
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, record):
        if record.epoch == self.epoch:
            raise Dies


class PressesCtrlC:
    """A trainer that is interrupted before its n-th step."""

    def __init__(self, trainer, step):
        self.trainer, self.left = trainer, step

    def step(self, batch, rate):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return self.trainer.step(batch, rate)

    def __getattr__(self, name):
        return getattr(self.trainer, name)


@pytest.fixture(scope="module")
def whole():
    out = model()
    out.fit(interactions(), **PLAN)
    return out


@pytest.mark.parametrize("epoch", [2, 3, 5])
def test_a_run_cut_off_ends_as_one_that_was_not(whole, tmp_path, epoch):
    with pytest.raises(Dies):
        model().fit(interactions(), **PLAN, checkpoint=tmp_path / "c", callbacks=[DiesAfter(epoch)])
    again = resumed(tmp_path / "c")
    assert again.position.epoch == min(epoch, 4)  # the checkpoint of an epoch, but for the last, precedes the callback
    again.fit(interactions(), progress=False)
    same(again, whole)


@pytest.mark.parametrize("step", [1, 3, 4, 9])
def test_ctrl_c_within_an_epoch(whole, tmp_path, step):
    """4 steps per epoch: the first, one in the middle, the last, and one two epochs later."""
    cut = model()
    cut.build(interactions())
    cut._trainer = PressesCtrlC(cut._with_trainer(None), step)
    history = cut.fit(interactions(), **PLAN, checkpoint=tmp_path / "c", checkpoint_every=100)
    assert history.stopped == "interrupted"
    again = resumed(tmp_path / "c")
    assert (again.position.epoch, again.position.step) == divmod(step, 4)
    again.fit(interactions(), progress=False)
    same(again, whole)
    cut.fit(interactions(), progress=False)  # and in the same process
    same(cut, whole)


def test_a_run_can_be_cut_off_twice(whole, tmp_path):
    with pytest.raises(Dies):
        model().fit(interactions(), **PLAN, checkpoint=tmp_path / "c", callbacks=[DiesAfter(2)])
    with pytest.raises(Dies):
        resumed(tmp_path / "c").fit(interactions(), progress=False, checkpoint=tmp_path / "c", callbacks=[DiesAfter(4)])
    again = resumed(tmp_path / "c")
    again.fit(interactions(), progress=False)
    same(again, whole)


@pytest.mark.parametrize("epoch", [2, 4, 6])
def test_early_stopping_goes_on_with_what_it_knew(tmp_path, epoch):
    """No later epoch counts as better than the first, so the best weights are older than the checkpoint."""
    rule = EarlyStopping("loss", patience=5, min_delta=10.0)
    plan = {**PLAN, "epochs": 9, "early_stopping": rule}
    straight = model()
    straight.fit(interactions(), **plan)
    assert straight.history.stopped == "early stopping"
    assert straight.history.best_epoch == 1
    with pytest.raises(Dies):
        model().fit(interactions(), **plan, checkpoint=tmp_path / "c", callbacks=[DiesAfter(epoch)])
    again = resumed(tmp_path / "c")
    again.fit(interactions(), progress=False)
    same(again, straight)
    assert again.history.best_epoch == 1


def test_the_last_checkpoint_of_a_finished_run_gives_the_finished_model(whole, tmp_path):
    model().fit(interactions(), **PLAN, checkpoint=tmp_path / "c", checkpoint_every=2)
    again = resumed(tmp_path / "c")
    assert again.fit(interactions(), progress=False).epochs == []
    same(again, whole)


def test_a_write_that_was_cut_off_leaves_the_checkpoint_before(whole, tmp_path, monkeypatch):
    from recs_core.storage import commit
    from tests.bundle.test_crash import Disk

    started = model()
    with pytest.raises(Dies):
        started.fit(interactions(), **PLAN, checkpoint=tmp_path / "c", callbacks=[DiesAfter(3)])
    with monkeypatch.context() as patch, pytest.raises(BundleError):
        patch.setattr(commit, "os", Disk(12, OSError(5, "gone"), dead=True))
        started.save(tmp_path / "c")
    again = resumed(tmp_path / "c")
    assert again.position.epoch == 3
    again.fit(interactions(), progress=False)
    same(again, whole)


def test_a_checkpoint_recommends_like_any_bundle(tmp_path):
    started = model()
    with pytest.raises(Dies):
        started.fit(interactions(), **PLAN, checkpoint=tmp_path / "c", callbacks=[DiesAfter(2)])
    assert recs.load(tmp_path / "c", runtime="numpy").recommend([100], k=3).ids.shape == (1, 3)


def test_what_does_not_belong_to_the_run_is_refused(tmp_path):
    with pytest.raises(Dies):
        model().fit(interactions(), **PLAN, checkpoint=tmp_path / "c", callbacks=[DiesAfter(2)])
    for options, error in (
        ({"batch_size": 8}, SpecError),
        ({"schedule": None}, SpecError),
        ({"early_stopping": EarlyStopping("loss")}, SpecError),
    ):
        with pytest.raises(error, match="in the middle of a run"):
            resumed(tmp_path / "c").fit(interactions(), progress=False, **options)
    with pytest.raises(DataError, match="other training data"):
        resumed(tmp_path / "c").fit(interactions(seed=1), progress=False)
    resumed(tmp_path / "c").fit(interactions(), batch_size=16, progress=False)  # what it says already is fine


def test_epochs_begin_another_run(tmp_path):
    with pytest.raises(Dies):
        model().fit(interactions(), **PLAN, checkpoint=tmp_path / "c", callbacks=[DiesAfter(3)])
    again = resumed(tmp_path / "c")
    again.fit(interactions(), epochs=1, batch_size=8, progress=False)
    assert again.position.epoch == 4


def test_without_optimizer_state_there_is_no_run_to_resume(tmp_path):
    path = fitted(model()).save(tmp_path / "b", include_state=False)
    with pytest.raises(BundleError, match="no run to finish"):
        resumed(path)


def test_a_checkpoint_ends_with_the_weights_that_early_stopping_chose(tmp_path):
    rule = EarlyStopping("loss", patience=2, min_delta=10.0)
    stopped = model()
    stopped.fit(interactions(), **{**PLAN, "epochs": 9}, early_stopping=rule, checkpoint=tmp_path / "c")
    loaded = recs.load(tmp_path / "c", runtime="numpy")
    for name, weight in stopped.weights().items():
        np.testing.assert_array_equal(loaded.weights()[name], weight)
    again = resumed(tmp_path / "c")
    assert again.fit(interactions(), progress=False).epochs == []
    same(again, stopped)


@pytest.mark.parametrize(("every", "saves"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (5, [5]), (100, [5])])
def test_a_run_is_saved_once_an_epoch(tmp_path, monkeypatch, every, saves):
    saved = []
    monkeypatch.setattr(recs.TwoTower, "save", lambda self, path: saved.append(self.position.epoch))
    model().fit(interactions(), **PLAN, checkpoint=tmp_path / "c", checkpoint_every=every)
    assert saved == saves


CHILD = """
    import sys
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from tests.bundle.test_resume import PLAN, interactions, model, resumed

    folder = Path({path!r})
    print("ready", flush=True)
    if (folder / "manifest.json").exists():
        resumed(folder).fit(interactions(), progress=False, checkpoint=folder)
    else:
        model().fit(interactions(), **PLAN, checkpoint=folder)
    resumed(folder).fit(interactions(), progress=False)
    print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_killed_again_and_again(whole, tmp_path, seed):
    """Each process is killed after a random time, later ones live longer; one gets to the end."""
    folder, moment = tmp_path / "c", np.random.default_rng(seed)
    code = textwrap.dedent(CHILD).format(root=str(Path(__file__).parents[2]), path=str(folder))
    for attempt in range(100):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout.readline() == "ready\n"
            try:
                child.wait(moment.uniform(0, 0.2 * (attempt + 1)))
            except subprocess.TimeoutExpired:
                os.kill(child.pid, signal.SIGKILL)
            if child.stdout.read() == "done\n":
                break
    again = resumed(folder)
    again.fit(interactions(), progress=False)
    same(again, whole)
