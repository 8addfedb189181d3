"""`recs train`: a run, its repetition from run.json, and one that was killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core
from recs_core import bundle
from recs_core.cli.main import main

TRAIN = ("train", "report", "--split", "random", "--test", "0.2")


def run(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())  # type: ignore[no-any-return]


def recs(*arguments: str) -> int:
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in arguments])
    return int(done.value.code or 0)


def weights(folder: Path) -> dict[str, Any]:
    return recs_core.load(folder / "bundle", runtime="numpy").weights()


def test_run_json_repeats_the_run_bit_for_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recs(*TRAIN, "--epochs", "3", "--out", tmp_path / "a") == 0
    assert "popularity" in capsys.readouterr().out
    assert recs("train", "--config", tmp_path / "a" / "run.json", "--out", tmp_path / "b") == 0
    assert run(tmp_path / "a")["losses"] == run(tmp_path / "b")["losses"]
    for name, value in weights(tmp_path / "a").items():
        assert np.array_equal(value, weights(tmp_path / "b")[name])


def test_the_card_states_metrics_with_intervals_and_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    out = tmp_path / "a"
    assert recs(*TRAIN, "--epochs", "2", "--out", out) == 0
    low, value, high = (bundle.info(out / "bundle").manifest["metrics"]["recall@10"][i] for i in (1, 0, 2))
    assert low < value < high
    assert value == run(out)["metrics"]["model"]["recall@10"]
    assert f"{low:.4f} … {high:.4f}" in (out / "bundle" / "README.md").read_text()
    before = run(out), weights(out)
    assert recs("train", "--resume", "--out", out) == 0
    assert run(out)["losses"] == before[0]["losses"]
    for name, array in weights(out).items():
        assert np.array_equal(array, before[1][name])


def test_a_killed_run_is_resumed_and_ends_as_one_that_was_not(tmp_path: Path) -> None:
    assert recs(*TRAIN, "--epochs", "40", "--out", tmp_path / "whole") == 0
    command = [sys.executable, "-m", "recs_core.cli.main", *TRAIN, "--epochs", "40", "--out", str(tmp_path / "cut")]
    code = "from recs_core.cli.main import main; main()"
    child = subprocess.Popen([sys.executable, "-c", code, *command[3:]], stdout=subprocess.DEVNULL)
    manifest = tmp_path / "cut" / "bundle" / "manifest.json"
    while not manifest.exists() and child.poll() is None:
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert "losses" not in run(tmp_path / "cut"), "the run had ended before it was killed"
    assert recs("train", "--resume", "--out", tmp_path / "cut") == 0
    for name, value in weights(tmp_path / "whole").items():
        assert np.array_equal(value, weights(tmp_path / "cut")[name]), name


def test_a_run_whose_first_save_was_cut_off_is_resumed_from_its_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recs(*TRAIN, "--epochs", "2", "--out", tmp_path / "whole") == 0
    assert recs(*TRAIN, "--epochs", "2", "--out", tmp_path / "cut") == 0
    (tmp_path / "cut" / "bundle" / "manifest.json").unlink()
    capsys.readouterr()
    assert recs("train", "--resume", "--out", tmp_path / "cut") == 0
    assert f"no epoch was saved in {tmp_path / 'cut'}: starting at the first" in capsys.readouterr().out
    for name, value in weights(tmp_path / "whole").items():
        assert np.array_equal(value, weights(tmp_path / "cut")[name]), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train",), "name the data"),
        (("train", "report", "--config", "x.json"), "give either data or --config"),
        (("train", "--config", "missing.json"), "missing.json: no such file; name what `recs train` wrote"),
        (("train", "nothing.csv"), "name its id columns with --query and --candidate"),
        (("train", "nothing.csv", "--query", "a", "--candidate", "b"), "nothing.csv"),
        (("train", "report", "--split", "sideways"), "--split is time, last, random or none"),
        (("train", "report", "--recipe", "nothing"), "no recipe is called 'nothing'; there are ids, history"),
        (("--backend", "nowhere", "train", "report"), "nowhere"),
        (("train", "report", "--resume"), "--resume takes everything from"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert recs(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("recs: ")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_exists_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert recs("train", "report", "--out", tmp_path) == 2
    assert "exists; choose another --out, or --force" in capsys.readouterr().err
