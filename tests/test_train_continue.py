"""`recs train --continue`: a bundle is extended by the rows that came since, trained on, and saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import recs_core
from recs_core.cli.main import main
from tests.bundle.small import every_feature, fitted
from tests.growth import days


def recs(*arguments: object) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code or 0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(every_feature(), days.first()).save(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The second day's rows in a Parquet file, the side tables beside it."""
    folder = tmp_path_factory.mktemp("new")
    data = days.second()
    pq.write_table(data.to_table(), folder / "new.parquet")
    pq.write_table(data.queries, folder / "users.parquet")
    pq.write_table(data.candidates, folder / "items.parquet")
    return folder


def options(new: Path) -> list[object]:
    sides = ["--queries", new / "users.parquet", "--candidates", new / "items.parquet"]
    return ["--data", new / "new.parquet", "--timestamp", "t", *sides]


def test_a_bundle_is_extended_trained_on_and_saved(
    bundle: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECS_BACKEND", "torch")
    pytest.importorskip("recs_core_torch")
    out = tmp_path / "out"
    assert recs("train", "--continue", bundle, *options(new), "--epochs", 2, "--replay", 0.3, "-o", out) == 0
    said = capsys.readouterr().out
    assert "joined: 3 queries and 3 candidates" in said and "30% of it drawn" in said
    model = recs_core.load(bundle, backend="torch")
    model.extend(days.second())
    model.fit(days.second(), epochs=2, replay=0.3, schedule=None, progress=False)
    saved = recs_core.load(out / "bundle", runtime="numpy")
    for name, array in model.weights().items():
        np.testing.assert_array_equal(saved.weights()[name], array)
    assert len(saved.schema.queries) == 10 and saved.catalog.counts.sum() == len(days.first()) + len(days.second())
    assert recs("train", "--continue", out / "bundle", *options(new), "-o", tmp_path / "again", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["candidates"], told["queries"]) == (12, 10) and len(told["losses"]) == told["epochs"]


def test_a_run_is_not_mixed_with_a_model_that_it_did_not_train(
    bundle: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`evaluate` would hold the model to the test part of the run, `--resume` go on with it."""
    (tmp_path / "run.json").write_text("{}")
    assert recs("train", "--continue", bundle, *options(new), "-o", tmp_path, "--force") == 2
    assert "run.json: tells of another training" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_bundle_tells_how_it_was_continued(bundle: Path, new: Path, tmp_path: Path) -> None:
    """In place of a run.json, which repeats one training from its data alone."""
    out = tmp_path / "out"
    assert recs("train", "--continue", bundle, *options(new), "-o", out) == 0
    assert [path.name for path in out.iterdir()] == ["bundle"]
    told = recs_core.bundle.info(out / "bundle").stated.provenance
    assert (told.data.rows, told.data.digest) == (len(days.second()), days.second().digest())
    assert told.command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--continue", "BUNDLE"], "name the file of the rows that came since with --data FILE"),
        (["--data", "new.parquet"], "--data and --replay are for --continue BUNDLE"),
        (["online-retail", "--continue", "BUNDLE", "--data", "x.parquet"], "leave data out"),
        (["--continue", "BUNDLE", "--data", "x.parquet", "--recipe", "ids"], "leave --recipe out"),
        (["--continue", "BUNDLE", "--data", "NEW"], "name the column with --timestamp"),
        (["--continue", "BUNDLE", "--data", "x.parquet", "--timestamp", "t"], "x.parquet: no such file"),
        (["--continue", "BUNDLE", "--data", "x.parquet"], "x.parquet: no such file"),
        (["--continue", "nowhere", "--data", "x.parquet"], "nowhere"),
    ],
)
def test_what_cannot_be_continued_is_said(
    bundle: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    named = {"BUNDLE": str(bundle), "NEW": str(new)}
    given = [named.get(each, each) for each in arguments]
    assert recs("train", *given, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
