"""A file of queries: every answer as the model's own, in order, in the same bytes however often it was cut off."""

from __future__ import annotations

import copy
import os
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import recs_core as recs
from recs_core.cli.main import main
from recs_core.contract.errors import DataError
from recs_core.index import ExactIndex
from recs_core.runtime import batch
from recs_core.runtime.batch import Done, Job, recommend_file
from recs_core.storage import whole
from recs_core.tables.csv_files import Dialect
from tests.bundle.small import every_feature, fitted, ids_only, interactions

pytestmark = pytest.mark.filterwarnings("ignore:.*never seen in training")

IDS = [100, 106, 103, 100, 999, 101, 105, 102, 104, 7, 100, 103]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = fitted(ids_only(), interactions()).save(tmp_path_factory.mktemp("batch") / "b")
    return recs.load(path, runtime="numpy")


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "PART_ROWS", 3)
    pq.write_table(pa.table({"user": IDS, "note": ["x"] * len(IDS)}), tmp_path / "q.parquet", row_group_size=5)
    return Job(tmp_path / "q.parquet", tmp_path / "r.parquet", bundle="digest", k=5)


@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("unknown", ["oov", "popular"])
def test_answers_are_the_models_own_in_order(model, job, exclude_seen, unknown):
    done = recommend_file(model, replace(job, exclude_seen=exclude_seen, unknown=unknown))
    assert done == Done(queries=12, unknown=2, resumed=0)
    table = pq.read_table(job.out)
    assert table.column_names == ["user", "item", "score"]
    assert table["user"].to_pylist() == IDS
    expected = model.recommend(IDS, 5, exclude="seen" if exclude_seen else None, unknown=unknown)
    for row, ids, scores in zip(table.to_pylist(), expected.ids.tolist(), expected.scores, strict=True):
        assert row["item"] == [id_ for id_ in ids if id_ is not None]
        np.testing.assert_allclose(row["score"], scores[: len(row["item"])], rtol=1e-6)
    assert not job.parts.exists()


