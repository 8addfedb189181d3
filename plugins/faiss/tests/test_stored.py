"""What is stored comes back as it was, and what a stranger wrote is checked before faiss follows it."""

import numpy as np
import pytest

from recs_core.contract.errors import ConfigError, DataError
from recs_core.index import CandidateIndex
from recs_core.index.filters import ragged
from recs_core.plugin.manager import load_index
from recs_core.reference.topk import top_k

SPECS = ["faiss-ivf:probes=8", "faiss-hnsw:m=8,ef=40"]


def clustered(rows, seed=0, dim=16):
    random = np.random.default_rng(seed)
    middles = np.random.default_rng(99).normal(size=(50, dim))
    return (middles[random.integers(50, size=rows)] + 0.5 * random.normal(size=(rows, dim))).astype(np.float32)


VECTORS, QUERIES = clustered(4000), clustered(30, seed=1)


def built(spec):
    index = load_index(spec)
    index.build(VECTORS)
    return index


@pytest.mark.parametrize("spec", SPECS)
def test_a_folder_keeps_the_index_also_after_upserts(spec, tmp_path):
    corpus = CandidateIndex(np.arange(4000), VECTORS, spec)
    corpus.upsert([17, 5000], 3 * QUERIES[:2])
    corpus.save(tmp_path / "corpus")
    loaded = CandidateIndex.load(tmp_path / "corpus")
    assert loaded._index.spec == corpus._index.spec
    found, again = corpus.search(QUERIES, 10), loaded.search(QUERIES, 10)
    np.testing.assert_array_equal(found.ids, again.ids)
    np.testing.assert_array_equal(found.scores, again.scores)
    assert again.ids[0, 0] == 17 and again.ids[1, 0] == 5000
    loaded.upsert([6000], 5 * QUERIES[2:3])  # what was restored can grow
    assert loaded.search(QUERIES[2:3], 1).ids.tolist() == [[6000]]


@pytest.mark.parametrize("spec", SPECS)
def test_the_old_vector_of_a_row_no_longer_answers(spec):
    index = built(spec)
    best = index.search(QUERIES, 1).ids[:, 0]
    now = VECTORS.copy()
    now[best] *= -1
    for _ in range(4):  # beyond a quarter of stale rows all is made anew
        index.upsert(now, np.unique(best))
    found = index.search(QUERIES, 10)
    assert not (found.ids == best[:, None]).any()
    due = top_k(QUERIES, now, 10)
    assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found.ids, due.ids, strict=True)]) > 0.95


def test_a_walk_with_another_ef_needs_no_other_graph():
    index = built("faiss-hnsw:ef=16")
    wide = load_index("faiss-hnsw:ef=256")
    wide.restore(VECTORS, index.parts())
    best = top_k(QUERIES, VECTORS, 10).ids
    assert (wide.search(QUERIES, 10).ids == best).mean() >= (index.search(QUERIES, 10).ids == best).mean()


@pytest.mark.parametrize("scale", [1e37, 1e20, 1e-25, 1e-38])
@pytest.mark.parametrize("spec", SPECS)
def test_vectors_of_any_size_are_found_as_others_are(spec, scale):
    now, queries = VECTORS * np.float32(scale), QUERIES / 16
    index, again = load_index(spec), load_index(spec)
    index.build(now)
    again.restore(now, index.parts())
    best = top_k(queries, now, 10).ids
    for one in (index, again):
        found = one.search(queries, 10).ids
        assert np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(found, best, strict=True)]) > 0.8
    now[best[:, 0]] *= -1
    again.upsert(now, np.unique(best[:, 0]))
    assert not (again.search(queries, 10).ids == best[:, :1]).any()


def changed(parts, name, at, value):
    array = parts[name].copy()
    array.reshape(-1)[at] = value
    return parts | {name: array}


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("neighbors", 0, 4000),
        ("neighbors", 7, -2),
        ("neighbors", -1, 2**31 - 1),
        ("levels", 3, 0),
        ("levels", 3, 99),
        ("levels", 3, 4),
        ("entry", 0, 4000),
        ("entry", 0, -1),
        ("positions", 0, 1),
        ("positions", 0, -5),
        ("positions", 0, 4000),
        ("ranges", 0, np.nan),
        ("exponent", 0, 129),
    ],
)
def test_no_graph_of_a_stranger_leads_out_of_it(name, at, value):
    parts = built("faiss-hnsw:m=8").parts()
    with pytest.raises(DataError, match="part '"):
        load_index("faiss-hnsw:m=8").restore(VECTORS, changed(parts, name, at, value))


def test_a_neighbour_is_on_the_level_on_which_it_is_followed():
    parts = built("faiss-hnsw:m=8").parts()
    high = int(np.flatnonzero(parts["levels"] > 1)[0])
    low = int(np.flatnonzero(parts["levels"] == 1)[0])
    begins = int(np.concatenate([[0], np.cumsum(8 + 8 * parts["levels"])])[high])  # 16 at the base, 8 on each level
    with pytest.raises(DataError, match="not on level 1"):
        load_index("faiss-hnsw:m=8").restore(VECTORS, changed(parts, "neighbors", begins + 16, low))


@pytest.mark.parametrize(("name", "at", "value"), [("lists", 0, 63), ("lists", 0, -1), ("centroids", 0, np.inf)])
def test_no_list_of_a_stranger_is_another(name, at, value):
    parts = built("faiss-ivf").parts()
    assert len(parts["centroids"]) == 63  # the root of 4,000
    with pytest.raises(DataError, match="part '"):
        load_index("faiss-ivf").restore(VECTORS, changed(parts, name, at, value))


@pytest.mark.parametrize("spec", ["faiss-hnsw:m=1", "faiss-hnsw:ef=0", "faiss-ivf:probes=0", "faiss-ivf:lists=1.5"])
def test_options_out_of_range_are_refused(spec):
    with pytest.raises(ConfigError, match="is a whole number ≥"):
        load_index(spec)


@pytest.mark.parametrize("spec", ["faiss-flat", *SPECS])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9])
def test_filters_never_leak_and_find_what_they_keep(spec, share):
    index, random = built(spec), np.random.default_rng(5)
    allow = np.flatnonzero(random.random(4000) < share)
    exclude = ragged([random.integers(0, 4000, 40) for _ in QUERIES])
    found = index.search(QUERIES, 10, allow=allow, exclude=exclude)
    due = top_k(QUERIES, VECTORS, 10, allow=allow, exclude=exclude)
    assert np.isin(found.ids[found.ids >= 0], allow).all()
    assert not exclude.holds(np.arange(30)[:, None], found.ids).any()
    assert ((found.ids >= 0) == (due.ids >= 0)).all()
    there = due.ids >= 0
    hits = sum(len(np.intersect1d(a[a >= 0], b)) for a, b in zip(found.ids, due.ids, strict=True))
    assert hits >= 0.95 * there.sum()
