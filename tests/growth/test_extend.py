"""`extend`: who is new joins, who was there stays as he was, bit for bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, NotFitted, SpecError, UnsupportedFeature
from recs_core.fitted import Native
from recs_core.growth.extension import grown
from recs_core.plugin.manager import list_backends
from recs_core.reference.backend import OracleBackend
from recs_core.training import EarlyStopping
from tests.bundle.small import every_feature, fitted, ids_only
from tests.growth import days

INSTALLED = {row.name for row in list_backends() if not row.problem}
HERE = [
    pytest.param(name, marks=[] if name == "torch" else pytest.mark.slow)
    for name in ("torch", "tensorflow", "keras")
    if name in INSTALLED
]
OLD_USERS, OLD_ITEMS = [*range(100, 107)], [f"i{n}" for n in range(9)]
PASTS = [OLD_ITEMS[:n] for n in range(7)]


@pytest.fixture(scope="module")
def model() -> recs.TwoTower:
    return fitted(every_feature(), days.first())


def own(model: recs.TwoTower) -> recs.TwoTower:
    return recs.TwoTower.of(model.fitted(), backend=model.backend)


# What was there stays


def test_every_weight_slot_and_code_that_was_there_is_as_it_was(model: recs.TwoTower) -> None:
    before, after = model.fitted(), grown(model.fitted(), days.second())
    assert before.weights.keys() == after.weights.keys()
    assert before.progress is not None and after.progress is not None
    for had, has in ((before.weights, after.weights), (before.progress.state, after.progress.state)):
        for name, array in had.items():
            assert has[name].dtype == array.dtype
            np.testing.assert_array_equal(has[name][: len(array)] if array.ndim else has[name], array)
    for side in ("query", "candidate"):
        had, has = getattr(before.catalog, side), getattr(after.catalog, side)
        kept = has.take(np.arange(had.size))
        for name, array in had.arrays().items():
            np.testing.assert_array_equal(kept.arrays()[name], array)
    assert after.catalog.schema.learnt == before.catalog.schema.learnt


@pytest.mark.parametrize(
    "backend", [OracleBackend(), *HERE], ids=lambda backend: backend if isinstance(backend, str) else "oracle"
)
def test_every_old_score_is_as_it_was_until_the_next_step(model: recs.TwoTower, backend: object) -> None:
    asked = recs.TwoTower.of(model.fitted(), backend=backend)  # type: ignore[arg-type]
    known = asked.catalog.candidate
    vectors, query = asked.candidate_tower.embed(known), asked.encode_query(OLD_USERS, history=PASTS)
    list_ = asked.recommend(OLD_USERS, k=9, history=PASTS)
    asked.extend(days.second())
    np.testing.assert_array_equal(asked.candidate_tower.embed(known), vectors)
    np.testing.assert_array_equal(asked.encode_query(OLD_USERS, history=PASTS), query)
    again = asked.recommend(OLD_USERS, k=9, history=PASTS, allow=OLD_ITEMS)
    np.testing.assert_array_equal(again.ids, list_.ids)
    # The corpus has more rows now, and a kernel may add those of a larger product up in another order.
    np.testing.assert_allclose(again.scores, list_.scores, rtol=1e-6)


@pytest.mark.parametrize("backend", HERE)
def test_all_backends_grow_and_train_on_alike(model: recs.TwoTower, backend: str) -> None:
    """Extended here as by the oracle, bit for bit, and the next epochs go where the oracle's go."""
    value = fitted(every_feature(dtype="float64"), days.first()).fitted()
    oracle, here = (recs.TwoTower.of(value, backend=each) for each in (OracleBackend(), backend))
    for each in (oracle, here):
        each.extend(days.second())
    for name, array in oracle.weights().items():
        np.testing.assert_array_equal(here.weights()[name], array)
    for each in (oracle, here):
        each.fit(days.second(), epochs=2, replay=0.3, progress=False)
    for name, array in oracle.weights().items():
        np.testing.assert_allclose(here.weights()[name], array, rtol=1e-9, atol=1e-12)


