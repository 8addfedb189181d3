"""Filters and variety as a user asks for them: exact whatever the index, with exclusions and allow-lists, and saved."""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recs_core as recs
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import DataError
from recs_core.contract.manifest import IndexInfo
from recs_core.contract.protocols import TopK
from recs_core.plugin.manager import list_indexes
from recs_core.reference.backend import OracleBackend
from recs_core.reference.diversity import maximal_marginal_relevance
from recs_core.reference.topk import top_k_of_scores

ITEMS = 40
COUNTRIES = ["UK", "DE", None]
SIDE = {
    "item": [f"i{n}" for n in range(ITEMS)],
    "country": [COUNTRIES[n % 3] for n in range(ITEMS)],
    "price": [None if n % 7 == 0 else float(n % 10) for n in range(ITEMS)],
    "tags": [["a"]] * ITEMS,
}
USERS = [f"u{n}" for n in range(6)]


@cache
def model(scoring: str = "cosine") -> recs.TwoTower:
    random = np.random.default_rng(2)
    rows = {
        "user": random.choice(USERS, 150).tolist() + USERS,
        "item": [f"i{n}" for n in random.integers(0, ITEMS, 156)],
    }
    data = recs.Interactions.from_table(rows, query="user", candidate="item", candidates=SIDE)
    made = recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user", dim=4), recs.History("item", dim=4, share=None)], layers=[5]),
        recs.TowerSpec([recs.Categorical("item", dim=4), recs.Text("country", dim=3, buckets=8)], layers=[5]),
        recs.RetrievalSpec(scoring=scoring),  # type: ignore[arg-type]
        training=recs.TrainingSpec(epochs=2, batch_size=32),
        backend=OracleBackend(),
    )
    made.fit(data, progress=False)
    return made


def scores() -> np.ndarray:
    """(6, 40) float32, as `recommend` orders them."""
    exact = model().encode_query(USERS).astype(np.float64) @ model().encode_candidate().astype(np.float64).T
    return exact.astype(np.float32)


CORPUS = [f"i{n}" for n in range(ITEMS)]
CONDITIONS = [
    (pc.field("country") == "UK", lambda n: COUNTRIES[n % 3] == "UK"),
    ({"country": ["DE", "FR"]}, lambda n: COUNTRIES[n % 3] == "DE"),
    ({"price": (None, 4)}, lambda n: n % 7 != 0 and n % 10 <= 4),
    ({"price": (2, 7), "country": "UK"}, lambda n: n % 7 != 0 and 2 <= n % 10 <= 7 and n % 3 == 0),
    (pc.field("price").is_null(), lambda n: n % 7 == 0),
    ({"item": "i7"}, lambda n: n == 7),
    ({"price": 99}, lambda n: False),
    ({}, lambda n: True),
    (None, lambda n: True),
]


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(CONDITIONS),
    st.none() | st.lists(st.sampled_from(CORPUS), max_size=30),
    st.none() | st.lists(st.lists(st.sampled_from(CORPUS), max_size=40), min_size=6, max_size=6),
    st.integers(1, 60),
)
def test_equal_to_brute_force_among_exclusions_and_allow_lists(condition, allow, exclude, k):
    where, holds = condition
    codes = {id_: code for code, id_ in enumerate(model().schema.candidates.ids.to_pylist())}
    left = [codes[id_] for id_ in CORPUS if holds(int(id_[1:])) and (allow is None or id_ in allow)]
    hidden = None if exclude is None else Ragged.of([[codes[id_] for id_ in row] for row in exclude])
    due = top_k_of_scores(scores(), k, exclude=hidden, allow=np.array(left, np.int64))
    found = model().recommend(USERS, k, where=where, allow=allow, exclude=exclude)
    names = model().schema.candidates.ids.to_pylist()
    assert found.ids.tolist() == [[None if code < 0 else names[code] for code in row] for row in due.ids]
    np.testing.assert_allclose(found.scores, due.scores, rtol=1e-5, atol=1e-6)


