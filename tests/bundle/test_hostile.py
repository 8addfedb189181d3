"""Bundles made to hurt: every digest fits, and the contents must be refused. No code runs, little memory goes."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core import bundle
from recs_core.contract.errors import BundleError
from recs_core.storage import manifest, tensors
from tests.bundle.forge import replace, resign
from tests.bundle.small import every_feature, fitted

LOADED = {"runtime": "numpy"}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return fitted(every_feature()).save(tmp_path_factory.mktemp("hostile") / "b")


@pytest.fixture
def folder(pristine, tmp_path, monkeypatch):
    """A copy of a good bundle, in a process that cannot unpickle."""

    def refuse(*args, **options):
        raise AssertionError("something was unpickled")

    monkeypatch.setattr(pickle, "Unpickler", refuse)
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    copy = tmp_path / "b"
    copy.mkdir()
    for path in pristine.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    return copy


def refused(folder, said, **options):
    with pytest.raises(BundleError, match=said) as caught:
        recs.load(folder, **{**LOADED, **options})
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def weights(folder):
    return dict(recs.load(folder, **LOADED).weights())


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x", "cut off"),
        (struct.pack("<Q", 2**63), "cut off"),
        (struct.pack("<Q", 100 << 20) + bytes(1000), "cut off"),
        (packed(b"{" + b" " * (2 << 20) + b"}"), "header is"),
        (packed(b"\xff{}"), "UTF-8"),
        (packed(b"<xml/>"), "valid JSON"),
        (packed(b"[1]"), "not a JSON object"),
        (packed(b"[" * 500_000), "too deep"),
        (packed(b'{"a": ' * 100_000 + b"1"), "too deep|valid JSON"),
        (packed(b'{"a": NaN}'), "NaN"),
        (packed(b'{"a": 1' + b"0" * 5000 + b"}"), "valid JSON|needs dtype"),
        (packed(b'{"a": {}, "a": {}}'), "there twice"),
        (packed({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)), "'b' begins at byte 4"),
        (packed({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)), "'b' begins at byte 8"),
        (packed({"a": entry([1], 0, 4)}, bytes(8)), "describes 4"),
        (packed({"a": entry([2], 0, 8)}, bytes(4)), "describes 8"),
        (packed({"a": entry([2**32, 2**32], 0, 0)}), "do not fit"),
        (packed({"a": entry([2**62], 0, 4)}, bytes(4)), "shape"),
        (packed({"a": entry([0, 2**62], 0, 0)}), "shape"),
        (packed({"a": entry([-1], 0, 4)}, bytes(4)), "shape"),
        (packed({"a": entry([True], 0, 4)}, bytes(4)), "shape"),
        (packed({"a": entry([1.0], 0, 4)}, bytes(4)), "shape"),
        (packed({"a": entry([1], -4, 0)}, bytes(4)), "do not fit"),
        (packed({"a": entry([1], 0, 4, "O")}, bytes(4)), "dtype 'O'"),
        (packed({"a": entry([1], 0, 4, ["F32"])}, bytes(4)), "dtype"),
        (packed({"a": "x"}), "needs dtype"),
        (packed({"a": {**entry([1], 0, 4), "more": 1}}, bytes(4)), "needs dtype"),
        (pickle.dumps(np.zeros(3)), "cut off|header"),
        (b"\x93NUMPY\x01\x00v\x00", "cut off|header"),
    ],
)
def test_weights_that_are_no_safetensors(folder, data, said):
    replace(folder, "weights", data)
    tracemalloc.start()
    try:
        refused(folder, said)
        assert tracemalloc.get_traced_memory()[1] < 2 * len(data) + (4 << 20)
    finally:
        tracemalloc.stop()


def changed(arrays, **changes):
    out = {**arrays, **{name.replace("__", "/"): value for name, value in changes.items()}}
    return b"".join(bytes(piece) for piece in tensors.pieces({n: a for n, a in out.items() if a is not None}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"table__user": None}, "'table/user' is missing"),
        ({"table__stranger": np.zeros(3, np.float32)}, "'table/stranger' is not of this model"),
        ({"table__user": np.zeros((8, 4), np.float64)}, r"'table/user' is F64 \[8, 4\], the model's is F32 \[8, 4\]"),
        ({"table__user": np.zeros((9, 4), np.float32)}, r"F32 \[9, 4\]"),
        ({"table__user": np.zeros((4, 8), np.float32)}, r"F32 \[4, 8\]"),
        ({"table__user": np.full((8, 4), np.nan, np.float32)}, "holds NaN"),
        ({"task__bias": np.full(9, -np.inf, np.float32)}, "infinity"),
        ({"table__user": np.zeros((8, 4), np.float32)}, "golden query"),
    ],
)
def test_weights_of_another_model(folder, change, said):
    replace(folder, "weights", changed(weights(folder), **change))
    refused(folder, said)


def test_without_verification_a_wrong_value_is_let_through_but_not_a_wrong_shape(folder):
    held = weights(folder)
    replace(folder, "weights", changed(held, table__user=np.full((8, 4), np.nan, np.float32)))
    recs.load(folder, runtime="numpy", verify=False)
    replace(folder, "weights", changed(held, table__user=np.zeros((4, 8), np.float32)))
    refused(folder, "F32", verify=False)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_of_the_catalog_are_finite(folder, number):
    path = folder / bundle.info(folder).manifest["contents"]["catalog"]
    held = tensors.read(path.read_bytes(), path)
    names = [name for name, array in held.items() if array.dtype.kind == "f"]
    assert names
    for name in names:
        wrong = np.array(held[name])
        wrong.flat[-1] = number
        replace(folder, "catalog", changed(held, **{name: wrong}))
        refused(folder, f"'{name}' holds NaN or infinity")


@pytest.mark.parametrize("part", ["catalog", "golden", "history"])
def test_codes_point_at_rows_there_are(folder, part):
    path = folder / bundle.info(folder).manifest["contents"][part]
    good = {name: array.copy() for name, array in tensors.read(path.read_bytes(), path).items()}
    for name, array in good.items():
        if not array.size or array.dtype.kind != "i" or name == "counts":
            continue
        for wrong in (-1, 10**6):
            replace(folder, part, changed(good, **{name.replace("/", "__"): np.full_like(array, wrong)}))
            refused(folder, f"/{part}-")
        replace(folder, part, changed(good, **{name.replace("/", "__"): array[:-1]}))
        refused(folder, f"/{part}-")
        replace(folder, part, changed(good, **{name.replace("/", "__"): None}))
        refused(folder, f"/{part}-")


def arrow(*columns, names=("id",), batches=1, **options):
    batch = pa.record_batch(list(columns), names=list(names))
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return sink.getvalue()


USERS = pa.array(np.arange(100, 107))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PAR1" + bytes(100), "no Arrow file"),
        (arrow(USERS)[:200], "damaged|cut|ends"),
        (b"ARROW1\0\0" + bytes(64), "damaged|ends"),
        (b"ARROW1\0\0" + b"\xff" * 64, "damaged"),
        (arrow(USERS.cast(pa.int32())), "int32"),
        (arrow(USERS.cast(pa.float64())), "double"),
        (arrow(USERS.cast(pa.string()).dictionary_encode()), "dictionary"),
        (arrow(USERS, USERS, names=("id", "more")), "one column"),
        (arrow(USERS, names=("other",)), "one column"),
        (arrow(USERS, compression="zstd"), "compressed"),
        (arrow(USERS, compression="lz4"), "compressed"),
        (arrow(pa.array([100, 100, 1, 2, 3, 4, 5])), "unique"),
        (arrow(pa.array([None, 100, 1, 2, 3, 4, 5])), "null"),
        (arrow(USERS[:-1]), "is .*the model's is|rows"),
    ],
)
def test_ids_that_are_no_ids(folder, data, said):
    replace(folder, "ids", data)
    refused(folder, said)


NINE = pa.array(np.arange(9))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PAR1" + bytes(100), "no Arrow file"),
        (arrow(NINE, names=("price",), compression="zstd"), "compressed"),
        (arrow(NINE[:-1], names=("price",)), "has 8 rows, the corpus has 9 candidates"),
        (arrow(NINE, names=("item",)), "column 'item' is there twice, or holds the ids"),
        (arrow(NINE, NINE, names=("a", "a")), "column 'a' is there twice"),
        (arrow(pa.array([[1]] * 9), names=("tags",)), "column 'tags' is list<.*of which no filter can be made"),
        (arrow(pa.array(["a"] * 9).dictionary_encode(), names=("a",)), "dictionary.*of which no filter can be made"),
        (arrow(pa.array([b"x"] * 9), names=("a",)), "binary, of which no filter can be made"),
        (arrow(pa.array(["aa"] * 9), names=("a",)).replace(b"\x12\0\0\0", b"\xff\xff\xff\x7f"), "damaged"),
        (arrow(pa.array(["aa"] * 9), names=("a",)).replace(b"aaaa", b"aa\xff\xff"), "damaged"),
    ],
)
def test_attributes_that_are_none(folder, data, said):
    replace(folder, "attributes", data)
    refused(folder, said)


def test_a_compressed_bomb_is_refused_before_it_goes_off(folder):
    replace(folder, "ids", arrow(pa.array(np.zeros(50_000_000, np.int64)), compression="zstd"))
    before = pa.total_allocated_bytes()
    refused(folder, "compressed")
    assert pa.total_allocated_bytes() - before < 10_000_000


def test_offsets_of_strings_that_leave_the_buffer(folder):
    data = arrow(pa.array(["aa", "bb", "cc"]))
    offsets = np.array([0, 2, 4, 6], np.int32).tobytes()
    assert data.count(offsets) == 1
    replace(folder, "ids", data.replace(offsets, np.array([0, 2, 4, 2**30], np.int32).tobytes()))
    refused(folder, "damaged")


@pytest.mark.parametrize(
    "name", ["../w.safetensors", "/etc/passwd", "a/b.safetensors", "weights.bin", "weights-0.arrow", ""]
)
def test_names_that_leave_the_folder(folder, name):
    resign(folder, lambda fields: fields["files"].update({name: {"length": 1, "sha256": "0" * 64}}))
    refused(folder, "names a file")


@pytest.mark.parametrize("part", ["weights", "catalog", "golden", "state"])
@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "README.md", 7, None, "weights-0000000000000000.safetensors"])
def test_contents_come_from_named_files_only(folder, part, name):
    resign(folder, lambda fields: fields["contents"].update({part: name}))
    refused(folder, "manifest.json")


def set_(*keys, to):
    def change(fields):
        for key in keys[:-1]:
            fields = fields[key]
        fields[keys[-1]] = to

    return change


NATIVE = {"query": {"backend": "torch", "module": "os", "rebuild": "os:abort", "output_dim": 5, "raw_ids": False}}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_("version", to=2), "format version 2, this recs-core reads up to 1; upgrade"),
        (set_("version", to=True), "no recs-core ever wrote"),
        (set_("version", to="1"), "no recs-core ever wrote"),
        (set_("format", to="safetensors"), "no bundle of recs-core"),
        (set_("model", to=None), "manifest.json, model: must be an object, got null"),
        (set_("model", "query", to={"type": "os.system"}), "model, query: is no TowerSpec"),
        (set_("model", "query", to={"type": "Adam"}), "query: must be a TowerSpec, got a Adam"),
        (set_("model", "query", "layers", to=[10**30]), "model, query: is no TowerSpec, TowerSpec: layers must be"),
        (set_("model", "dtype", to="float16"), "dtype: must be 'float32' or 'float64', got 'float16'"),
        (
            set_("model", "native", to={"query": {"backend": "torch", "code": "import os"}}),
            "native, query: has no module",
        ),
        (set_("model", "native", to={"nobody": {}}), "native: must be 'query' or 'candidate', got 'nobody'"),
        (set_("model", "native", to=NATIVE), "'query/dense_0/bias' is not of this model"),
        (set_("schema", "table_rows", "table/user", to=10**15), "are more than int32 codes tell apart"),
        (set_("schema", "table_rows", "table/user", to=3), "fewer rows than ids"),
        (set_("schema", "vocabularies", "table/user", to="nowhere"), "not among its files"),
        (set_("schema", "learnt", to={}), "query/age: .*has no mean and deviation"),
        (set_("schema", "learnt", "query/age", to={"mean": 0.0, "deviation": 0.0}), "has no mean and deviation"),
        (set_("contents", to=[]), "contents: must be an object"),
        (set_("files", to=[]), "files must be an object"),
    ],
)
def test_manifests_that_describe_no_model(folder, change, said):
    resign(folder, change)
    refused(folder, said)


@pytest.mark.parametrize("length", [-1, 0, 1.5, True, "8", 2**70, None])
def test_lengths_that_are_none(folder, length):
    name = bundle.info(folder).manifest["contents"]["weights"]
    resign(folder, set_("files", name, "length", to=length))
    refused(folder, name)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"{}" * 9, b'{"a": 1, "a": 2}', b"[" * 10**6])
def test_manifests_that_are_none(folder, text):
    (folder / "manifest.json").write_bytes(text)
    refused(folder, "manifest.json")


def test_a_manifest_too_large_to_be_one(folder):
    with (folder / "manifest.json").open("ab") as file:
        file.truncate(manifest.LIMIT + 1)
    refused(folder, "the most that is read")


@pytest.mark.parametrize("name", ["manifest.json", "weights"])
def test_links_folders_and_pipes_are_refused(folder, name):
    path = next(path for path in folder.iterdir() if path.name.startswith(name))
    aside = path.rename(folder.parent / "aside")
    path.symlink_to(aside)
    refused(folder, "symbolic link")
    path.unlink()
    path.mkdir()
    refused(folder, "not a regular file|cannot be opened")
    path.rmdir()
    os.mkfifo(path)
    refused(folder, "not a regular file")


def test_a_link_to_the_folder_is_fine(folder):
    (folder.parent / "current").symlink_to(folder)
    recs.load(folder.parent / "current", **LOADED)
