"""What goes in comes out: weights, state, catalog and answers."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import safetensors.numpy

import recs_core as recs
from recs_core import bundle
from recs_core.contract.errors import BackendNotFound, BundleError, NotFitted
from recs_core.contract.manifest import IndexInfo
from recs_core.contract.protocols import TopK
from recs_core.contract.vocabulary import Vocabulary
from recs_core.data.interactions import Interactions
from recs_core.reference.backend import OracleBackend
from recs_core.storage import tensors
from recs_core.tables import id_files as ids
from tests.bundle import forge
from tests.bundle.small import every_feature, fitted, ids_only, interactions

QUERIES = list(range(100, 107))


@pytest.fixture(scope="module")
def model():
    return fitted(every_feature())


@pytest.fixture
def saved(model, tmp_path):
    return model.save(tmp_path / "b", metrics={"recall@10": (0.5, 0.4, 0.6), "mrr": 0.25}, licence="CC0-1.0")


def equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left[name], right[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "optimizer",
    [recs.SGD(), recs.SGD(momentum=0.5), recs.Adagrad(), recs.RowWiseAdagrad(), recs.Adam(), recs.Adam(dense=True)],
)
def test_weights_and_optimizer_state_come_back_bit_for_bit(tmp_path, dtype, optimizer):
    model = fitted(every_feature(dtype=dtype, optimizer=optimizer))
    loaded = recs.load(model.save(tmp_path / "b"), backend=OracleBackend())
    equal(loaded.weights(), model.weights())
    equal(loaded._trainer.state(), model._trainer.state())
    assert loaded.weights()["table/item"].dtype == dtype
    for name in (
        "query",
        "candidate",
        "retrieval",
        "optimizer",
        "training",
        "seed",
        "dtype",
        "position",
        "history",
        "data",
    ):
        assert getattr(loaded, name) == getattr(model, name), name


def test_the_catalog_comes_back(model, saved):
    before, after = model.catalog, recs.load(saved, runtime="numpy").catalog
    assert after.schema == before.schema
    assert after.attributes.equals(before.attributes)
    assert after.attributes.column_names == ["item", "title", "price"]
    np.testing.assert_array_equal(after.counts, before.counts)
    np.testing.assert_array_equal(after.seen.values, before.seen.values)
    np.testing.assert_array_equal(after.seen.offsets, before.seen.offsets)
    for side in ("query", "candidate"):
        was, now = getattr(before, side), getattr(after, side)
        assert (now.size, now.codes.keys(), now.dense.keys()) == (was.size, was.codes.keys(), was.dense.keys())
        for name, codes in was.codes.items():
            for part in ("values", "offsets") if hasattr(codes, "values") else ("T",):
                np.testing.assert_array_equal(getattr(now.codes[name], part), getattr(codes, part))
        for name, numbers in was.dense.items():
            np.testing.assert_array_equal(now.dense[name], numbers)


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": "seen"},
        {"allow": ["i1", "i2", "i5"]},
        {"exclude": interactions()},
        {"where": {"price": (3, None)}},
        {"where": pc.field("title").is_null(), "allow": ["i1", "i4"]},
        {"diversity": 0.5, "pool": 8, "where": {"price": (None, 8)}},
    ],
)
def test_every_loader_recommends_the_same(model, saved, options):
    expected = model.recommend(QUERIES, k=5, **options)
    for loaded in (recs.load(saved, runtime="numpy"), recs.load(saved, backend=OracleBackend())):
        found = loaded.recommend(QUERIES, k=5, **options)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)  # sums near 0 too


def test_without_side_columns_there_is_no_part_for_them(tmp_path):
    data = Interactions.from_table({"user": [1, 2], "item": [3, 4]}, query="user", candidate="item")
    path = fitted(ids_only(), data).save(tmp_path / "b")
    assert "attributes" not in bundle.info(path).manifest["contents"]
    loaded = recs.load(path, runtime="numpy")
    assert loaded.catalog.attributes.to_pydict() == {"item": [3, 4]}
    assert loaded.recommend([1], k=2, where={"item": 4}).ids.tolist() == [[4, -1]]


def test_attributes_are_views_of_the_file_and_other_tools_read_it(model, saved):
    name = bundle.info(saved).manifest["contents"]["attributes"]
    with pa.ipc.open_file(saved / name) as reader:
        assert reader.read_all().equals(model.catalog.attributes.drop_columns(["item"]))
    before = pa.total_allocated_bytes()
    loaded = recs.load(saved, runtime="numpy")
    assert pa.total_allocated_bytes() - before < 1000
    assert loaded.catalog.attributes["price"].to_pylist() == np.linspace(1.0, 9.0, 9).tolist()


def test_numpy_answers_from_histories_features_and_for_strangers(model, saved):
    loaded = recs.load(saved, runtime="numpy")
    asked = {"history": [["i1", "i2"], []], "features": pa.table({"user": [100, 999], "age": [30.0, 50.0]})}
    np.testing.assert_allclose(loaded.encode_query(**asked), model.encode_query(**asked), rtol=1e-5)
    np.testing.assert_allclose(loaded.encode_candidate(["i0", "i8"]), model.encode_candidate(["i0", "i8"]), rtol=1e-5)
    assert (
        loaded.recommend([999], k=2, unknown="popular").ids.tolist()
        == model.recommend([999], 2, unknown="popular").ids.tolist()
    )


def test_training_goes_on_from_the_saved_state(model, tmp_path):
    here = fitted(every_feature())
    there = recs.load(here.save(tmp_path / "b"), backend=OracleBackend())
    here.fit(interactions(), epochs=2, progress=False)
    there.fit(interactions(), epochs=2, progress=False)
    equal(there.weights(), here.weights())
    assert there.position.epoch == 4


def test_without_state_the_bundle_is_smaller_and_still_trains(model, tmp_path):
    path = model.save(tmp_path / "b", include_state=False)
    assert "state" not in bundle.info(path).manifest["contents"]
    loaded = recs.load(path, backend=OracleBackend())
    equal(loaded.weights(), model.weights())
    loaded.fit(interactions(), epochs=1, progress=False)


@pytest.mark.parametrize("names", [["ü", "日本", "a b", "", "0"], [-(2**63), 2**63 - 1, 0, 7, -1]])
def test_ids_of_every_kind(names, tmp_path):
    data = Interactions.from_table(pa.table({"user": names, "item": names[::-1]}), query="user", candidate="item")
    loaded = recs.load(fitted(ids_only(), data).save(tmp_path / "b"), runtime="numpy")
    assert loaded.schema.queries.ids.to_pylist() == names
    assert set(loaded.recommend(names[:1], k=5).ids[0].tolist()) == set(names)


def test_other_tools_read_the_files(model, saved):
    files = bundle.info(saved).manifest
    equal(safetensors.numpy.load_file(saved / files["contents"]["weights"]), model.weights())
    with pa.ipc.open_file(saved / files["schema"]["candidates"]) as reader:
        assert reader.read_all()["id"].to_pylist() == model.schema.candidates.ids.to_pylist()


def test_files_of_the_safetensors_package_are_read(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 4)), "c": np.array(7, np.int64)}
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(arrays, path, metadata={"made": "elsewhere"})
    equal(tensors.read(path.read_bytes(), path), arrays)


def test_equal_vocabularies_share_a_file(saved):
    schema = bundle.info(saved).manifest["schema"]
    assert schema["vocabularies"]["table/item"] == schema["candidates"] != schema["queries"]


@pytest.mark.parametrize("values", [["a", "b"], [3, 1], pa.array([], pa.string()), pa.array([], pa.int64())])
def test_vocabularies(values, tmp_path):
    before = Vocabulary(values)
    assert ids.read(ids.content(before), tmp_path, "id") == before


def test_numpy_runtime_imports_no_framework(saved):
    code = (
        "import sys, recs_core as recs\n"
        f"recs.load({str(saved)!r}, runtime='numpy').recommend([100], k=2, exclude='seen')\n"
        "print(*sorted({'keras', 'torch', 'tensorflow', 'jax', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_weights_of_the_runtime_are_views_of_the_file(saved):
    for array in recs.load(saved, runtime="numpy").weights().values():
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_the_card_tells_of_the_run(model, saved):
    card = (saved / "README.md").read_text()
    for text in (
        "# b",
        "Adam(learning_rate=0.05)",
        "| recall@10 | 0.5000 | 0.4000 … 0.6000 |",
        "CC0-1.0",
        interactions().digest(),
    ):
        assert text in card
    assert f"| **2** | **{model.history['loss'][1]:.4f}** |" in card
    assert not bundle.info(saved).card_changed


def test_an_edited_card_is_said_and_loads(saved):
    (saved / "README.md").write_text("mine")
    assert recs.verify(saved).card_changed


def test_unknown_fields_are_ignored(saved):
    from tests.bundle.forge import resign

    resign(saved, lambda fields: fields.update(comment="from a later minor version"))
    recs.load(saved, runtime="numpy")


def test_saving_over_a_bundle_replaces_it_and_keeps_nothing_of_the_old(model, saved):
    other = fitted(every_feature(seed=7))
    other.save(saved)
    equal(recs.load(saved, backend=OracleBackend()).weights(), other.weights())
    named = {*bundle.info(saved).manifest["files"], "manifest.json", "README.md"}
    assert {path.name for path in saved.iterdir()} == named


@pytest.mark.parametrize(
    ("do", "error", "said"),
    [
        (lambda m, p: ids_only().save(p / "new"), NotFitted, "fit"),
        (lambda m, p: recs.load(p / "b", runtime="numpy").save(p / "new"), BundleError, "read-only"),
        (lambda m, p: recs.load(p / "b", runtime="numpy", backend="torch"), BundleError, "one of them"),
        (lambda m, p: recs.load(p / "b", runtime="onnx"), BundleError, "onnx"),
        (lambda m, p: recs.load(p / "nowhere"), BundleError, "no such folder"),
        (lambda m, p: recs.load(p / "b" / "manifest.json"), BundleError, "is a file"),
        (lambda m, p: recs.load(p), BundleError, "manifest.json: missing"),
        (recs.TwoTower.save, BundleError, "no bundle and holds 'b'"),
        (lambda m, p: m.save(p / "b" / "README.md"), BundleError, "is a file"),
    ],
)
def test_mistakes_are_named(model, saved, do, error, said):
    with pytest.raises(error, match=said):
        do(model, saved.parent)


def test_metrics_that_come_later_change_the_manifest_and_the_card_alone(tmp_path):
    model = fitted(ids_only())
    path = model.save(tmp_path / "b", licence="CC0")
    before = {file.name: file.stat().st_ino for file in path.iterdir()}
    bundle.describe(path, metrics={"recall@10": (0.25, 0.2, 0.3), "mrr": 0.5})
    after = {file.name: file.stat().st_ino for file in path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json", "README.md"}
    assert recs.verify(path).manifest["metrics"] == {"recall@10": [0.25, 0.2, 0.3], "mrr": 0.5}
    assert bundle.info(path).manifest["licence"] == "CC0"
    assert "0.2000 … 0.3000" in (path / "README.md").read_text()
    with pytest.raises(BundleError, match="no such folder"):
        bundle.describe(tmp_path / "nowhere", metrics={})
    assert not (tmp_path / "nowhere").exists()


def test_stored_vectors_are_served_as_they_are(tmp_path):
    model = fitted(every_feature())
    path = model.save(tmp_path / "b", include_vectors=True)
    served = recs.load(path, runtime="numpy")
    np.testing.assert_array_equal(served.encode_candidate(), model.encode_candidate())
    assert not served.encode_candidate().flags.writeable  # the bundle's memory map
    expected, found = model.recommend([100, 103], k=9), served.recommend([100, 103], k=9)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5, atol=1e-5)
    trains = recs.load(path, backend=OracleBackend())
    trains.fit(interactions(), epochs=1, progress=False)
    assert (trains.encode_candidate() != model.encode_candidate()).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda vectors: vectors[:, 1:], "the model's is"),
        (lambda vectors: vectors[:-1], "the model's is"),
        (lambda vectors: vectors * np.float32(np.nan), "NaN"),
        (lambda vectors: vectors[::-1], "golden query"),
    ],
)
def test_stored_vectors_that_are_wrong(tmp_path, change, said):
    path = fitted(every_feature()).save(tmp_path / "b", include_vectors=True)
    stored = bundle.info(path).manifest["contents"]["vectors"]
    vectors = safetensors.numpy.load_file(path / stored)["vectors"]
    changed = np.ascontiguousarray(change(vectors))
    forge.replace(path, "vectors", b"".join(map(bytes, tensors.pieces({"vectors": changed}))))
    with pytest.raises(BundleError, match=said):
        recs.load(path, runtime="numpy")


class Hasty:
    """An index that declares nothing but its metric, finds the first positions, and counts what it is asked."""

    info = IndexInfo("hasty", "here:Hasty", "positions 0 … k − 1", recall_floor=0.1)
    asked = 0

    def build(self, vectors):
        self.vectors = vectors

    def search(self, queries, k):
        self.asked += 1
        ids = np.tile(np.arange(k), (len(queries), 1))
        return TopK(ids, np.take_along_axis(queries @ self.vectors.T, ids, 1))


def test_another_index_finds_what_is_recommended_and_leaks_nothing(tmp_path):
    model = fitted(every_feature())
    path = model.save(tmp_path / "b")
    for options in ({"runtime": "numpy"}, {"backend": OracleBackend()}):
        index = Hasty()
        loaded = recs.load(path, index=index, **options)
        assert loaded.recommend([100], k=2).ids.tolist() == [["i0", "i1"]]
        assert index.asked == 1
        hidden = [["i0", "i2", "i5"]]
        assert loaded.recommend([100], k=3, exclude=hidden).ids.tolist() == [["i1", "i3", "i4"]]
        expected = model.recommend([100], k=9, exclude=hidden).ids
        assert (loaded.recommend([100], k=9, exclude=hidden).ids == expected).all()  # short, so exact
    chosen = fitted(ids_only(index="exact"))
    assert chosen.recommend([100], k=3).ids.shape == (1, 3)
    with pytest.raises(BackendNotFound, match="no index 'exakt'"):
        recs.load(path, runtime="numpy", index="exakt")


def test_modules_for_towers_that_are_declared_are_refused(tmp_path):
    path = fitted(ids_only()).save(tmp_path / "b")
    with pytest.raises(BundleError, match="its query tower is no native module; leave it out"):
        recs.load(path, backend=OracleBackend(), native={"query": object()})
    with pytest.raises(BundleError, match="runtime='numpy' runs no module of yours"):
        recs.load(path, runtime="numpy", native={"query": object()})


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    model = fitted(ids_only())
    model.model.held["table/user"][1, 0] = np.nan
    with pytest.raises(BundleError, match="'table/user' holds NaN"):
        model.save(tmp_path / "b")
    assert not (tmp_path / "b").exists()