class Rash:
    """Ignores whatever it is asked to leave out, though it may declare that it does not, and finds every other one."""

    def __init__(self, **declared):
        self.info = IndexInfo("rash", "here:Rash", "for tests", recall_floor=0.1, capabilities=declared)

    def build(self, vectors):
        self.vectors = vectors

    def search(self, queries, k, *, exclude=None, allow=None):
        found = queries @ self.vectors.T
        found[:, 1::2] = -np.inf
        order = np.argsort(-found, axis=1, kind="stable")[:, :k]
        return TopK(order, np.take_along_axis(found, order, 1))


@cache
def bundle(folder):
    return model().save(folder / "b")


def served(folder, index):
    return recs.load(bundle(folder), runtime="numpy", index=index)


@pytest.mark.parametrize("declared", [{}, {"allow": True}, {"allow": True, "exclude": True}])
@pytest.mark.parametrize("where", [{"country": "UK"}, {"price": (None, 4)}, {"price": 99}])
def test_no_index_leaks_a_candidate_outside(tmp_path_factory, declared, where):
    loaded = served(tmp_path_factory.getbasetemp(), Rash(**declared))
    for options in ({}, {"exclude": "seen"}, {"diversity": 0.4, "pool": 20}):
        check_kept(loaded, where, **options)


def installed():
    return [pytest.param(each.name, marks=[] if each.name == "exact" else pytest.mark.slow) for each in list_indexes()]


@pytest.mark.parametrize("index", installed())
def test_no_installed_index_does(tmp_path_factory, index):
    loaded = served(tmp_path_factory.getbasetemp(), index)
    for where in ({"country": "UK"}, {"price": (None, 4)}, {"price": 99}):
        for options in ({}, {"exclude": "seen"}, {"allow": CORPUS[:20]}, {"diversity": 0.4, "pool": 20}):
            check_kept(loaded, where, **options)


def check_kept(loaded, where, **options):
    """Nothing outside, and as many as there are."""
    found = loaded.recommend(USERS, 10, where=where, **options)
    exact = model().recommend(USERS, 10, where=where, **options)
    inside = set(model().recommend(USERS[:1], ITEMS, where=where).ids[0]) | {None}
    assert set(found.ids.ravel()) <= inside
    assert ((found.ids == None) == (exact.ids == None)).all()  # noqa: E711 (element by element)


def test_a_filter_that_keeps_nothing_gives_nothing():
    for options in ({}, {"unknown": "popular"}, {"diversity": 0.5}, {"allow": ["i1"], "exclude": "seen"}):
        found = model().recommend(["u0", "u1"], 3, where={"price": 99}, **options)
        assert found.ids.tolist() == [[None] * 3] * 2 and np.isneginf(found.scores).all()
    found = model().similar(["i0"], 3, where={"price": 99})
    assert found.ids.tolist() == [[None] * 3]


def test_strangers_get_the_popular_ones_that_it_keeps():
    found = model().recommend(["nobody"], 40, where={"country": "UK"}, unknown="popular").ids[0]
    counts = dict(zip(model().schema.candidates.ids.to_pylist(), model().catalog.counts.tolist(), strict=True))
    kept = [id_ for id_ in model().schema.candidates.ids.to_pylist() if int(id_[1:]) % 3 == 0]
    assert [id_ for id_ in found if id_ is not None] == sorted(kept, key=lambda id_: -counts[id_])


def test_similar_takes_it():
    whole = model().similar(["i0", "i5"], ITEMS).ids.tolist()
    found = model().similar(["i0", "i5"], 4, where={"country": "DE"}, allow=CORPUS[:30]).ids.tolist()
    assert found == [[id_ for id_ in row if id_ and int(id_[1:]) % 3 == 1 and int(id_[1:]) < 30][:4] for row in whole]


@pytest.mark.parametrize("scoring", ["cosine", "dot"])
def test_similar_is_the_cosine_of_raw_embeddings(scoring):
    made = model(scoring)
    raw = made.candidate_tower.embed(made.catalog.candidate)
    unit = raw / np.sqrt((raw**2).sum(1, keepdims=True))
    cosines = unit @ unit.T
    found = made.similar(CORPUS, ITEMS)
    codes = {id_: code for code, id_ in enumerate(made.schema.candidates.ids.to_pylist())}
    for id_, ids, values in zip(CORPUS, found.ids, found.scores, strict=True):
        assert ids[-1] is None
        np.testing.assert_allclose(values[:-1], [cosines[codes[id_], codes[other]] for other in ids[:-1]], atol=1e-5)


