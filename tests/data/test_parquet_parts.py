"""A table in several Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import recs_core as recs
from recs_core.cli.main import app
from recs_core.contract.errors import DataError

DAYS = {
    "2026-02.parquet": {"user": ["u", "v"], "item": ["b", "c"], "at": [3.0, 4.0]},
    "2026-01.parquet": {"user": ["u", "w"], "item": ["a", "a"], "at": [1.0, 2.0]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    events = tmp_path / "events"
    for name, rows in DAYS.items():
        written(events / name, rows)
    written(events / "_temporary.parquet", {"other": [1]})
    (events / ".2026-03.parquet.crc").write_text("not ours")
    return events


def written(path: Path, rows: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(rows), path)


def pairs(source: Any) -> list[tuple[str, str]]:
    data = recs.Interactions.from_table(source, query="user", candidate="item", timestamp="at")
    table = data.to_table()
    return list(zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True))


def test_a_folder_is_its_files_by_name(folder: Path) -> None:
    assert pairs(folder) == [("u", "a"), ("w", "a"), ("u", "b"), ("v", "c")]
    assert pairs(f"{folder}/") == pairs(folder)


def test_a_pattern_is_the_files_that_it_names(folder: Path) -> None:
    assert pairs(folder / "2026-*.parquet") == pairs(folder)
    assert pairs(str(folder / "*-02.parquet")) == [("u", "b"), ("v", "c")]


def test_a_file_may_have_the_signs_of_a_pattern_in_its_name(folder: Path) -> None:
    written(folder / "a[1].parquet", DAYS["2026-01.parquet"])
    assert pairs(folder / "a[1].parquet") == [("u", "a"), ("w", "a")]


def test_columns_may_come_in_another_order(folder: Path) -> None:
    written(folder / "2026-03.parquet", {"at": [5.0], "item": ["d"], "user": ["u"]})
    assert pairs(folder)[-1] == ("u", "d")


def test_the_shell_takes_them(folder: Path) -> None:
    told = CliRunner().invoke(
        app, ["data", "check", str(folder / "2026-*.parquet"), "--query", "user", "--candidate", "item"]
    )
    assert told.exit_code == 0, told.output
    assert "4" in told.output


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"user": ["u"], "item": ["a"]}, "2026-03.parquet: no column 'at', which .*2026-01.parquet has"),
        (
            {"user": ["u"], "item": ["a"], "at": [1.0], "more": [1]},
            "2026-01.parquet: no column 'more', which .*2026-03.parquet has",
        ),
        (
            {"user": [7], "item": ["a"], "at": [1.0]},
            "2026-03.parquet: column 'user' holds .*, in .*2026-01.parquet .*: write them alike",
        ),
    ],
)
def test_files_that_differ_are_refused(folder: Path, rows: Any, says: str) -> None:
    written(folder / "2026-03.parquet", rows)
    with pytest.raises(DataError, match=says):
        pairs(folder)


def test_one_that_is_damaged_is_named(folder: Path) -> None:
    (folder / "2026-03.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"2026-03.parquet: not a readable Parquet file"):
        pairs(folder)


def test_nothing_to_read_is_said(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: a folder that names no Parquet file .*, but nothing"):
        pairs(tmp_path / "empty")
    with pytest.raises(DataError, match="a pattern that names no Parquet file .*, but nothing"):
        pairs(folder / "2027-*.parquet")
    written(tmp_path / "texts" / "_only.parquet", {"x": [1]})
    with pytest.raises(DataError, match="but '_only.parquet'"):
        pairs(tmp_path / "texts")
