import gzip

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recs_core.contract.errors import DataError
from recs_core.data.interactions import Interactions

COLUMNS = {"user": ["u1", "u2", "u1"], "item": [5, 6, 6], "t": [10.0, 20.0, 30.5]}
CSV = "user,item,t\nu1,5,10\nu2,6,20\nu1,6,30.5\n"


def read(table, **options):
    return Interactions.from_table(table, query="user", candidate="item", timestamp="t", **options)


def assert_is_columns(data):
    assert data.to_table().to_pydict() == COLUMNS
    assert data.query_codes.tolist() == [0, 1, 0]
    assert data.candidate_codes.tolist() == [0, 1, 1]
    assert data.query_codes.dtype == data.candidate_codes.dtype == np.int32
    assert data.timestamps.dtype == np.float64


@pytest.mark.parametrize(
    "table",
    [
        COLUMNS,
        pa.table(COLUMNS),
        pa.table(COLUMNS).to_batches()[0],
        pa.RecordBatchReader.from_batches(pa.table(COLUMNS).schema, pa.table(COLUMNS).to_batches()),
        pl.DataFrame(COLUMNS),
        pl.DataFrame(COLUMNS).with_columns(pl.col("user").cast(pl.Categorical)),
    ],
    ids=["dict", "arrow", "batch", "reader", "polars", "polars-categorical"],
)
def test_tables_of_every_kind_read_alike(table):
    assert_is_columns(read(table))


def test_pandas_with_an_index_and_a_categorical():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(COLUMNS, index=[4, 7, 9])
    frame["user"] = frame["user"].astype("category")
    assert_is_columns(read(frame))


def test_files_of_every_kind_read_alike(tmp_path):
    (tmp_path / "x.csv").write_text(CSV)
    (tmp_path / "x.tsv").write_text(CSV.replace(",", "\t"))
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(CSV.encode()))
    pq.write_table(pa.table(COLUMNS), tmp_path / "x.parquet")
    digests = set()
    for name in ("x.csv", "x.tsv", "x.csv.gz", "x.parquet"):
        data = read(tmp_path / name)
        assert_is_columns(data)
        digests.add(data.digest())
    assert len(digests) == 1


def test_csv_ids_are_integers_only_if_nothing_is_lost(tmp_path):
    def ids(*values):
        path = tmp_path / "ids.csv"
        path.write_text("user,item\n" + "".join(f"u,{value}\n" for value in values))
        return Interactions.from_table(path, query="user", candidate="item").candidate_ids.ids.to_pylist()

    assert ids(7, 9007199254740993, -3) == [7, 9007199254740993, -3]
    assert ids("007", "8") == ["007", "8"]
    assert ids("12.0", "7") == [12, 7]  # as pandas writes integers with gaps
    assert ids("1.0", "1.5") == ["1.0", "1.5"]
    assert ids("9223372036854775807") == [2**63 - 1]
    assert ids("9223372036854775808") == ["9223372036854775808"]


def test_all_rows_of_a_csv_decide_the_type_of_a_column(tmp_path):
    late = "".join(f"u,{row},{row}\n" for row in range(100_000))  # more than the megabyte Arrow looks at by itself
    (tmp_path / "x.csv").write_text(f"user,item,word\n{late}u,84029E,x\n")
    data = Interactions.from_table(tmp_path / "x.csv", query="user", candidate="item")
    assert data.candidate_ids.ids[-1].as_py() == "84029E"
    assert data.extra["word"][-1].as_py() == "x"


def test_csv_sides_agree_on_the_type_of_ids(tmp_path):
    (tmp_path / "x.csv").write_text("user,item\nu,1\n")
    (tmp_path / "items.csv").write_text("item,price\n1,2.5\n84029E,3\n")
    data = Interactions.from_table(
        tmp_path / "x.csv", query="user", candidate="item", candidates=tmp_path / "items.csv"
    )
    assert data.candidates.to_pydict() == {"item": ["1", "84029E"], "price": [2.5, 3.0]}
    strings = Interactions.from_table(
        {"user": ["u"], "item": ["1"]}, query="user", candidate="item", candidates=tmp_path / "items.csv"
    )
    assert strings.candidate_ids.ids.to_pylist() == ["1", "84029E"]
    with pytest.raises(DataError, match=r"items\.csv.*'item'.*integers.*'84029E'"):
        Interactions.from_table(
            {"user": ["u"], "item": [1]}, query="user", candidate="item", candidates=tmp_path / "items.csv"
        )


