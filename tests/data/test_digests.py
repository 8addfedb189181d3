import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.plain import is_plain, plain, plain_column
from recs_core.contract.towers import TowerSpec
from recs_core.data.audit import audit
from recs_core.data.encoded import EncodedDataset
from recs_core.data.interactions import Interactions
from recs_core.data.schema import Schema
from recs_core.tables.digests import column_digest
from tests.data.arrow_types import COLUMNS, WORDS, N, lists_of

EACH = pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)


def sliced(column, start, stop):
    return column.slice(start, stop - start)


@EACH
def test_a_plain_column_holds_the_same_values(column):
    assert is_plain(plain(column).type)
    assert is_plain(plain_column(pa.chunked_array([column, column.slice(3)])).type)
    assert is_plain(plain_column(pa.chunked_array([], column.type)).type)
    for part in (column, column.slice(1, 4), column.slice(2, 0)):
        assert values(plain(part)) == values(part)


def values(column):
    """As Python has them, maps as lists of structs, or integers where Python has no such time."""
    storage = getattr(column, "storage", column)
    if pa.types.is_map(column.type):
        return str([pairs and [{"key": key, "value": value} for key, value in pairs] for pairs in column.to_pylist()])
    if pa.types.is_float16(column.type):
        return str([half if half is None else float(half) for half in column.to_pylist()])
    if pa.types.is_date32(column.type):
        storage = storage.cast(pa.int32())
    elif pa.types.is_temporal(column.type) and column.type.bit_width == 64:
        storage = storage.cast(pa.int64())
    return str(storage.to_pylist())


@EACH
def test_digest_is_blind_to_chunks_and_slices(column):
    whole = column_digest(column)
    halves = pa.chunked_array([sliced(column, 0, 4), sliced(column, 4, 4), sliced(column, 4, N)])
    assert column_digest(halves) == whole
    assert column_digest(sliced(halves, 1, 5)) == column_digest(sliced(column, 1, 5))
    assert column_digest(pa.chunked_array([], column.type)) == column_digest(sliced(column, 0, 0))


def test_digest_takes_little_memory_beside_a_column_of_vectors():
    numbers = np.zeros(1 << 22, np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(numbers), 128)
    column = plain_column(pa.chunked_array([vectors]))
    tracemalloc.start()
    column_digest(column)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < numbers.nbytes / 2


def test_digest_is_blind_to_how_many_rows_are_looked_at_together(monkeypatch):
    columns = [pa.array([i % 3 == 0 for i in range(40)]).slice(3), pa.array([[True, None], [], None] * 9).slice(2)]
    whole = [column_digest(column) for column in columns]
    monkeypatch.setattr("recs_core.tables.digests.BLOCK", 5)
    assert [column_digest(column) for column in columns] == whole


@EACH
def test_digest_counts_rows(column):
    digests = {column_digest(column.slice(0, rows)) for rows in range(N + 1)}
    assert len(digests) == N + 1


def test_digest_of_one_value_that_differs():
    names = list(COLUMNS)
    digests = {name: column_digest(COLUMNS[name]) for name in names}
    same = [{"string", "large string", "string view"}, {"list", "large list", "list view", "large list view"}]
    same += [{"binary", "binary view"}, {"dictionary", "dictionary of views"}]
    for left in names:
        for right in names:
            if left < right:
                alike = any({left, right} <= group for group in same)
                assert (digests[left] == digests[right]) == alike, (left, right)


def test_what_lies_under_nulls_does_not_count():
    def under(value):
        return pa.array([1, value, 3], mask=np.array([False, True, False]))

    assert column_digest(under(7)) == column_digest(under(9))
    mask = pa.array([False, True, False])
    for left, right in ((["a", "b", "c"], ["a", "xyz", "c"]), ([1, 2, 3], [1, 9, 3])):
        structs = [pa.StructArray.from_arrays([pa.array(values)], ["f"], mask=mask) for values in (left, right)]
        assert column_digest(structs[0]) == column_digest(structs[1])
    offsets = pa.array([0, 1, 2, 3], pa.int32())
    lists = [pa.ListArray.from_arrays(offsets, pa.array(values), mask=mask) for values in ([1, 2, 3], [1, 9, 3])]
    assert column_digest(lists[0]) == column_digest(lists[1])
    texts = [
        pa.Array.from_buffers(pa.string(), 3, [pa.py_buffer(b"\x05"), offsets.buffers()[1], pa.py_buffer(text)])
        for text in (b"abc", b"axc")
    ]
    assert texts[0].to_pylist() == ["a", None, "c"]
    assert column_digest(texts[0]) == column_digest(texts[1]) == column_digest(pa.array(["a", None, "c"]))


def test_where_a_value_ends_counts():
    assert column_digest(pa.array(["ab", "c"])) != column_digest(pa.array(["a", "bc"]))
    assert column_digest(lists_of(pa.array(["a", "b"]))) != column_digest(pa.array([["a", "b"], []]))
    assert column_digest(pa.array([None, "a"])) != column_digest(pa.array(["", "a"]))


def shop(columns):
    """Six items of which each row of `columns` is one, in three rows and again in three."""
    items = [f"i{row}" for row in range(N)]
    table = {"user": ["u", "v"] * N, "item": items * 2}
    extra = {f"{name} of a row": pa.chunked_array([column, column]) for name, column in columns.items()}
    side = pa.table({"item": items} | columns)
    return Interactions.from_table(pa.table(table | extra), query="user", candidate="item", candidates=side)


@EACH
def test_a_column_that_nobody_reads_stops_nothing(column):
    data = shop({"x": column})
    data = data.take([3, 1, 2, 4, 5, 6]).filter(min_per_candidate=1)
    assert audit(data).rows == 6
    train, test = data.split(by="random", test=0.5)
    assert train.digest() != test.digest()
    tower, history = TowerSpec([Categorical("item")]), TowerSpec([History("item")])
    schema = Schema.learn(history, tower, data)
    assert EncodedDataset.encode(history, tower, schema, data).candidate.size == len(data.candidate_ids)


WITHOUT_PANDAS = """
import sys
class NoPandas:
    def find_spec(name, *_):
        if name == "pandas":
            raise ModuleNotFoundError(name)
if sys.argv[1] == "none":
    sys.meta_path.insert(0, NoPandas)
else:
    import pandas
import pyarrow as pa
from recs_core import Interactions
table = pa.table({"u": [1, 2], "i": ["a", "b"], "x": pa.array([1_600_000_000_123_456_789, 5], pa.timestamp("ns"))})
print(Interactions.from_table(table, query="u", candidate="i").digest())
"""


def test_digest_is_the_same_without_pandas():
    pytest.importorskip("pandas")
    with_pandas, without = (
        subprocess.run([sys.executable, "-c", WITHOUT_PANDAS, which], capture_output=True, text=True, check=True).stdout
        for which in ("all", "none")
    )
    assert len(without.strip()) == 64
    assert with_pandas == without


def test_strings_of_every_kind_are_one():
    kinds = [pa.string(), pa.large_string(), pa.string_view()]
    assert len({column_digest(pa.array(WORDS, kind)) for kind in kinds}) == 1