def test_a_job_with_a_condition_and_variety(model, job):
    recommend_file(model, replace(job, where="price < 7.5", k=3, diversity=0.5, pool=6))
    expected = model.recommend(IDS, 3, where={"price": (None, 7.4)}, diversity=0.5, pool=6)
    assert pq.read_table(job.out)["item"].to_pylist() == expected.ids.tolist()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"where": "prize < 3"}, "where, character 1: there is no column 'prize'"),
        ({"where": "price <"}, "character 8: expected a value"),
        ({"diversity": 2.0}, "diversity is a number from 0"),
        ({"diversity": 0.5, "pool": 5}, "pool must be a whole number above k = 5"),
        ({"pool": 50}, "pool=50 is what diversity chooses from"),
        ({"k": 0}, "k must be"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_made(model, job, wrong, said):
    with pytest.raises(DataError, match=said):
        recommend_file(model, replace(job, **wrong))
    assert not job.parts.exists() and not job.out.exists()


@pytest.mark.parametrize("other", [{"where": "price < 4"}, {"diversity": 0.2}, {"diversity": 0.5, "pool": 7}])
def test_parts_of_another_condition_are_never_mixed_in(model, job, other):
    job = replace(job, where="price < 5", diversity=0.5, pool=6)

    def stop(done, of):
        raise Stopped

    with pytest.raises(Stopped):
        recommend_file(model, job, stop)
    with pytest.raises(DataError, match=f"parts of a job with another {next(reversed(other))}"):
        recommend_file(model, replace(job, **other))


class Stopped(Exception):
    pass


def test_a_job_that_was_cut_off_goes_on_and_ends_in_the_same_bytes(model, job):
    recommend_file(model, replace(job, out=job.out.with_name("whole.parquet")))

    def stop(done, of):
        assert of == len(IDS)
        if done >= 6:
            raise Stopped

    with pytest.raises(Stopped):
        recommend_file(model, job, stop)
    assert not job.out.exists()
    (job.parts / "part-000003.parquet.tmp").write_bytes(b"half")
    done = recommend_file(model, job)
    assert done.resumed == 8  # parts of 3, 2 and 3: a part never spans two row groups
    assert job.out.read_bytes() == job.out.with_name("whole.parquet").read_bytes()


@pytest.mark.parametrize("change", [{"k": 4}, {"exclude_seen": True}, {"bundle": "another"}, {"unknown": "popular"}])
def test_parts_of_another_job_are_not_taken_up(model, job, change):
    with pytest.raises(Stopped):
        recommend_file(model, job, lambda done, of: (_ for _ in ()).throw(Stopped))
    with pytest.raises(
        DataError,
        match=f"another {next(iter(change))}; finish that job .*: rm -r .*parts$",
    ):
        recommend_file(model, replace(job, **change))


class Other(ExactIndex):
    info = replace(ExactIndex.info, name="other")


def test_parts_found_by_another_index_are_not_taken_up(model, job):
    with pytest.raises(Stopped):
        recommend_file(model, job, lambda done, of: (_ for _ in ()).throw(Stopped))
    other = copy.copy(model)
    other.index = Other()
    with pytest.raises(DataError, match="another index; finish that job"):
        recommend_file(other, job)
    other.index = "exact"
    assert recommend_file(other, job).resumed == 3


def test_nor_are_parts_for_other_queries(model, job):
    with pytest.raises(Stopped):
        recommend_file(model, job, lambda done, of: (_ for _ in ()).throw(Stopped))
    pq.write_table(pa.table({"user": IDS[::-1]}), job.queries)
    with pytest.raises(DataError, match="another queries"):
        recommend_file(model, job)


def left(job):
    """What lies beside the queries."""
    return sorted(path.name for path in job.queries.parent.iterdir())


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        ({"user": ["100", "101"]}, {}, "integers"),
        ({"user": [100] * 7 + [None]}, {}, "null id in row 7"),
        ({"user": pa.array([100, 2**63 + 5], pa.uint64())}, {}, "beyond int64: use strings"),
        ({"user": IDS}, {"unknown": "error"}, "2 of 12 queries were never seen in training, the first is 999"),
        ({"user": IDS}, {"k": 0}, "k must be"),
        ({"user": IDS}, {"column": "customer"}, "no column 'customer'"),
        ({"user": IDS}, {"out": "there.txt/r.parquet"}, "there.txt is a file"),
        ({"user": IDS}, {"out": "folder"}, "is a folder"),
        ({"user": IDS}, {"out": "q.parquet"}, "holds the queries"),
    ],
)
def test_a_refused_job_leaves_nothing_and_is_in_no_ones_way(model, job, table, options, said):
    (job.out.parent / "there.txt").touch()
    (job.out.parent / "folder").mkdir()
    pq.write_table(pa.table(table), job.queries)
    if "out" in options:
        options = {"out": job.out.parent / options["out"]}
    deep = job.out.parent / "made" / "for" / "r.parquet"
    before = left(job)
    with pytest.raises(DataError, match=said):
        recommend_file(model, replace(job, **{"out": deep, **options}))
    assert left(job) == before
    pq.write_table(pa.table({"user": IDS}), job.queries)
    recommend_file(model, replace(job, out=deep))
    assert pq.read_table(deep)["user"].to_pylist() == IDS


def test_a_job_that_answered_nothing_is_no_hindrance(model, job):
    job.parts.mkdir()
    for text in ("{}", "[]", "{", '{"k": 99}'):
        (job.parts / "job.json").write_text(text)
        recommend_file(model, job)
        job.out.unlink()
        job.parts.mkdir()


def test_a_folder_that_is_no_jobs_is_not_taken_and_not_removed(model, job):
    job.parts.mkdir()
    (job.parts / "thesis.txt").write_text("years")
    with pytest.raises(DataError, match="is in the way and no folder of a job"):
        recommend_file(model, job)
    assert (job.parts / "thesis.txt").read_text() == "years"


