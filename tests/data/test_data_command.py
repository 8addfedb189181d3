"""How files are read, as said on the shell: `recs data check`, and a run that run.json repeats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recs_core.cli.main import main
from recs_core.contract.errors import ConfigError
from recs_core.experiment import DataSpec, Experiment, load_data

COLUMNS = ("--query", "user", "--candidate", "item", "--timestamp", "t")
START = 1_600_000_000_000  # 2020-09-13, in milliseconds


def recs(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as done:
        return int(done.code or 0)
    return 0


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Rows as a shop's database wrote them: Latin-1, `^` between fields, `-` for missing, milliseconds."""
    rows = [f"u{row % 7}^{row % 5}^{START + row * 86_400_000}^é" for row in range(60)]
    path = tmp_path / "export.csv"
    path.write_bytes("\n".join(["user^item^t^name", *rows, ""]).encode("latin-1"))
    return path


DIALECT = ("--encoding", "latin-1", "--delimiter", "^", "--null", "-", "--unit", "ms")


def test_check_names_what_to_type_one_after_another(export: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for option in ("--encoding latin-1", "--delimiter", "--unit ms"):
        assert recs("data", "check", export, *COLUMNS, *told) == 2
        message = capsys.readouterr().err
        assert option in message
        assert message.count("\n") == 1
        told += DIALECT[DIALECT.index(option.split()[0]) :][:2]
    assert recs("data", "check", export, *COLUMNS, *told) == 0
    assert "2020-09-13" in capsys.readouterr().out


def test_check_says_what_times_seem_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "days.csv"
    path.write_text("user,item,t\n" + "".join(f"u{row % 7},{row % 5},{18_518 + row}\n" for row in range(60)))
    assert recs("data", "check", path, *COLUMNS, "--json") == 0
    assert "seems to be days, from 2020-09-13" in json.loads(capsys.readouterr().out)["odd_times"]


def test_no_word_is_missing_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.csv"
    path.write_text("user,item\n" + "".join(f"{('NA', 'u')[row % 2]},{row % 5}\n" for row in range(20)))
    assert recs("data", "check", path, *COLUMNS[:4]) == 2
    assert "--null ''" in capsys.readouterr().err
    assert recs("data", "check", path, *COLUMNS[:4], "--null", "") == 0
    assert "2 user" in capsys.readouterr().out


def test_run_json_holds_how_the_file_is_read(export: Path, tmp_path: Path) -> None:
    run = Experiment(
        DataSpec(str(export), "user", "item", "t", unit="ms", encoding="latin-1", delimiter="^", null_values=("-",))
    )
    again = Experiment.from_json(json.loads(json.dumps(run.to_json())))
    assert again == run
    assert load_data(again.data).digest() == load_data(run.data).digest()
    assert Experiment.from_json(Experiment(DataSpec("x.csv", null_values=())).to_json()).data.null_values == ()


def test_train_writes_it_and_repeats_it(export: Path, tmp_path: Path) -> None:
    train = ("train", export, *COLUMNS, *DIALECT, "--split", "none", "--epochs", "1", "--out", tmp_path / "a")
    assert recs(*train) == 0
    assert recs("train", "--config", tmp_path / "a" / "run.json", "--out", tmp_path / "b") == 0
    first, second = (json.loads((tmp_path / name / "run.json").read_text()) for name in "ab")
    assert first["run"]["data"]["null_values"] == ["-"]
    assert first["losses"] == second["losses"]


@pytest.mark.parametrize("option", [{"unit": "ms"}, {"query": "user"}, {"null_values": ()}, {"lists": {"a": "|"}}])
def test_a_named_data_set_knows_how_it_is_read(option: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=rf"{next(iter(option))}.*'report' knows its own"):
        load_data(DataSpec("report", **option))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """One file for everything: rows, and beside them what belongs to the item of each."""
    items = {1: ("red lamp", "light | red"), 2: ("cup", ""), 3: ("vase", "red")}
    rows = [f"u{row % 7},{row % 3 + 1},{START // 1000 + row},{row}" for row in range(60)]
    lines = [f"{line},{','.join(items[row % 3 + 1])}" for row, line in enumerate(rows)]
    path = tmp_path / "shop.csv"
    path.write_text("\n".join(["user,item,t,quantity,title,tags", *lines, ""]))
    return path


OWN_COLUMNS = ("--candidates", "title, tags", "--list", "tags=|")


def test_lists_and_columns_of_the_file_itself_are_kept_in_run_json(shop: Path, tmp_path: Path) -> None:
    train = ("train", shop, *COLUMNS, *OWN_COLUMNS, "--split", "none", "--epochs", "1", "--recipe", "features")
    assert recs(*train, "--out", tmp_path / "a") == 0
    assert recs("train", "--config", tmp_path / "a" / "run.json", "--out", tmp_path / "b") == 0
    first, second = (json.loads((tmp_path / name / "run.json").read_text()) for name in "ab")
    assert first["run"]["data"]["lists"] == {"tags": "|"}
    assert first["run"]["data"]["candidates"] == ["title", "tags"]
    assert first["losses"] == second["losses"]
    items = load_data(Experiment.read(tmp_path / "a" / "run.json").data).candidates
    assert items["tags"].to_pylist() == [["light", "red"], [], ["red"]]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--candidates", "title,tag"), "candidates: {file} has no column 'tag'; it has 'user'"),
        (("--candidates", "{file}"), "column 'quantity': item 1 has 0 in one row and 3 in another"),
        (("--candidates", "items.csv"), "items.csv: no such file"),
        (("--list", "tags"), "--list is COLUMN=SIGN, as in --list 'categories=|', got 'tags'"),
        (("--list", "=|"), "--list is COLUMN=SIGN"),
        (("--list", "tag=|"), "lists: no CSV file given has a column 'tag'"),
    ],
)
def test_columns_and_lists_that_are_not_there(
    shop: Path, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recs("data", "check", shop, *COLUMNS, *(option.format(file=shop) for option in options)) == 2
    message = capsys.readouterr().err
    assert said.format(file=shop) in message and message.count("\n") == 1
