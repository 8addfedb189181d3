"""`recs compare`, end to end, among backends of known behaviour."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from recs_core.cli.main import main
from recs_core.compare.writing import prepare
from recs_core.contract.errors import ConfigError
from recs_core.experiment import DataSpec, Experiment, ModelSpec
from tests.compare.conftest import RECS


def test_backends_that_agree(good):
    assert good.code == 0, good.stderr
    assert good.report["agree"]
    assert good.report["headline"] == "right and rounding agree (P3)"
    assert good.pair("right", "oracle")["loss_difference"] == 0
    assert 0 < good.pair("rounding", "oracle")["loss_difference"] < 1e-5
    assert good.row("rounding")["reproducible"] == {
        "steps": 40, "losses_equal": True, "weights_equal": True, "bit_equal": True, "loss_difference": 0.0,
    }  # fmt: skip


def test_every_backend_starts_from_the_same_weights_and_sees_the_same_batches(good):
    for pair in good.report["pairs"]:
        assert [check["ok"] for check in pair["checks"] if check["what"] in ("initial weights", "batches")] == [
            True,
            True,
        ]


def test_one_percent_of_the_learning_rate_is_found_with_its_step(bad):
    pair = bad.pair("wrong", "oracle")
    assert not pair["agree"]
    assert pair["parting"]["step"] == 3
    assert not bad.pair("right", "wrong")["agree"]
    assert bad.pair("right", "oracle")["agree"]
    assert bad.report["headline"].startswith("wrong and oracle, right and wrong")


def test_failures_are_rows_that_say_why_and_stop_nobody(bad):
    assert bad.code == 1
    assert "ended by SIGKILL" in bad.row("dying")["problem"]
    assert "the loss is nan" in bad.row("nan")["problem"]
    assert "libzoo.so: cannot open shared object file" in bad.row("broken")["problem"]
    assert bad.row("right")["ok"]


def test_failed_processes_leave_their_log_and_the_others_none(bad):
    assert {path.name for path in (bad.out / "logs").iterdir()} == {
        f"{name}-measure.log" for name in ("dying", "nan", "broken")
    }


def test_what_no_seed_decides_is_not_called_reproducible(bad):
    again = bad.row("random")["reproducible"]
    assert not again["bit_equal"]
    assert bad.row("right")["reproducible"]["bit_equal"]


def test_float64_is_held_to_p1(recs_compare, tmp_path):
    done = recs_compare("--backends", "right,rounding", "--float64", "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "right and oracle agree (P1)" in done.stdout
    assert "rounding and oracle DIFFER (P1)" in done.stdout


def test_a_relu_tower_is_held_to_p5(good, recs_compare, tmp_path):
    run = good.report["run"]
    for side in ("query", "candidate"):
        run["model"][side]["final_activation"] = "relu"
    spec = tmp_path / "run.json"
    spec.write_text(json.dumps(run))
    done = recs_compare("--spec", spec, "--backends", "right,rounding", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["tier"]["name"] == "P5"
    assert "ReLU in the query and candidate tower" in report["tier"]["why"]


def test_a_file_with_one_query(recs_compare, tmp_path):
    data = tmp_path / "one.csv"
    data.write_text("who,what\n" + "".join(f"a,{item}\n" for item in range(6)))
    arguments = ("--dataset", data, "--query", "who", "--candidate", "what", "--split", "none", "--recipe", "ids")
    done = recs_compare(*arguments, "--epochs", 2, "--backends", "right", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "right and oracle agree" in done.stdout


def test_a_model_that_reads_context(recs_compare, tmp_path):
    """Nobody says what the request of the lists that are shown would be, so nothing is known of it."""
    data = tmp_path / "rows.csv"
    rows = [f"u{i % 4},i{i % 7},{'web' if i % 3 else 'ios'}" for i in range(40)]
    data.write_text("\n".join(["who,what,device", *rows]) + "\n")
    model = ModelSpec(recipe="features", context=("device",))
    spec = tmp_path / "run.json"
    spec.write_text(json.dumps(Experiment(DataSpec(str(data), query="who", candidate="what"), model).to_json()))
    done = recs_compare("--spec", spec, "--quick", "--backends", "right", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "right and oracle agree" in done.stdout


def test_the_ids_asked_for_are_shown(recs_compare, tmp_path):
    done = recs_compare("--backends", "right", "--show", "7, 2", "-k", 3, "--quick", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    shown = json.loads((tmp_path / "out" / "report.json").read_text())["recommendations"]
    assert [found["query"] for found in shown] == ["7", "2"]
    assert [len(found["lists"]["right"]) for found in shown] == [3, 3]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--backends", "rigth"), "did you mean 'right'?"),
        (("--backends", "right", "--show", "nobody"), "--show nobody: no such id"),
        (("--spec", "nowhere.json"), "nowhere.json: no such file"),
        (("--spec", "run.json", "--recipe", "ids"), "give either --spec"),
        (("--backends", "right", "--dataset", "nowhere.csv"), "--query and --candidate"),
        (("--backends", ","), "no backend to compare"),
    ],
)
def test_mistakes_are_one_line_and_code_2(zoo, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.syspath_prepend(zoo)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["compare", *arguments, "--out", "out"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_exists_is_not_written_into(tmp_path):
    with pytest.raises(ConfigError, match="--force"):
        prepare(tmp_path, force=False)
    prepare(tmp_path, force=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file, not a folder; name another place"):
        prepare(tmp_path / "file" / "out", force=False)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_children(environment, tmp_path, number):
    command = [*RECS, "--backends", "hanging", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    for line in process.stderr:
        if "training" in line:
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in said
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    import sys

    from recs_core import environment
    from recs_core.compare.figures import check_extra
    from recs_core.contract.errors import MissingExtra

    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install matplotlib.*recs-core\[compare\]"):
        check_extra()