def test_an_output_that_cannot_be_written_is_said(model, job, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(DataError, match="cannot be written, No space left on device"):
        recommend_file(model, job)
    assert not list(job.queries.parent.rglob("*.tmp"))


def test_a_damaged_file_is_said(model, job):
    data = bytearray(job.queries.read_bytes())
    data[4:40] = bytes(36)
    job.queries.write_bytes(data)
    with pytest.raises(DataError, match="not a readable Parquet file"):
        recommend_file(model, job)
    assert not job.parts.exists()


def test_k_beyond_the_corpus(model, job):
    recommend_file(model, replace(job, k=2**40))
    assert {len(row) for row in pq.read_table(job.out)["item"].to_pylist()} == {9}


def test_no_queries_are_answered_too(model, job):
    pq.write_table(pa.table({"user": pa.array([], pa.int64())}), job.queries)
    assert recommend_file(model, job) == Done(0, 0, 0)
    assert pq.read_table(job.out).schema.names == ["user", "item", "score"]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"customer": IDS, "x": IDS}, "no column 'user' with query ids; it has customer, x"),
        ({"user": [1.5]}, "strings or integers"),
        ({"user": ["100"]}, "integers"),
        ({"user": [100, 101, 102, 103, 104, 105, None]}, r"null id in row 6"),
    ],
)
def test_queries_that_cannot_be_used(model, job, table, said):
    pq.write_table(pa.table(table), job.queries, row_group_size=5)
    with pytest.raises(DataError, match=said):
        recommend_file(model, job)


def test_files_that_cannot_be_read(model, job):
    with pytest.raises(DataError, match="no such file"):
        recommend_file(model, replace(job, queries=job.queries.with_name("none.parquet")))
    job.queries.write_bytes(b"user\n100\n")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        recommend_file(model, job)


def test_another_column_of_the_same_ids(model, job):
    pq.write_table(pa.table({"customer": IDS}), job.queries)
    recommend_file(model, replace(job, column="customer"))
    assert pq.read_table(job.out)["user"].to_pylist() == IDS


def test_memory_is_that_of_a_row_group(model, job, monkeypatch):
    monkeypatch.setattr(batch, "PART_ROWS", 1_000)
    rows, group = 60_000, 2_000
    pq.write_table(pa.table({"user": np.arange(rows) % 7 + 100}), job.queries, row_group_size=group)
    before, held = pa.total_allocated_bytes(), []
    recommend_file(model, job, lambda done, of: held.append(pa.total_allocated_bytes() - before))
    assert len(held) == 60
    assert max(held) < rows * 8 / 4  # the ids alone would be 480 kB


def test_an_output_that_is_no_ordinary_file_is_left_alone(model, job, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(DataError, match="is no ordinary file"):
        recommend_file(model, replace(job, out=pipe))
    assert pipe.is_fifo() and not replace(job, out=pipe).parts.exists()


def test_two_columns_of_one_name_are_refused(model, job):
    ids = model.schema.queries.ids.slice(0, 1)
    pq.write_table(pa.table([ids, ids], names=[model.schema.query_name] * 2), job.queries)
    with pytest.raises(DataError, match="appears more than once"):
        recommend_file(model, job)


# CSV


def as_csv(job, content, name="q.csv"):
    queries = job.queries.with_name(name)
    queries.write_bytes(content if isinstance(content, bytes) else content.encode())
    return replace(job, queries=queries)


LINES = "".join(f"{id_}\n" for id_ in IDS)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("note;user\n" + "".join(f"x;{id_}\n" for id_ in IDS), "q.csv"),
        ("user\n" + LINES, "q.tsv"),
        ("customer\n" + LINES, "q.txt"),
        (("\ufeffwho\n" + LINES).encode("utf-16"), "q.csv"),
        ("who\n" + LINES.replace("\n", ".0\n"), "q.csv"),
    ],
    ids=["among others", "alone", "under another name", "utf-16", "as pandas writes integers with gaps"],
)
def test_a_csv_file_is_answered_as_a_parquet_file(model, job, content, name):
    asked = as_csv(job, content, name)
    recommend_file(model, job)
    assert recommend_file(model, replace(asked, out=job.out.with_name("csv.parquet"))) == Done(12, 2, 0)
    assert pq.read_table(job.out.with_name("csv.parquet")).equals(pq.read_table(job.out))