def table(**changes):
    return {name: column for name, column in (COLUMNS | changes).items() if column is not None}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: read(table(item=None)), ["interactions table", "'item'", "'user', 't'"]),
        (lambda: read(table(t=None)), ["'t'", "'user', 'item'"]),
        (lambda: read({"user": [], "item": [], "t": []}), ["interactions table", "empty"]),
        (lambda: read(table(item=[5, None, 6])), ["'item'", "null", "row 1"]),
        (lambda: read(table(item=[5.0, 6.0, 6.0])), ["'item'", "double", "pandas"]),
        (lambda: read(table(user=[[1], [2], [3]])), ["'user'", "list"]),
        (lambda: read(table(user=["a", 1, "b"])), ["'user'", "one type"]),
        (lambda: read(table(user=["a", "b"])), ["interactions table"]),
        (lambda: read(table(user="abc")), ["'user'", "one value per row", "'abc'", "write a list"]),
        (lambda: read(table(user={"a", "b", "c"})), ["'user'", "one value per row"]),
        (lambda: read(table(user=dict.fromkeys("abc"))), ["'user'", "one value per row"]),
        (lambda: read(table(item=5)), ["'item'", "one value per row, got 5"]),
        (lambda: read(table(t=[1.0, float("nan"), 2.0])), ["'t'", "row 1"]),
        (lambda: read(pa.table(table(t=pa.array([1.0, float("nan"), 2.0])))), ["'t'", "nan", "row 1"]),
        (lambda: read(table(t=[1.0, 2.0, float("inf")])), ["'t'", "inf", "row 2"]),
        (lambda: read(table(t=["2011-11-10", "2011-11-11", "tomorrow"])), ["'t'", "'tomorrow'", "row 2"]),
        (lambda: read(table(t=["2011-11-10T00:00:00Z", "2011-11-11", "2011-11-12"])), ["'2011-11-11'", "row 1"]),
        (lambda: read(table(t=[True, False, True])), ["'t'", "bool"]),
        (lambda: read(7), ["int", "pyarrow, pandas", "polars"]),
        (lambda: read(table(), queries={"name": ["u1"]}), ["queries table", "'user'", "'name'"]),
        (
            lambda: read(table(), queries={"user": ["u1", "u2", "u1"], "age": [1, 2, 3]}),
            ["queries table, column 'age'", "user 'u1' has 1 in one row and 3 in another"],
        ),
        (lambda: read(table(), queries={"user": ["u1", None]}), ["queries table", "null", "row 1"]),
        (
            lambda: read(table(), candidates={"item": ["5"]}),
            ["'item'", "integers in interactions table", "strings in candidates table"],
        ),
        (lambda: read(pa.Table.from_arrays([pa.array(["a"])] * 2, ["user", "user"])), ["'item'"]),
        (
            lambda: read(pa.Table.from_arrays([pa.array(["a"])] * 4, ["user", "user", "item", "t"])),
            ["'user'", "more than once"],
        ),
        (lambda: Interactions.from_table(COLUMNS, query="user", candidate="user"), ["different columns"]),
        (lambda: read("nowhere.csv"), ["nowhere.csv", "no such file"]),
        (lambda: read("nowhere.xlsx"), ["nowhere.xlsx", ".parquet"]),
    ],
)
def test_refusals_are_one_line_that_names_the_fault(make, words):
    assert_refused(make, words)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.parquet", b"PAR1 this is none", ["x.parquet", "Parquet"]),
        ("x.parquet", b"", ["x.parquet"]),
        ("x.csv", b"", ["x.csv", "empty"]),
        ("x.csv", b"user,item,t\n", ["x.csv", "empty"]),
        ("x.csv", b"user,item,t\na,1,1\nb,2\n", ["x.csv", "#3", "Expected 3 columns"]),
        ("x.csv", b"user,item,t\na,1,1\n,2,2\n", ["x.csv", "'user'", "null", "row 1"]),
        ("x.csv", b"user,item,t\na,1,1\nb,2,\n", ["x.csv", "'t'", "row 1"]),
        ("x.csv", b"user,item,t\na,1,1\nb,2,soon\n", ["x.csv", "'t'", "'1'"]),
        ("x.csv", b"user,item,t\n\xff,1,1\n", ["x.csv", "UTF-8"]),
        ("x.csv.gz", b"user,item,t\na,1,1\n", ["x.csv.gz", "gzip"]),
        ("x.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-12], ["x.csv.gz"]),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    assert_refused(lambda: read(tmp_path / name), words)


def assert_refused(make, words):
    with pytest.raises(DataError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_a_matrix_is_a_column_of_vectors():
    about = np.arange(6, dtype=np.float32).reshape(3, 2)
    candidates = {"item": [5, 6, 7], "about": about}
    found = Interactions.from_table(COLUMNS, query="user", candidate="item", candidates=candidates).candidates
    assert found["about"].to_pylist() == about.tolist()


def test_a_parquet_file_without_the_column_of_ids_is_named(tmp_path):
    pq.write_table(pa.table(COLUMNS), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet.*no column 'buyer'"):
        Interactions.from_table(tmp_path / "rows.parquet", query="buyer", candidate="item")