def test_a_candidate_that_had_no_row_goes_on_from_the_row_that_it_was_read_from() -> None:
    """Known by a side table alone, it stood on the OOV row; it has one of its own now, and the same vector."""
    listed = days.second().candidates
    data = days.first()
    table = {name: [*data.candidates[name].to_pylist(), *listed[name].to_pylist()[4:]] for name in listed.column_names}
    model = every_feature()
    first = recs.Interactions.from_table(
        data.to_table(), query="user", candidate="item", timestamp="t", queries=data.queries, candidates=table
    )
    fitted(model, first)
    new = [f"i{n}" for n in range(9, 12)]
    assert set(model.catalog.candidate.codes["item"][9:]) == {0}
    model.model.load_weights({name: w + (0.1 if name == "table/item" else 0) for name, w in model.weights().items()})
    before = model.encode_candidate(new)
    model.extend(days.second())
    np.testing.assert_array_equal(model.encode_candidate(new), before)
    rows = model.catalog.candidate.codes["item"][9:]
    assert rows.tolist() == [10, 11, 12]
    np.testing.assert_array_equal(model.weights()["table/item"][rows], np.full((3, 3), 0.1, np.float32))
    model.fit(days.second(), epochs=1, progress=False)
    assert not np.array_equal(model.weights()["table/item"][rows], np.full((3, 3), 0.1, np.float32))


# Where new rows start


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (recs.Adagrad(0.1, initial_accumulator=0.25), {"accumulator": (0.25, (6, 2))}),
        (recs.RowWiseAdagrad(0.1), {"accumulator": (0.1, (6,))}),
        (recs.Adam(0.1), {"m": (0.0, (6, 2)), "v": (0.0, (6, 2))}),
        (recs.SGD(0.1, momentum=0.5), {"velocity": (0.0, (6, 2))}),
        (recs.SGD(0.1), {}),
    ],
)
def test_new_rows_start_at_the_mean_and_their_slots_as_those_of_a_row_never_moved(optimizer, slots) -> None:
    data = recs.Interactions.from_table({"user": [1, 2, 3], "item": ["a", "b", "a"]}, query="user", candidate="item")
    model = fitted(ids_only(optimizer=optimizer), data)
    table = np.array([[9, 9], [1, 2], [3, -4], [5, 8]], np.float32)  # the OOV row first
    weights = {**model.weights(), "table/user": table, "task/bias": np.array([0.5, -1.0], np.float32)}
    model.model.load_weights(weights)
    model.fit(data, epochs=1, progress=False)  # so that there is a state
    model.model.load_weights(weights)
    value = model.fitted()
    new = recs.Interactions.from_table({"user": [4, 2, 5], "item": ["c", "b", "a"]}, query="user", candidate="item")
    found = grown(value, new)
    np.testing.assert_array_equal(found.weights["table/user"][4:], [[3, 2], [3, 2]])
    np.testing.assert_array_equal(found.weights["task/bias"], np.array([0.5, -1.0, 0.0], np.float32))
    model.fit(data, epochs=1, progress=False)
    state = grown(model.fitted(), new).progress.state
    for slot, (start, shape) in slots.items():
        array = state[f"table/user/{slot}"]
        assert array.shape == shape
        np.testing.assert_array_equal(array[4:], np.full((2, *shape[1:]), np.float32(start)))
    assert state["step"] == model.fitted().progress.state["step"]


