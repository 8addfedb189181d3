"""A store holds what reading the same files into memory would, and refuses what that refuses, by file and row."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recs_core as recs
from recs_core.contract.errors import BundleError, DataError, MissingExtra
from recs_core.data.interactions import Interactions
from recs_core.store import duck

pytest.importorskip("duckdb", reason='needs duckdb: pip install "recs-core[ingest]"')

NAMES = {"query": "user", "candidate": "item", "timestamp": "ts"}


def written(folder: Path, *tables: pa.Table) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=3)
    return folder


def table(users: Any, items: Any, times: Any, **others: Any) -> pa.Table:
    return pa.table({"user": users, "item": items, "ts": times, **others})


@pytest.fixture
def events(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    parts = [
        table(
            [f"u{code}" for code in random.zipf(1.4, 200) % 30],
            random.integers(0, 25, 200),
            pa.array(random.integers(1.5e15, 1.5e15 + 50, 200), pa.timestamp("us", "UTC")),
            device=[("ios", "web", None)[code] for code in random.integers(0, 3, 200)],
            worth=random.random(200),
            left_out=random.random(200),
        )
        for _ in range(3)
    ]
    return written(tmp_path / "events", *parts)


def assert_holds(store: Interactions, memory: Interactions) -> None:
    """The same ids, side tables and rows, the rows sorted by query, then time, then as they came."""
    assert store.query_ids == memory.query_ids
    assert store.candidate_ids == memory.candidate_ids
    assert store.queries.equals(memory.queries)
    assert store.candidates.equals(memory.candidates)
    keys = [memory.query_codes] if memory.timestamps is None else [memory.timestamps, memory.query_codes]
    order = np.lexsort(keys)
    for name in ("query_codes", "candidate_codes", "timestamps", "weights"):
        held, due = getattr(store, name), getattr(memory, name)
        assert (held is None) == (due is None), name
        if due is not None:
            np.testing.assert_array_equal(held, due[order], name)
    for name in store.extra.column_names:
        assert store.extra[name].to_pylist() == memory.extra[name].take(pa.array(order)).to_pylist()


@pytest.mark.parametrize("least", [0, 1, 6])
def test_a_store_holds_what_memory_would(events: Path, tmp_path: Path, least: int) -> None:
    items = pa.table({"item": list(range(40)), "price": [float(code) for code in range(40)]})
    users = tmp_path / "users.parquet"
    pq.write_table(pa.table({"user": ["u1", "u2", "late"], "country": ["UK", None, "FR"]}), users)
    given = {**NAMES, "weight": "worth", "queries": users, "candidates": items}
    cut = {"min_per_query": least, "min_per_candidate": least}
    store = recs.ingest(events, to=tmp_path / "store", **given, **cut, context=["device"], memory="200MB")
    memory = Interactions.from_table(events, **given).filter(**cut)
    assert_holds(store, memory)
    assert store.extra.column_names == ["device"]
    assert_holds(recs.open_store(tmp_path / "store"), memory)
    assert_holds(recs.check_store(tmp_path / "store"), memory)
    assert sorted(os.listdir(tmp_path)) == ["events", "store", "users.parquet"]


IDS = st.one_of(
    st.lists(st.sampled_from(["a", "B", "é", "", "a'b", "12"]), min_size=1, max_size=12),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3), min_size=1, max_size=12),
)


@settings(deadline=None, max_examples=25)
@given(st.data(), IDS, st.sampled_from(["s", "ms", None, "date"]), st.integers(0, 3), st.integers(0, 3))
def test_any_rows(
    tmp_path_factory: pytest.TempPathFactory,
    draw: Any,
    users: list[Any],
    unit: str | None,
    min_per_query: int,
    min_per_candidate: int,
) -> None:
    size = len(users)
    items = draw.draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    offsets = draw.draw(st.lists(st.integers(0, 4), min_size=size, max_size=size))
    times: Any = [1_500_000_000 + offset for offset in offsets]
    if unit == "ms":
        times = [1000 * time + 1 for time in times]
    if unit == "date":
        times = [datetime.date(2020, 1, 1 + offset) for offset in offsets]
    folder = tmp_path_factory.mktemp("any")
    cut = draw.draw(st.integers(0, size))
    whole = table(users, items, times)
    written(folder / "events", *[part for part in (whole.slice(0, cut), whole.slice(cut)) if len(part)])
    given = {**NAMES, "unit": unit if unit in ("s", "ms") else None}
    least = {"min_per_query": min_per_query, "min_per_candidate": min_per_candidate}
    try:
        memory = Interactions.from_table(folder / "events", **given).filter(**least)
    except DataError:
        with pytest.raises(DataError):
            recs.ingest(folder / "events", to=folder / "store", **given, **least, memory="100MB")
        return
    assert_holds(recs.ingest(folder / "events", to=folder / "store", **given, **least, memory="100MB"), memory)


def test_without_times_rows_stay_as_they_came(tmp_path: Path) -> None:
    folder = written(tmp_path / "events", table(["b", "a", "b"], [2, 1, 1], [3, 2, 1]))
    store = recs.ingest(folder, to=tmp_path / "store", query="user", candidate="item")
    assert store.query_codes.tolist() == [0, 0, 1]
    assert store.candidate_codes.tolist() == [0, 1, 1]
    assert store.timestamps is None


def test_a_new_store_takes_an_old_one_s_place(events: Path, tmp_path: Path) -> None:
    first = recs.ingest(events, to=tmp_path / "store", **NAMES)
    again = recs.ingest(events, to=tmp_path / "store", **NAMES, min_per_query=5, min_per_candidate=5)
    assert len(again) < len(first)
    assert len(recs.open_store(tmp_path / "store")) == len(again)
    assert len([name for name in os.listdir(tmp_path / "store") if name.startswith("rows-")]) == 1


BAD = [
    ({"user": ["a", None]}, {}, r"1\.parquet, column 'user': null id in row 1"),
    ({"item": [None, 2]}, {}, r"1\.parquet, column 'item': null id in row 0"),
    ({"ts": [1, None]}, {}, r"1\.parquet, column 'ts': no timestamp in row 1"),
    ({"ts": [1, 10**12]}, {}, r"1\.parquet, column 'ts': 1000000000000.0 is no time from 1900 to 2199 in row 1"),
    ({"ts": [1.0, float("nan")]}, {}, r"column 'ts' holds double, in .*0\.parquet int64"),
    ({"w": [-1.0, 1.0]}, {"weight": "w"}, r"1\.parquet, column 'w': -1.0 is a weight that is not 0 or from"),
    ({"w": [1.0, float("inf")]}, {"weight": "w"}, r"1\.parquet, column 'w': inf is a weight that is not 0"),
    ({}, {"query": "nobody"}, r"0\.parquet: no column 'nobody'; it has 'user', 'item', 'ts', 'w', 'what'"),
    ({}, {"query": "what"}, r"0\.parquet, column 'what': ids must be strings or integers"),
    ({}, {"timestamp": "user"}, r"0\.parquet, column 'user': ingest takes times as numbers, dates or timestamps"),
    ({}, {"weight": "user"}, r"0\.parquet, column 'user': weights are numbers"),
    ({}, {"timestamp": "item", "context": ["item"]}, "each column has one role"),
    ({}, {"context": ["nothing"]}, "no column 'nothing'"),
    ({}, {"unit": "days"}, "unit is 's', 'ms', 'us' or 'ns', got 'days'"),
    ({}, {"memory": "much"}, "memory is a size such as '4GB', got 'much'"),
    ({}, {"queries": ["what"]}, "queries is a table or a file of its own"),
    ({}, {"min_per_query": 3}, "no row is left with min_per_query=3, min_per_candidate=0"),
]


@pytest.mark.parametrize(("columns", "options", "message"), BAD)
def test_what_is_bad_is_named_and_leaves_nothing(tmp_path: Path, columns: Any, options: Any, message: str) -> None:
    good = {"user": ["a", "b"], "item": [1, 2], "ts": [1, 2], "w": [1.0, 2.0], "what": [[1], [2]]}
    folder = written(tmp_path / "events", pa.table(good), pa.table(good | columns))
    with pytest.raises(DataError, match=message) as raised:
        recs.ingest(folder, to=tmp_path / "store", **{**NAMES, **options})
    assert "\n" not in str(raised.value)
    assert os.listdir(tmp_path) == ["events"]


def test_what_is_no_store_is_not_overwritten(events: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match=r"mine: is no store and holds 'thesis\.txt'"):
        recs.ingest(events, to=tmp_path / "mine", **NAMES)
    with pytest.raises(BundleError, match="is a file; a store is a folder"):
        recs.ingest(events, to=tmp_path / "mine" / "thesis.txt", **NAMES)


def test_a_full_disk_is_said_before(events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(DataError, match="600 rows may take 0.1 MB of disk while they are sorted, .* has 0.0 MB"):
        recs.ingest(events, to=tmp_path / "store", **NAMES)
    assert os.listdir(tmp_path) == ["events"]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "max_temp_directory_size = '1MB'",
            r"^ingest: the disk is full, .*; free some, or name a store on another disk$",
        ),
        ("memory_limit = '1MB'", r"^ingest: Out of Memory .*; give it more, as in memory='8GB' \(--memory 8GB\)$"),
    ],
    ids=["disk", "memory"],
)
def test_a_disk_that_fills_up_is_no_want_of_memory(tmp_path: Path, setting: str, said: str) -> None:
    """DuckDB calls both out of memory."""
    with duck.connection(tmp_path, "40MB") as database:
        database.execute(f"SET threads = 1; SET {setting}")
        with pytest.raises(DataError, match=said), duck._ours():
            database.execute("CREATE TABLE t AS SELECT repeat(md5(range::VARCHAR), 9) a FROM range(300000) ORDER BY a")


def test_without_duckdb_the_line_to_install_it(events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtra, match=r'pip install "recs-core\[ingest\]"'):
        recs.ingest(events, to=tmp_path / "store", **NAMES)
    assert os.listdir(tmp_path) == ["events"]
