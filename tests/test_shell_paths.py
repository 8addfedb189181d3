"""Every command that takes a path to read or write, given what is no such path: one line of ours, and nothing made."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recs_core.cli.main import main

V1 = str(Path(__file__).parent / "bundle" / "kept" / "v1")
COLUMNS = ("--query", "user", "--candidate", "item")
THEIRS = (
    "Errno",
    "errno",
    "Failed to open",
    "No such file",
    "Not a directory",
    "Is a directory",
    "File exists",
    "codec",
)

OF_A_BUNDLE = [
    ("bundle", "info"),
    ("bundle", "verify"),
    ("bundle", "vectors", "--to", "x.parquet"),
    ("bundle", "diff", V1),
    ("index", "tune"),
    ("index", "build", "--index", "int8"),
    ("recommend", "--query", "100"),
    ("monitor", "--requests", "q.csv"),
    ("train", "--data", "rows.csv", "--out", "t", "--continue"),
]
OF_A_RUN = [("train", "--out", "t", "--config"), ("train", "--resume", "--out"), ("evaluate",), ("compare", "--spec")]
OF_A_TABLE = [
    ("data", "check", *COLUMNS),
    ("data", "check", "rows.csv", *COLUMNS, "--queries"),
    ("data", "ingest", "--to", "store", *COLUMNS),
    ("train", *COLUMNS, "--out", "t"),
    ("train", "--continue", V1, "--timestamp", "t", "--out", "t", "--data"),
    ("recommend", V1, "--out", "x.parquet", "--queries"),
    ("compare", *COLUMNS, "--dataset"),
]
OF_A_FILE = [
    ("monitor", V1, "--requests"),
    ("check", "exact", "--index", "--expected-failures"),
]
TO_A_FILE = [
    ("bundle", "vectors", V1, "--to"),
    ("recommend", V1, "--queries", "q.csv", "--out"),
    ("index", "tune", V1, "--queries", "2", "--index", "int8", "--plot"),
    ("check", "exact", "--index", "--json"),
]
TO_A_FOLDER = [
    ("data", "ingest", "rows.parquet", *COLUMNS, "--to"),
    ("train", "report", "--epochs", "1", "--force", "--out"),
    ("train", "--continue", V1, "--data", "rows.csv", "--timestamp", "t", "--force", "--out"),
    ("compare", "--force", "--out"),
    ("new-plugin", "mine", "--into"),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a file, an empty folder, rows, and queries."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"\xb5 no text")
    Path("folder").mkdir()
    Path("rows.csv").write_text("user,item,t\n100,a,1\n101,b,2\n")
    pq.write_table(pa.table({"user": [1], "item": ["a"]}), "rows.parquet")
    Path("q.csv").write_text("user\n100\n")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said, in one line, where a command makes nothing."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    out, said = capsys.readouterr()
    assert ended.value.code == 2, said
    assert not out and said.startswith("recs: ") and said.count("\n") == 1, said
    assert not [words for words in THEIRS if words in said], said
    assert sorted(Path().rglob("*")) == before
    return said


@pytest.mark.parametrize("command", OF_A_BUNDLE, ids=" ".join)
def test_a_bundle_that_is_none(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "missing: no such folder" in refused(capsys, *command, "missing")
    assert "file: is a file; a bundle is a folder" in refused(capsys, *command, "file")
    assert "folder is no bundle" in refused(capsys, *command, "folder")
    assert "file/below: no such folder" in refused(capsys, *command, "file/below")


@pytest.mark.parametrize("command", OF_A_RUN, ids=" ".join)
def test_a_run_that_is_none(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("missing", "file", "folder", "file/below"):
        assert "; name what `recs train` wrote" in refused(capsys, *command, wrong)


@pytest.mark.parametrize("command", OF_A_TABLE, ids=" ".join)
def test_a_table_that_is_none(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("missing.parquet", "./missing", "missing/x.parquet", "file/x.parquet"):
        assert f"{wrong.removeprefix('./')}: no such file" in refused(capsys, *command, wrong)
    csv = refused(capsys, *command, "missing.csv")
    assert "missing.csv: no such file" in csv or "ingest reads Parquet files" in csv
    assert "folder: " in refused(capsys, *command, "./folder")
    assert "file: " in refused(capsys, *command, "./file")


@pytest.mark.parametrize("command", OF_A_FILE, ids=" ".join)
def test_a_file_that_is_none(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert "missing: no such file" in refused(capsys, *command, "missing")
    assert "file/below: no such file" in refused(capsys, *command, "file/below")
    assert "folder: is a folder, not a file" in refused(capsys, *command, "folder")
    assert "file: " in refused(capsys, *command, "file")


@pytest.mark.parametrize("command", TO_A_FILE, ids=" ".join)
def test_a_file_that_cannot_be_written(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured or answered."""
    ending = ".svg" if "--plot" in command else ".json" if "--json" in command else ".parquet"
    Path(f"folder{ending}").mkdir()
    if "--queries" not in command or "--plot" in command:  # a job of answers makes its folder, as `train` does
        missing = refused(capsys, *command, f"missing folder/x{ending}")
        assert "its folder is not there; `mkdir -p 'missing folder'`" in missing
    assert "is a file, not a folder; name another place" in refused(capsys, *command, f"file/x{ending}")
    assert f"folder{ending}: is a folder; name the file of " in refused(capsys, *command, f"folder{ending}")
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(Path("folder").absolute()))  # root may all
    assert "nothing may be written in " in refused(capsys, *command, f"folder/x{ending}")


@pytest.mark.parametrize("command", TO_A_FOLDER, ids=" ".join)
def test_a_folder_that_cannot_be_written(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for wrong in ("file", "file/below"):
        assert "a file" in refused(capsys, *command, wrong) or "--into" in command
    if "--into" in command:
        assert "`mkdir -p missing`" in refused(capsys, *command, "missing")
        return
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(Path("folder").absolute()))
    assert "nothing may be written in " in refused(capsys, *command, "folder/below")


def test_a_column_of_lists_where_ids_are_due(capsys: pytest.CaptureFixture[str]) -> None:
    """Answers in place of rows: pyarrow has no words for it at all."""
    pq.write_table(pa.table({"user": [1], "item": [["a", "b"]]}), "answers.parquet")
    assert "answers.parquet" in refused(capsys, "data", "check", "answers.parquet", *COLUMNS)