def test_context_and_bags_grow_their_tables_and_hashed_words_do_not() -> None:
    def rows(devices: list[str], tags: list[list[str]]) -> recs.Interactions:
        n = len(devices)
        return recs.Interactions.from_table(
            {"user": ["u"] * n, "item": [f"i{k}" for k in range(n)], "device": devices},
            query="user",
            candidate="item",
            candidates={"item": [f"i{k}" for k in range(n)], "tags": tags, "title": ["some words"] * n},
        )

    model = recs.TwoTower(
        recs.TowerSpec([recs.Categorical("user", dim=4), recs.Categorical("device", dim=2)]),
        recs.TowerSpec([recs.Bag("tags", dim=3), recs.Text("title", dim=3, buckets=8)]),
        optimizer=recs.Adagrad(),
        backend=OracleBackend(),
    )
    model.fit(rows(["ios", "web"], [["a"], ["a", "b"]]), epochs=1, progress=False)
    model.extend(rows(["tv", "web", "ios"], [["c"], ["a"], ["d", "e"]]))
    assert model.schema.vocabularies["table/device"].ids.to_pylist() == ["ios", "web", "tv"]
    assert model.schema.vocabularies["table/tags"].ids.to_pylist() == ["a", "b", "c", "d", "e"]
    assert {name: len(w) for name, w in model.weights().items() if name.startswith("table/")} == {
        "table/user": 2,
        "table/device": 4,
        "table/tags": 6,
        "table/title": 8,
    }
    model.recommend(["u"], k=3, context={"device": ["tv"]})


# What it knows


def test_what_was_taken_adds_up_here_and_in_the_bundle(model: recs.TwoTower, tmp_path: Path) -> None:
    grown_up = own(model)
    grown_up.extend(days.second())
    everything = days.taken(days.first(), days.second())
    counted = Counter(item for items in everything.values() for item in items)
    served = recs.load(grown_up.save(tmp_path / "bundle"), runtime="numpy")
    for each in (grown_up, served):
        ids = each.schema.candidates.ids.to_pylist()
        assert each.catalog.counts.tolist() == [counted[id_] for id_ in ids]
        assert each.catalog.attributes["item"].to_pylist() == ids
        assert each.catalog.attributes["price"].to_pylist() == [*np.linspace(1.0, 9.0, 9), 10.0, 11.0, 12.0]
        for code, user in enumerate(each.schema.queries.ids.to_pylist()):
            seen = each.catalog.seen.take(np.array([code])).values
            assert [ids[c] for c in seen] == everything[user]
    asked = [*everything]
    a, b = (each.recommend(asked, k=12, exclude="seen") for each in (grown_up, served))
    np.testing.assert_array_equal(a.ids, b.ids)
    for user, row in zip(asked, a.ids, strict=True):
        assert not {*row} & {*everything[user]}


def test_the_runtime_grows_as_a_backend_does(model: recs.TwoTower, tmp_path: Path) -> None:
    bundle = model.save(tmp_path / "bundle", include_vectors=True)
    bare, here = recs.load(bundle, runtime="numpy"), own(model)
    for each in (bare, here):
        assert each.extend(days.second()) is each
    np.testing.assert_array_equal(bare.weights()["table/item"], here.weights()["table/item"])
    np.testing.assert_allclose(bare.encode_candidate(), here.encode_candidate(), atol=1e-6)
    asked = [100, 105, 109]
    np.testing.assert_array_equal(bare.recommend(asked, k=5).ids, here.recommend(asked, k=5).ids)


def test_nothing_new_changes_nothing(model: recs.TwoTower) -> None:
    value = model.fitted()
    again = grown(value, days.first())
    assert again.catalog.schema == value.catalog.schema
    for name, array in value.weights.items():
        assert again.weights[name] is array


def test_who_trains_on_ends_the_run_that_was_open(model: recs.TwoTower) -> None:
    class Stop(Exception):
        pass

    class Breaks:
        def on_step_end(self, record) -> None:
            if record.step == 2:
                raise Stop

    broken = own(model)
    with pytest.raises(Stop):
        broken.fit(days.first(), epochs=3, early_stopping=EarlyStopping("loss"), callbacks=[Breaks()], progress=False)
    assert broken.position.step and broken.run.open
    epochs = broken.position.epoch
    broken.extend(days.second())
    assert (broken.position.epoch, broken.position.step, broken.run) == (epochs, 0, None)
    broken.fit(days.second(), epochs=1, progress=False)
    assert broken.position.epoch == epochs + 1


