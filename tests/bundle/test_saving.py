"""What `save` is told is checked before anything is written; a card that cannot be written loses nothing else."""

from __future__ import annotations

import json
import logging
import shutil
import sys

import numpy as np
import pytest

import recs_core as recs
from recs_core import bundle
from recs_core.contract.errors import BundleError, NotFitted
from recs_core.storage import commit, files
from tests.bundle.small import fitted, ids_only


@pytest.fixture(scope="module")
def model():
    return fitted(ids_only())


NUMBERS = [(0.5, 0.5), (np.float32(0.5), 0.5), (np.float64(0.5), 0.5), (np.int64(3), 3.0), (1, 1.0),
           (np.array(0.5), 0.5), ((0.5, np.float32(0.25), 1), [0.5, 0.25, 1.0]), ([0.5, 0.25, 1.0], [0.5, 0.25, 1.0]),
           (np.array([0.5, 0.25, 1.0], np.float32), [0.5, 0.25, 1.0])]  # fmt: skip


@pytest.mark.parametrize(("value", "stored"), NUMBERS, ids=repr)
def test_numbers_of_any_library(model, tmp_path, value, stored):
    path = model.save(tmp_path / "b", metrics={"recall@10": value})
    assert recs.verify(path).manifest["metrics"] == {"recall@10": stored}
    bundle.describe(path, metrics={"mrr": value})
    assert recs.verify(path).manifest["metrics"] == {"mrr": stored}


WRONG = [float("nan"), float("inf"), np.float32("nan"), None, "0.5", True, np.True_, 10**400, 1j, (0.5, 0.4),
         (0.5, "x", 1), (0.1, float("nan"), 0.3), [], {}, np.zeros(2), np.zeros((1, 3)), object()]  # fmt: skip


@pytest.mark.parametrize("value", WRONG, ids=lambda value: repr(value)[:20])
def test_what_is_no_metric(model, tmp_path, value):
    with pytest.raises(BundleError, match="^save: .*'recall@10'") as caught:
        model.save(tmp_path / "deep" / "b", metrics={"mrr": 0.5, "recall@10": value})
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [{"metrics": [("mrr", 1.0)]}, {"metrics": 0.5}, {"metrics": {3: 0.5}}, {"licence": 4}, {"licence": b"MIT"}],
    ids=repr,
)
def test_arguments_of_other_types(model, tmp_path, options):
    with pytest.raises(BundleError, match="^save: (metrics are|licence is)"):
        model.save(tmp_path / "b", **options)
    assert list(tmp_path.iterdir()) == []
    path = model.save(tmp_path / "b")
    before = (path / "manifest.json").read_bytes()
    with pytest.raises(BundleError, match="^describe: (metrics are|licence is)"):
        bundle.describe(path, **options)
    assert (path / "manifest.json").read_bytes() == before


def test_text_that_is_not_unicode(model, tmp_path, monkeypatch):
    with pytest.raises(BundleError, match="cannot hold what it should say"):
        model.save(tmp_path / "b", licence="\udcff")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sys, "argv", ["program", "\udcff"])
    recs.verify(model.save(tmp_path / "b"))


def test_an_unfitted_model_makes_no_folder(tmp_path):
    with pytest.raises(NotFitted):
        ids_only().save(tmp_path / "deep" / "b")
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_manifest_holds_is_refused_and_the_old_bundle_stands(model, tmp_path, monkeypatch):
    path = model.save(tmp_path / "b")
    before = sorted(path.iterdir())
    with pytest.raises(BundleError, match="would be .* bytes long, the most that is read is"):
        model.save(path, licence="x" * (17 << 20))
    assert sorted(path.iterdir()) == before
    recs.verify(path)


@pytest.mark.parametrize("obstacle", ["README.md", "README.md.tmp"])
def test_a_card_that_cannot_be_written_is_a_warning(model, tmp_path, caplog, obstacle):
    path = model.save(tmp_path / "b")
    (path / "README.md").unlink()
    (path / obstacle).mkdir()
    caplog.set_level(logging.WARNING, "recs_core")
    model.save(path, metrics={"mrr": 0.25})
    assert "the bundle is saved and whole, only its card is missing" in caplog.text
    found = recs.verify(path)
    assert found.manifest["metrics"] == {"mrr": 0.25}
    assert found.card_changed
    (path / obstacle).rmdir()
    assert not bundle.info(model.save(path)).card_changed


def test_a_full_disk_at_the_card(model, tmp_path, caplog, monkeypatch):
    path = model.save(tmp_path / "b")
    real = commit._write

    def full(place, pieces):
        if place.name.startswith(files.CARD):
            raise BundleError(f"{place}: cannot be written, No space left on device")
        return real(place, pieces)

    monkeypatch.setattr(commit, "_write", full)
    model.save(path, licence="CC0")
    assert "No space left on device; the bundle is saved and whole" in caplog.text
    assert recs.verify(path).manifest["licence"] == "CC0"


def test_describe_refuses_a_bundle_that_cannot_be_read(model, tmp_path):
    path = model.save(tmp_path / "b")
    fields = json.loads((path / "manifest.json").read_bytes())
    shutil.copytree(path, tmp_path / "c")
    (tmp_path / "c" / "manifest.json").write_text(json.dumps({**fields, "history": 3}))
    with pytest.raises(BundleError, match="damaged"):
        bundle.describe(tmp_path / "c", licence="CC0")