def test_what_is_refused_says_which_columns_there_are():
    columns = r"there is item \(string\), country \(string\), price \(double\)$"
    for where in ({"tags": "a"}, pc.field("tags") == "a", {"colour": "red"}):
        with pytest.raises(DataError, match=rf"there is no column .* to filter by; {columns}"):
            model().recommend(["u0"], where=where)
    with pytest.raises(DataError, match=r"column 'price' holds double, and '3' is no number"):
        model().similar(["i0"], where={"price": "3"})


def test_an_expression_is_evaluated_once_and_again_when_the_catalog_has_changed(monkeypatch):
    from recs_core.where import filters

    asked = []
    evaluated = filters._evaluated
    monkeypatch.setattr(filters, "_evaluated", lambda *given: asked.append(given) or evaluated(*given))
    rows = {"user": ["u0", "u1", "u0"], "item": ["i0", "i1", "i1"]}

    def told(*prices):
        side = {"item": ["i0", "i1"], "price": list(prices)}
        return recs.Interactions.from_table(rows, query="user", candidate="item", candidates=side)

    made = recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user", dim=2)]),
        recs.TowerSpec([recs.Categorical("item", dim=2)]),
        backend=OracleBackend(),
    )
    made.fit(told(1, 2), epochs=1, progress=False)
    for _ in range(3):
        assert made.recommend(["u0"], where={"price": 1}).ids.tolist() == [["i0", None]]
    assert len(asked) == 1
    made.fit(told(2, 1), epochs=1, progress=False)  # the latest side table wins
    assert made.recommend(["u0"], where={"price": 1}).ids.tolist() == [["i1", None]]
    assert len(asked) == 2


def test_threads_may_filter_at_once():
    due = {price: model().recommend(USERS, 5, where={"price": price}).ids.tolist() for price in range(10)}
    wrong = []

    def ask(first):
        for n in range(20):
            price = (first + n) % 10
            if model().recommend(USERS, 5, where={"price": price}).ids.tolist() != due[price]:
                wrong.append(price)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# Variety


@pytest.mark.parametrize("scoring", ["cosine", "dot"])
@pytest.mark.parametrize(("diversity", "pool"), [(0.3, None), (0.7, 15), (1.0, 8)])
def test_variety_is_the_oracles_choice_from_the_pool(scoring, diversity, pool):
    made = model(scoring)
    found = made.recommend(USERS, 6, diversity=diversity, pool=pool, exclude="seen")
    best = made.recommend(USERS, pool or ITEMS, exclude="seen")
    raw = made.candidate_tower.embed(made.catalog.candidate)
    codes = {id_: code for code, id_ in enumerate(made.schema.candidates.ids.to_pylist())}
    for row in range(len(USERS)):
        ids = [id_ for id_ in best.ids[row] if id_ is not None]
        vectors = raw[[codes[id_] for id_ in ids]]
        due = maximal_marginal_relevance(best.scores[row, : len(ids)], vectors, 6, diversity)
        assert found.ids[row].tolist() == [ids[place] for place in due]
        np.testing.assert_array_equal(found.scores[row], best.scores[row, due])
        assert due[0] == 0


def test_no_variety_is_the_plain_answer():
    plain = model().recommend(USERS, 7, where={"country": "UK"})
    for options in ({"diversity": 0}, {"diversity": 0.0, "pool": 30}):
        found = model().recommend(USERS, 7, where={"country": "UK"}, **options)
        np.testing.assert_array_equal(found.ids, plain.ids)
        np.testing.assert_array_equal(found.scores, plain.scores)
    with pytest.raises(DataError, match="pool must be a whole number above k = 7"):
        model().recommend(USERS, 7, diversity=0.3, pool=7)