# Refused, and nothing changed


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (lambda: ["u1"], "extend: expected Interactions, got list"),
        (lambda: days.second(table={"user": ["a"], "item": ["i1"], "t": [1.0]}, queries=None), "'user' holds integers"),
        (
            lambda: days.second(table={"user": [1], "item": [5], "t": [1.0]}, queries=None, candidates=None),
            "'item' holds strings",
        ),
        (lambda: days.second(candidates=None), r"Bag\('tags'\): the candidate table has no such column"),
        (lambda: days.second(queries=None), r"Numeric\('age'\): the query table has no such column"),
        (
            lambda: days.second(queries={"user": [104], "age": [1.0]}),
            r"Numeric\('age'\): 3 of 3 query rows have no finite value, the first is 107",
        ),
        (
            lambda: recs.Interactions.from_table({"who": [1], "item": ["a"]}, query="who", candidate="item"),
            "the query column is 'who', this model was trained on 'user'",
        ),
    ],
)
def test_what_cannot_join_is_refused_and_nothing_has_changed(model: recs.TwoTower, data, said: str) -> None:
    catalog, version, native = model.catalog, model.version, model.model
    with pytest.raises(DataError, match=said) as caught:
        model.extend(data())
    assert "\n" not in str(caught.value)
    assert (model.catalog, model.version, model.model) == (catalog, version, native)


def test_a_module_of_ones_own_is_refused_by_its_name(model: recs.TwoTower) -> None:
    import dataclasses

    native = Native("torch", "shop.Query", "shop:query", 5, False)
    value = dataclasses.replace(model.fitted(), natives={"query": native})
    with pytest.raises(UnsupportedFeature, match=r"extend: the query tower is a torch module, shop\.Query"):
        grown(value, days.second())


def test_before_and_during_a_fit_it_cannot_grow() -> None:
    model = every_feature()
    with pytest.raises(NotFitted):
        model.extend(days.second())

    class Grows:
        def on_step_end(self, record) -> None:
            model.extend(days.second())

    with pytest.raises(SpecError, match="this model is being fitted"):
        model.fit(days.first(), epochs=1, callbacks=[Grows()], progress=False)


@pytest.mark.skipif("torch" not in INSTALLED, reason="torch alone computes in bfloat16")
def test_a_model_that_grew_trains_on_in_the_precision_that_is_asked_for() -> None:
    """As a model of the same value does: the trainer that came with the new rows is none of the old precision."""
    model = recs.TwoTower.of(fitted(every_feature(), days.first()).fitted(), backend="torch")
    model.fit(days.first(), epochs=1, precision="bf16", progress=False)
    model.extend(days.second())
    other = recs.TwoTower.of(model.fitted(), backend="torch")
    here, there = (each.fit(days.second(), epochs=2, precision="bf16", progress=False) for each in (model, other))
    assert here["loss"] == there["loss"]


@pytest.mark.skipif("torch" not in INSTALLED, reason="held to the oracle on torch")
@pytest.mark.parametrize("time", ["history", "request"])
def test_a_model_that_reads_times_grows(time: Any) -> None:
    """New queries did nothing, at no time; old rows that are replayed bring the times that the catalog keeps."""

    def rows(users: list[int], items: str, start: float) -> recs.Interactions:
        at = [start + 500 * i for i in range(len(items))]
        table = {"user": users, "item": list(items), "ts": at}
        return recs.Interactions.from_table(table, query="user", candidate="item", timestamp="ts")

    encoder = recs.SelfAttention(layers=1, dropout=0, time=time)
    losses = []
    for backend in (OracleBackend(), "torch"):
        model = recs.TwoTower(
            query=recs.TowerSpec([recs.History("item", dim=4, max_length=5, encoder=encoder)]),
            candidate=recs.TowerSpec([recs.Categorical("item", dim=4)]),
            retrieval=recs.RetrievalSpec(negatives="corpus"),
            training=recs.TrainingSpec(epochs=2, batch_size=2, batch_by="sequence", targets=2),
            backend=backend,
            dtype="float64",
        )
        model.fit(rows([1, 1, 1, 2, 2, 2, 3, 3], "abcbcdab", 0), progress=False)
        later = rows([1, 4, 2, 4, 1], "zaczb", 50_000)
        losses.append(model.extend(later).fit(later, epochs=2, replay=0.4, progress=False)["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)
