"""A column of six rows in every type that Arrow has, some of them with nulls."""

import numpy as np
import pyarrow as pa

N = 6
WORDS = ["a", "a word longer than twelve letters", None, "", "é", "f"]
TAGS = [["a"], None, [], ["b", "c"], ["d", None], ["e"]]
PAIRS = [["a", "b"], ["a", None], ["", "b"], ["c", "d"], ["e", "f"], None]


def runs(values=("a", "b")):
    return pa.RunEndEncodedArray.from_arrays(pa.array([2, N], pa.int32()), pa.array(values))


def union(mode):
    kinds = pa.array([0, 1, 0, 1, 0, 1], pa.int8())
    if mode == "sparse":
        return pa.UnionArray.from_sparse(kinds, [pa.array(range(N)), pa.array(WORDS)])
    places = pa.array([0, 0, 1, 1, 2, 2], pa.int32())
    return pa.UnionArray.from_dense(kinds, places, [pa.array([5, 6, 7]), pa.array(["x", None, "z"], pa.string_view())])


def coded(values):
    return pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 1, 0, 1], pa.uint32()), values)


def lists_of(values):
    """One list per value."""
    return pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), values)


def pairs_of(values):
    return pa.FixedSizeListArray.from_arrays(values, 2)


TWO = pa.array(["x", "y"], pa.string_view())
COLUMNS = {
    "null": pa.nulls(N),
    "bool": pa.array([True, False, None, True, True, False]),
    "int8": pa.array([1, None, 3, 4, 5, 6], pa.int8()),
    "uint64": pa.array([2**64 - 1, None, 0, 1, 2, 3], pa.uint64()),
    "half": pa.array(np.array([0, 1, 0.5, np.nan, -1, 2], np.float16), mask=np.array([False, True] + [False] * 4)),
    "double": pa.array([0.5, None, float("nan"), 1e300, -0.0, 2]),
    "decimal128": pa.array([1, None, 3, 4, 5, 6], pa.decimal128(20, 2)),
    "decimal256": pa.array([1, None, 3, 4, 5, 6], pa.decimal256(40, 2)),
    "date32": pa.array([0, None, 4_000_000, 1, 2, 3], pa.date32()),
    "time32": pa.array([0, None, 1, 2, 3, 4], pa.time32("ms")),
    "time64 ns": pa.array([1, None, 2, 3, 4, 5], pa.time64("ns")),
    "timestamp of 9 digits": pa.array([1_600_000_000_123_456_789, None, 1, 2, 3, 4], pa.timestamp("ns")),
    "timestamp after 9999": pa.array([600_000_000_000_000_000, None, 1, 2, 3, 4], pa.timestamp("us")),
    "timestamp of no known zone": pa.array([0, None, 1, 2, 3, 4], pa.timestamp("us", "Mars/Olympus")),
    "duration": pa.array([2**62, None, 1, 2, 3, 4], pa.duration("s")),
    "interval": pa.array([pa.MonthDayNano([1, 2, 3]), None, *[pa.MonthDayNano([3, 2, 1])] * 4]),
    "string": pa.array(WORDS),
    "large string": pa.array(WORDS, pa.large_string()),
    "string view": pa.array(WORDS, pa.string_view()),
    "binary": pa.array([b"\xff", None, b"", b"b", b"c", b"d"]),
    "binary view": pa.array([b"\xff", None, b"", b"b", b"c", b"d"], pa.binary_view()),
    "fixed binary": pa.array([b"ab", None, b"cd", b"ef", b"gh", b"ij"], pa.binary(2)),
    "dictionary": coded(pa.array(["x", "y"])),
    "dictionary of views": coded(TWO),
    "dictionary of structs": coded(pa.array([{"a": 1}, {"a": 2}])),
    "runs": runs(),
    "runs of structs": runs([{"a": 1}, None]),
    "list": pa.array(TAGS),
    "large list": pa.array(TAGS, pa.large_list(pa.string())),
    "list view": pa.array(TAGS, pa.list_view(pa.string())),
    "large list view": pa.array(TAGS, pa.large_list_view(pa.string())),
    "fixed list": pa.array(PAIRS, pa.list_(pa.string(), 2)),
    "fixed list of views": pairs_of(pa.array(["a", "b"] * N, pa.string_view())),
    "list of lists": pa.array([[["a"], []], None, [None], [], [["b", None]], [[]]]),
    "list of dictionaries": lists_of(coded(TWO)),
    "list of runs": lists_of(runs()),
    "list of unions": lists_of(union("sparse")),
    "list of structs": pa.array([[{"a": 1}], None, [], [None], [{"a": None}], [{"a": 2}]]),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}, {"a": 3, "b": []}, {}, {"a": 4}]),
    "struct of runs": pa.StructArray.from_arrays([runs(), pa.array(WORDS, pa.string_view())], ["r", "w"]),
    "map": pa.array([{"a": 1}, None, {}, {"b": 2, "c": None}, {"d": 4}, {"e": 5}], pa.map_(pa.string(), pa.int64())),
    "map of views": pa.array([{"a": "1"}, None, {}, {"b": "2"}, {}, {}], pa.map_(pa.string(), pa.string_view())),
    "sparse union": union("sparse"),
    "dense union": union("dense"),
}
if hasattr(pa, "uuid"):  # from pyarrow 18 on
    COLUMNS["extension"] = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16))] * N, pa.binary(16)))
