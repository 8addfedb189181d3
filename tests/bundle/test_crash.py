"""Whatever happens while saving, the old bundle is there or the new one."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import recs_core as recs
from recs_core import bundle
from recs_core.contract.errors import BundleError
from recs_core.reference.backend import OracleBackend
from recs_core.storage import commit, files
from tests.bundle.small import fitted, ids_only, interactions

WRITING = ("makedirs", "mkdir", "open", "write", "fsync", "replace", "rmdir", "unlink")


class Disk:
    """The `os` module as `recs_core.storage.commit` sees it, failing at the n-th call that writes."""

    def __init__(self, fails_at: int, failure: BaseException, *, dead: bool = False) -> None:
        self.fails_at, self.failure, self.dead = fails_at, failure, dead
        self.calls: list[tuple[str, str]] = []
        self.paths: dict[int, str] = {}

    def __getattr__(self, name):
        real = getattr(os, name)
        return self.counted(name, real) if name in WRITING else real

    def counted(self, name, real):
        def call(*args, **options):
            where = (
                self.paths.get(args[0], args[0]) if isinstance(args[0], int) else args[-1 if name == "replace" else 0]
            )
            self.calls.append((name, Path(where).name))
            number = len(self.calls)
            if number == self.fails_at or (self.dead and number > self.fails_at):
                raise self.failure
            result = real(*args, **options)
            if name == "open":
                self.paths[result] = str(args[0])
            return result

        return call


@pytest.fixture(scope="module")
def models():
    data = interactions(12, queries=2, candidates=3)
    return [fitted(ids_only(seed=seed), data) for seed in (1, 2)]


def which(path, models):
    """0 or 1: the model that the bundle holds, every part of it."""
    loaded = recs.load(path, backend=OracleBackend())
    for number, model in enumerate(models):
        held, state = model.weights(), model._trainer.state()
        if all((loaded.weights()[name] == held[name]).all() for name in held):
            assert all((loaded._trainer.state()[name] == state[name]).all() for name in state)
            return number
    raise AssertionError("neither the old model nor the new")


def saves_that_fail(model, path, monkeypatch, failure, dead=False):
    """Save again and again, failing at call 1, 2, 3 …, until it goes well; yields after each failure."""
    for number in range(1, 1000):
        disk, raised = Disk(number, failure, dead=dead), None
        with monkeypatch.context() as patch:
            patch.setattr(commit, "os", disk)
            try:
                model.save(path)
            except (BundleError, MemoryError) as error:
                raised = error
        if len(disk.calls) < number:
            return
        if raised is not None:  # some calls only tidy up, and may fail
            yield disk, raised


def committed(disk):
    return ("replace", "manifest.json") in disk.calls[: disk.fails_at - 1]


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.EIO, "Input/output error"), OSError(errno.ENOSPC, "No space left on device"), MemoryError()],
    ids=["EIO", "ENOSPC", "MemoryError"],
)
def test_the_nth_call_fails(failure, models, tmp_path, monkeypatch):
    path = models[0].save(tmp_path / "b")
    failures = 0
    for disk, error in saves_that_fail(models[1], path, monkeypatch, failure):
        failures += 1
        assert which(path, models) == committed(disk)
        if isinstance(failure, OSError):
            assert str(path) in str(error)
        if not committed(disk):
            assert bundle.info(path).leftovers == ()
        else:
            models[0].save(path)
    assert failures > 25
    assert which(path, models) == 1


def test_the_nth_call_of_a_first_save_fails(models, tmp_path, monkeypatch):
    for disk, _ in saves_that_fail(
        models[0], tmp_path / "new" / "b", monkeypatch, OSError(errno.EIO, "Input/output error")
    ):
        if committed(disk):
            recs.load(tmp_path / "new" / "b", runtime="numpy")
            break
        assert not (tmp_path / "new" / "b").exists()
    else:
        raise AssertionError("it never got as far as the commit")


def test_everything_stops_at_the_nth_call(models, tmp_path, monkeypatch):
    """As a power cut: nothing can be cleaned up either."""
    path = models[0].save(tmp_path / "b")
    for disk, _ in saves_that_fail(models[1], path, monkeypatch, OSError(errno.EIO, "gone"), dead=True):
        assert which(path, models) == committed(disk)
        if committed(disk):
            models[0].save(path)
    models[0].save(path)
    assert bundle.info(path).leftovers == ()


def test_data_reaches_the_disk_before_the_manifest_and_the_manifest_before_success(models, tmp_path, monkeypatch):
    path = models[0].save(tmp_path / "b")
    disk = Disk(0, OSError())
    monkeypatch.setattr(commit, "os", disk)
    models[1].save(path)
    at = disk.calls.index(("replace", "manifest.json"))
    before, after = disk.calls[:at], disk.calls[at + 1 :]
    for name in bundle.info(path).manifest["files"]:
        temporary = f"{name.split('-')[0]}.{name.split('.')[1]}.tmp"
        assert before.index(("fsync", temporary)) < before.index(("replace", name))
    assert before[-2:] == [("fsync", "manifest.json.tmp"), ("fsync", "b")]
    assert after[0] == ("fsync", "b")
    assert not [call for call in before if call[0] == "unlink"]


def test_of_two_writers_one_is_told(models, tmp_path):
    path = models[0].save(tmp_path / "b")
    with commit.committing(path), pytest.raises(BundleError, match="another process is saving into it"):
        models[1].save(path)
    assert which(path, models) == 0


def test_a_reader_keeps_what_it_mapped(models, tmp_path):
    path = models[0].save(tmp_path / "b")
    reader = recs.load(path, runtime="numpy")
    models[1].save(path)
    for name, weight in models[0].weights().items():
        np.testing.assert_array_equal(reader.weights()[name], weight)
    assert which(path, models) == 1


def test_a_reader_that_finds_its_files_replaced_reads_the_new_ones(models, tmp_path, monkeypatch):
    path = models[0].save(tmp_path / "b")
    from recs_core.bundle import parts

    def mapped(*args):
        monkeypatch.undo()
        models[1].save(path)
        return files.mapped(*args)

    monkeypatch.setattr(parts, "mapped", mapped)
    assert which(path, models) == 1


def test_what_was_loaded_can_be_saved_to_where_it_came_from(models, tmp_path):
    """Weights that are views of the old file are written out before it goes."""
    path = models[0].save(tmp_path / "b")
    loaded = recs.load(path, backend=OracleBackend())
    loaded.model.held = recs.load(path, runtime="numpy").weights()
    loaded.save(path)
    assert which(path, models) == 0


CHILD = """
    import sys
    sys.path.insert(0, {root!r})
    from tests.bundle.small import fitted, ids_only, interactions

    data = interactions(12, queries=2, candidates=3)
    models = [fitted(ids_only(seed=seed), data) for seed in (1, 2)]
    while True:
        for model in models:
            model.save({path!r})
            print("saved", flush=True)
"""


@pytest.mark.slow
def test_kill_during_save(models, tmp_path):
    """50 children that save two models in turn, each killed somewhere within a save of its own."""
    path = models[0].save(tmp_path / "b")
    code = textwrap.dedent(CHILD).format(root=str(Path(__file__).parents[2]), path=str(path))
    moment, seen = random.Random(7), set()
    for _ in range(50):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            for _ in range(moment.randint(1, 4)):
                start = time.perf_counter()
                assert child.stdout.readline() == "saved\n"
            time.sleep(moment.random() * min(0.5, time.perf_counter() - start))
            os.kill(child.pid, signal.SIGKILL)
        seen.add(which(path, models))
    assert seen == {0, 1}
    models[0].save(path)
    assert bundle.info(path).leftovers == ()
