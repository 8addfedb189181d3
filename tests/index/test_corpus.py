"""Ids around an index: filters by id, changes, storage, and an approximate index that misbehaves."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract.errors import BundleError, DataError, UnsupportedFeature
from recs_core.contract.manifest import IndexInfo
from recs_core.contract.protocols import TopK
from recs_core.index import CandidateIndex, ExactIndex
from recs_core.index.filters import ragged
from recs_core.reference.topk import top_k
from recs_core.storage import manifest

WORDS = ["Zürich", "東京", "naïve ☕", "a/b", " "]
BIG = [2**40 + 1, -5, 0, 2**62, 2**40]


def corpus(ids=WORDS, **options):
    """Candidate i scores 5 − i for the query [1, 0]."""
    vectors = np.stack([np.arange(len(ids), 0, -1), np.zeros(len(ids))], axis=1).astype(np.float32)
    return CandidateIndex(ids, vectors, **options)


QUERY = np.array([[1, 0]], np.float32)


@pytest.mark.parametrize("ids", [WORDS, BIG])
def test_ids_come_back_as_they_were_given(ids):
    found = corpus(ids).search(QUERY, 7)
    assert found.ids.tolist() == [ids]  # k is cut to the corpus
    np.testing.assert_array_equal(found.scores, [[5, 4, 3, 2, 1]])


def test_filters_by_id():
    index = corpus(BIG)
    assert index.search(QUERY, 2, exclude=[[2**40 + 1, 0, 999]]).ids.tolist() == [[-5, 2**62]]
    assert index.search(QUERY, 3, allow=[2**40, -5], exclude=[[-5]]).ids.tolist() == [[2**40, -1, -1]]
    assert index.search(QUERY, 1, exclude=ragged([[0]])).ids.tolist() == [[-5]]
    assert corpus().search(QUERY, 1, exclude=[WORDS]).ids.tolist() == [[None]]
    assert corpus().search(QUERY, 1, exclude=[[]]).ids.tolist() == [["Zürich"]]


def test_similar_leaves_out_the_item_itself():
    found = corpus().similar(["Zürich", "東京"], 2)
    assert found.ids.tolist() == [["東京", "naïve ☕"], ["Zürich", "naïve ☕"]]
    assert corpus(["only"]).similar(["only"], 1).ids.tolist() == [[None]]


def test_upsert_keeps_positions_and_appends():
    index = corpus(["a", "b"])
    index.upsert(["c", "a", "d"], np.array([[9, 0], [1, 0], [1, 0]], np.float32))
    assert index.ids.to_pylist() == ["a", "b", "c", "d"]
    assert index.search(QUERY, 4).ids.tolist() == [["c", "a", "b", "d"]]  # a, b and d tie at 1


def test_deleted_never_comes_back_unless_added_again():
    index = corpus(["a", "b", "c"])
    index.delete(["a", "c"])
    assert len(index) == 1 and index.search(QUERY, 3).ids.tolist() == [["b"]]
    index.upsert(["a"], np.array([[7, 0]], np.float32))
    assert index.search(QUERY, 3).ids.tolist() == [["a", "b"]]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 9), max_size=4, unique=True)), max_size=6), st.data())
def test_changes_equal_a_corpus_made_afresh(changes, data):
    index, expected = corpus([3, 4]), {3: 2.0, 4: 1.0}
    for add, ids in changes:
        if add:
            values = data.draw(st.lists(st.integers(-5, 5), min_size=len(ids), max_size=len(ids)))
            index.upsert(np.array(ids, np.int64), np.array([[v, 0] for v in values], np.float32).reshape(-1, 2))
            expected |= dict(zip(ids, values, strict=True))
        else:
            known = [i for i in ids if i in expected]
            index.delete(np.array(known, np.int64))
            expected = {i: v for i, v in expected.items() if i not in known}
    assert index.ids.to_pylist() == list(expected)
    best = sorted(expected, key=lambda i: -expected[i])  # stable: ties by position
    assert [i for i in index.search(QUERY, 12).ids[0] if i != -1 or i in expected] == best


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: CandidateIndex(["a", "b", "a"], np.ones((3, 2), np.float32)), "'a' appear more than once"),
        (lambda: CandidateIndex(["a"], np.ones((2, 2), np.float32)), "1 ids need vectors.*; give one row per id"),
        (lambda: CandidateIndex(["a"], np.ones((1, 2))), r"must be float32.*; give vectors.astype\(np.float32\)"),
        (lambda: corpus().search(QUERY, 0), "k must be"),
        (
            lambda: corpus().search(QUERY, 1, allow=["nobody"]),
            "allow: .*'nobody' not in this index of [0-9]+; leave it out, or upsert",
        ),
        (lambda: corpus().search(QUERY, 1, exclude=[[], []]), "2 lists of ids for 1 queries; give one list per query"),
        (lambda: corpus(BIG).search(QUERY, 1, exclude=[["five"]]), "integers"),
        (
            lambda: corpus().similar(["nobody"], 1),
            "similar: .*'nobody' not in this index of [0-9]+; leave it out, or upsert",
        ),
        (lambda: corpus().delete(["nobody"]), "delete: .*'nobody' not in this index of [0-9]+; leave it out$"),
        (lambda: corpus().upsert(["a", "a"], np.ones((2, 2), np.float32)), "'a' appear more than once"),
        (lambda: corpus().upsert(["a"], np.ones((1, 3), np.float32)), "shape.*; give one row per id"),
        (
            lambda: corpus().upsert(["a"], np.full((1, 2), np.nan, np.float32)),
            "upserted vector 0 holds NaN or infinity; leave it out",
        ),
        (lambda: corpus().upsert([5], np.ones((1, 2), np.float32)), "strings"),
    ],
)
def test_refuses(act, message):
    with pytest.raises(DataError, match=message):
        act()


class Sloppy:
    """Declares whatever it is told, ignores filters, finds every other candidate only, and adds rubbish."""

    def __init__(self, **declared):
        self.info = IndexInfo("sloppy", "m:Sloppy", "for tests", recall_floor=0.5, **declared)

    def build(self, vectors):
        self.vectors = vectors

    def search(self, queries, k, *, exclude=None, allow=None):
        scores = queries @ self.vectors.T
        scores[:, 1::2] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        values = np.take_along_axis(scores, order, 1)
        return TopK(np.where(np.isneginf(values), -1, order), values)


@pytest.mark.parametrize("capabilities", [{}, {"exclude": True, "allow": True}])
def test_an_approximate_index_never_leaks_and_never_shortens(capabilities):
    rng = np.random.default_rng(3)
    vectors, queries = rng.standard_normal((60, 4), np.float32), rng.standard_normal((8, 4), np.float32)
    index = CandidateIndex(range(60), vectors, Sloppy(capabilities=capabilities))
    for number in (0, 5, 40, 58, 60):
        exclude = ragged(rng.choice(60, number, replace=False) for _ in range(8))
        for allow in (None, rng.choice(60, 20, replace=False)):
            found = index.search(queries, 10, exclude=exclude, allow=allow)
            exact = top_k(queries, vectors, 10, exclude=exclude, allow=allow)
            np.testing.assert_array_equal((found.ids >= 0).sum(1), (exact.ids >= 0).sum(1))
            for i in range(8):
                listed = set(found.ids[i].tolist()) - {-1}
                assert not listed & set(exclude.values[exclude.offsets[i] : exclude.offsets[i + 1]].tolist())
                assert allow is None or listed <= set(allow.tolist())


def test_an_approximate_index_answers_where_it_can():
    index = CandidateIndex(range(6), np.arange(12, 0, -2, dtype=np.float32)[:, None], Sloppy())
    one = np.ones((1, 1), np.float32)
    assert index.search(one, 2).ids.tolist() == [[0, 2]]  # its own: it does not see 1
    assert index.search(one, 2, exclude=[[0]]).ids.tolist() == [[2, 4]]  # fetched one more
    assert index.search(one, 4).ids.tolist() == [[0, 1, 2, 3]]  # short, so exact


def test_another_metric_is_refused():
    with pytest.raises(UnsupportedFeature, match="'sloppy' ranks by 'l2'"):
        corpus(index=Sloppy(metric="l2"))


@pytest.mark.parametrize("ids", [WORDS, BIG, []])
def test_save_and_load(tmp_path, ids):
    corpus(ids).save(tmp_path / "index")
    loaded = CandidateIndex.load(tmp_path / "index")
    assert loaded.ids.to_pylist() == ids
    if ids:
        assert not loaded.vectors.flags.writeable and not loaded.vectors.flags.owndata  # a view of the file
    assert loaded.search(QUERY, 3).ids.tolist() == corpus(ids).search(QUERY, 3).ids.tolist()


def test_saving_over_an_open_index_leaves_the_reader_its_values(tmp_path):
    corpus(["a", "b"]).save(tmp_path)
    reader = CandidateIndex.load(tmp_path)
    writer = CandidateIndex.load(tmp_path)
    writer.upsert(["c"], np.array([[9, 0]], np.float32))
    writer.save(tmp_path)
    assert reader.search(QUERY, 1).ids.tolist() == [["a"]]
    assert CandidateIndex.load(tmp_path).search(QUERY, 1).ids.tolist() == [["c"]]
    assert len(list(tmp_path.glob("*-*"))) == 2  # what the new manifest does not name is gone
    writer.save(tmp_path)
    assert CandidateIndex.load(tmp_path).ids.to_pylist() == ["a", "b", "c"]


def test_damage_is_refused(tmp_path):
    """The files are a bundle's, whose own tests try every bit; here one of each."""
    corpus(["a", "b"]).save(tmp_path)
    for path in sorted(set(tmp_path.iterdir()) - {tmp_path / "README.md"}):
        good = path.read_bytes()
        middle = len(good) // 2
        for content in (b"", good[:-1], good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]):
            path.write_bytes(content)
            with pytest.raises(BundleError, match=path.name):
                CandidateIndex.load(tmp_path)
        path.write_bytes(good)
    assert CandidateIndex.load(tmp_path).ids.to_pylist() == ["a", "b"]