def test_the_only_column_of_a_parquet_file(model, job):
    pq.write_table(pa.table({"customer": IDS}), job.queries)
    assert recommend_file(model, job) == Done(12, 2, 0)


def test_a_job_over_csv_that_was_cut_off_goes_on(model, job):
    asked = replace(as_csv(job, "user^x\n" + LINES.replace("\n", "^-\n")), dialect=Dialect(None, "^", ["-"]))

    def stop(done, of):
        if done == 6:
            raise Stopped

    with pytest.raises(Stopped):
        recommend_file(model, asked, stop)
    with pytest.raises(DataError, match="another dialect"):
        recommend_file(model, replace(asked, dialect=Dialect(None, "^", [])))
    assert recommend_file(model, asked) == Done(12, 2, 6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n", "q.csv: no column 'user' with query ids; it has a, b"),
        ("100\n101\n", "q.csv: its first line, 100, is a query id; write the column's name above it"),
        ("user\n100\nx1\n", "q.csv, column 'user': the model's ids are integers, but these hold 'x1'"),
        ("user,x\n100,1\n,2\n", "q.csv, column 'user': null id in row 1"),
        ("user,user\n100,1\n", "column 'user' appears more than once"),
        ("", "q.csv: empty file"),
        (b"user\n\xe9\n", "encoding='latin-1'"),
    ],
)
def test_csv_files_that_cannot_be_used(model, job, content, said):
    with pytest.raises(DataError, match=re.escape(said)) as caught:
        recommend_file(model, as_csv(job, content))
    assert "\n" not in str(caught.value) and not job.out.exists()


def test_how_a_csv_file_is_written_says_nothing_of_parquet(model, job):
    with pytest.raises(DataError, match=r"q\.parquet: encoding, delimiter and null_values are for CSV files"):
        recommend_file(model, replace(job, dialect=Dialect(delimiter=";")))


def test_csv_on_the_shell(model, tmp_path, capsys):
    fitted(ids_only(), interactions()).save(tmp_path / "b")
    (tmp_path / "q.csv").write_bytes("wer^é\n100^x\n101^y\n".encode("latin-1"))
    command = [
        "recommend",
        str(tmp_path / "b"),
        "--queries",
        str(tmp_path / "q.csv"),
        "--out",
        str(tmp_path / "r.parquet"),
    ]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--column", "wer", "--encoding", "latin-1", "--delimiter", "^"])
    assert not ended.value.code and "answered 2 queries" in capsys.readouterr().out
    assert pq.read_table(tmp_path / "r.parquet")["user"].to_pylist() == [100, 101]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_feature_beside_the_ids_is_said_not_to_be_read(tmp_path, kind):
    model = recs.load(fitted(every_feature(), interactions()).save(tmp_path / "b"), runtime="numpy")
    queries = pa.table({"user": [100, 101], "age": ["1,200", "33"], "note": ["x", "y"]})
    path = tmp_path / f"q.{kind}"
    pacsv.write_csv(queries, path) if kind == "csv" else pq.write_table(queries, path)
    with pytest.warns(UserWarning, match=rf"{re.escape(str(path))}: age not read: queries are answered by id"):
        recommend_file(model, Job(path, tmp_path / "r.parquet", bundle="digest", k=3))
    assert pq.read_table(tmp_path / "r.parquet")["item"].to_pylist() == model.recommend([100, 101], 3).ids.tolist()
