"""A store is opened whole, or refused by the file that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.cli.main import main
from recs_core.contract.errors import BundleError, DataError
from recs_core.data.interactions import Interactions
from recs_core.storage import files
from recs_core.storage.tensors import DTYPES
from recs_core.store.layout import COLUMNS, Names, write
from recs_core.tables import memory

NUMBERS = {"query": [0, 0, 1], "candidate": [1, 0, 1], "time": [5.0, 6.0, 2.0], "weight": [1.0, 0.0, 2.0]}


def stored(folder: Path, **changed: list[float]) -> Path:
    """A store of three rows, written as another engine would write it."""
    rows = {}
    for name, values in {**NUMBERS, **changed}.items():
        rows[name] = folder.parent / f"{name}.numbers"
        rows[name].write_bytes(np.array(values, DTYPES[COLUMNS[name]]).tobytes())
    queries, candidates = pa.table({"user": ["ann", "bob"]}), pa.table({"item": [7, 9], "price": [1.5, None]})
    write(folder, Names("user", "item", "ts", "worth"), rows, 3, queries, candidates, None)
    return folder


def test_what_is_written_is_read_as_a_map(tmp_path: Path) -> None:
    data = recs.check_store(stored(tmp_path / "store"))
    assert data.to_table().to_pydict() == {
        "user": ["ann", "ann", "bob"],
        "item": [9, 7, 9],
        "ts": [5.0, 6.0, 2.0],
        "worth": [1.0, 0.0, 2.0],
    }
    assert data.candidates["price"].to_pylist() == [1.5, None]
    assert data.in_order
    assert not data.query_codes.flags.writeable
    assert not data.query_codes.flags.owndata


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": [0, 1, 0]}, "row 2: comes before the row above it by query and time"),
        ({"time": [6.0, 5.0, 2.0]}, "row 1: comes before the row above it by query and time"),
        ({"query": [0, 0, 2]}, "row 2: query is no code of 2 ids"),
        ({"candidate": [0, -1, 1]}, "row 1: candidate is no code of 2 ids"),
        ({"time": [float("nan"), 6.0, 2.0]}, "row 0: time is no number"),
        ({"weight": [1.0, -1.0, 2.0]}, "row 1: weight is not ≥ 0"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, changed: dict[str, list[float]], message: str) -> None:
    folder = stored(tmp_path / "store", **changed)
    with pytest.raises(DataError, match=message):
        recs.check_store(folder)


@pytest.mark.parametrize("part", ["rows", "queries", "candidates"])
@pytest.mark.parametrize("fault", ["changed", "cut", "gone"])
def test_a_damaged_file_is_named(tmp_path: Path, part: str, fault: str) -> None:
    folder = stored(tmp_path / "store")
    (file,) = folder.glob(f"{part}-*")
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.unlink()
    if fault != "gone":
        file.write_bytes(content if fault == "changed" else content[:-8])
    with pytest.raises(BundleError, match=file.name):
        recs.open_store(folder)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder; recs data ingest"):
        recs.open_store(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is no store"):
        recs.open_store(tmp_path)
    folder = stored(tmp_path / "store")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"rows": 3', '"rows": 4'))
    with pytest.raises(BundleError, match="is damaged, its digest does not fit"):
        recs.open_store(folder)
    newer = json.loads(manifest.read_text()) | {"version": 99}
    manifest.write_text(json.dumps(newer))
    with pytest.raises(BundleError, match="is of format version 99"):
        recs.open_store(folder)


def test_rows_taken_by_a_mask_stay_in_order(tmp_path: Path) -> None:
    data: Interactions = recs.open_store(stored(tmp_path / "store"))
    assert data.take(np.array([True, False, True])).in_order
    assert not data.take([2, 0]).in_order
    train, _ = data.split(by="time", at=5.5)
    assert all(memory.is_mapped(part) for part in (train.query_codes, train.candidate_codes, train.timestamps))


@pytest.mark.parametrize("rows", [
    lambda n: np.arange(n) % 3 == 0,
    lambda n: np.arange(n)[::-2],
    lambda n: np.zeros(n, bool),
])  # fmt: skip
def test_rows_that_are_taken_stay_on_disk(tmp_path: Path, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "BLOCK", 7)
    array = np.arange(100, dtype=np.float64)
    array.tofile(tmp_path / "a")
    found = memory.taken(np.memmap(tmp_path / "a", np.float64, "r"), rows(100))
    np.testing.assert_array_equal(found, array[rows(100)])
    assert memory.is_mapped(found) and not memory.is_mapped(memory.taken(array, rows(100)))
    assert type(found) is np.ndarray or not len(found)
    with pytest.raises(ValueError, match="read-only"):
        found[:] = 0


def test_data_check_reads_a_store_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And looks at every row of it."""
    folder, read, digest = stored(tmp_path / "store"), [], files.check_digest
    monkeypatch.setattr(files, "check_digest", lambda path, *more: (read.append(path.name), digest(path, *more)))
    command = ["data", "check", "--split", "none"]
    with pytest.raises(SystemExit) as ended:
        main([*command, str(folder)])
    assert not ended.value.code, capsys.readouterr().err
    assert len(read) >= 3 and len(read) == len(set(read))
    with pytest.raises(SystemExit) as ended:
        main([*command, str(stored(tmp_path / "other", time=[6.0, 5.0, 2.0]))])
    assert ended.value.code == 2
    assert "comes before the row above it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("manifest", "said"),
    [('{"kind": "sto', "is not valid JSON"), ('{"kind": "another", "version": 1}', "store/manifest.json: ")],
    ids=["cut off", "of another kind"],
)
@pytest.mark.parametrize("command", [["data", "check"], ["train"]], ids=" ".join)
def test_a_damaged_manifest_is_what_the_shell_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], manifest: str, said: str
) -> None:
    """And no advice on columns of a file."""
    folder = stored(tmp_path / "store")
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(SystemExit) as ended:
        main([*command, str(folder)])
    error = capsys.readouterr().err
    assert ended.value.code and said in error and "--query" not in error