def test_another_kind_of_bundle_is_neither_read_nor_overwritten(tmp_path):
    with pytest.raises(BundleError, match="no bundle"):
        CandidateIndex.load(tmp_path)
    (tmp_path / "manifest.json").write_bytes(manifest.encode(tmp_path, {"kind": "model", "files": {}}))
    for act in (CandidateIndex.load, corpus().save):
        with pytest.raises(BundleError, match="another kind of bundle"):
            act(tmp_path)


def test_a_failing_disk_leaves_the_old_index_or_the_new(tmp_path, monkeypatch):
    real, fail_at, refused = os.fsync, 0, 0
    while refused == fail_at:  # the n-th sync fails, until there are not so many
        corpus(["a"]).save(tmp_path)
        fail_at += 1
        calls = iter(range(1, 100))

        def broken(descriptor, fail_at=fail_at, calls=calls):
            if next(calls) == fail_at:
                raise OSError(28, "No space left on device")
            real(descriptor)

        monkeypatch.setattr(os, "fsync", broken)
        try:
            corpus(["b", "c"]).save(tmp_path)
        except BundleError as error:
            assert "No space left" in str(error)
            refused += 1
        monkeypatch.setattr(os, "fsync", real)
        assert CandidateIndex.load(tmp_path).ids.to_pylist() in (["a"], ["b", "c"])
    assert refused >= 4  # two data files, the manifest, the folder


def test_the_built_in_index_is_the_default():
    assert isinstance(corpus()._index, ExactIndex)
