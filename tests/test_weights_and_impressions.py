"""What an interaction brings beside its ids: how much it counts, and what was shown beside it and not taken."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import recs_core as recs
from recs_core.contract.batch import Batch
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.protocols import BatchPlan
from recs_core.data.batching import Batching
from recs_core.data.encoded import EncodedDataset
from recs_core.data.schema import Schema
from recs_core.reference import task, training
from recs_core.reference.backend import OracleBackend

USER, ITEM = recs.TowerSpec([recs.Categorical("user", dim=4)]), recs.TowerSpec([recs.Categorical("item", dim=4)])
ROWS: dict[str, Any] = {
    "user": ["u", "u", "v", "v", "w"],
    "item": ["a", "b", "a", "c", "d"],
    "t": [1.0, 2.0, 3.0, 4.0, 5.0],
    "w": [1.0, 0.0, 2.5, 1.0, 0.5],
    "shown": [["c", "d"], ["c"], ["b", "z"], ["a", "d"], []],
}


def read(**columns: Any) -> recs.Interactions:
    table = {**ROWS, **columns}
    return recs.Interactions.from_table(
        table, query="user", candidate="item", timestamp="t", weight="w", negatives="shown"
    )


def batches(data: recs.Interactions, spec: recs.RetrievalSpec, **settings: Any) -> list[Batch]:
    schema = Schema.learn(USER, ITEM, data)
    plan = BatchPlan.of(recs.TrainingSpec(**settings), spec)
    return list(Batching(EncodedDataset.encode(USER, ITEM, schema, data)).batches(plan, seed=1, epoch=0))


PLAIN = recs.RetrievalSpec(remove_accidental_hits=False, candidate_bias=False)


def test_a_row_weighs_what_its_column_says_and_recency_multiplies_it() -> None:
    without = recs.Interactions.from_table(ROWS, query="user", candidate="item", timestamp="t")
    for settings in ({}, {"recency_days": 2e-5}, {"row_weight": 0.5}, {"recency_days": 2e-5, "row_weight": 0.0}):
        (got,) = batches(read(), PLAIN, batch_size=5, **settings)
        (plain,) = batches(without, PLAIN, batch_size=5, **settings)
        row = [list(zip(ROWS["user"], ROWS["item"], strict=True)).index(pair) for pair in _pairs(got, without)]
        expected = np.array(ROWS["w"])[row] * plain.task.get("sample_weight", np.ones(5))
        np.testing.assert_allclose(got.task["sample_weight"], expected, rtol=1e-12)


def _pairs(batch: Batch, data: recs.Interactions) -> list[tuple[str, str]]:
    users = batch.rows["table/user"][batch.query.codes["user"][batch.task["target_query"]]] - 1  # type: ignore[call-overload]
    items = batch.task["candidate_ids"][batch.task["target_candidate"]]
    return [
        (data.query_ids.ids[int(u)].as_py(), data.candidate_ids.ids[int(i)].as_py())
        for u, i in zip(users, items, strict=True)
    ]


def test_a_weight_leaves_popularity_corrections_and_metrics_alone() -> None:
    weighted = recs.Interactions.from_table(ROWS, query="user", candidate="item", timestamp="t", weight="w")
    plain = recs.Interactions.from_table(ROWS, query="user", candidate="item", timestamp="t")
    (a,), (b,) = batches(weighted, PLAIN, batch_size=5), batches(plain, PLAIN, batch_size=5)
    for name in ("candidate_sampling_probability", "candidate_ids", "target_query"):
        np.testing.assert_array_equal(a.task[name], b.task[name])  # type: ignore[literal-required]
    model = recs.TwoTower(USER, ITEM, backend=OracleBackend())
    model.fit(weighted, epochs=1, progress=False)
    assert model.catalog.counts.tolist() == [2, 1, 1, 1]
    with_weights, without = model.evaluate(weighted, k=[1]), model.evaluate(plain, k=[1])
    assert with_weights == pytest.approx(without, nan_ok=True)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1, -1, 1, 1, 1], r"a weight is 0, or a number from 1e-30 to 1e\+30, got -1 in row 1 \(counting from 0\)"),
        ([1, 1, float("nan"), 1, 1], r"a weight is 0, or a number from 1e-30 to 1e\+30, got None in row 2"),
        ([1, None, 1, 1, 1], r"a weight is 0, or a number from 1e-30 to 1e\+30, got None in row 1"),
        ([1, 1, 1, 1, float("inf")], r"a weight is 0, or a number from 1e-30 to 1e\+30, got inf in row 4"),
        ([1, 1e308, 1, 1, 1], r"a weight is 0, or a number from 1e-30 to 1e\+30, got 1e\+308 in row 1"),
        ([1, 1, 1e-300, 1, 1], r"a weight is 0, or a number from 1e-30 to 1e\+30, got 1e-300 in row 2"),
        ([0] * 5, "all 5 weights are 0, so nothing would be learnt; leave weight out"),
        (["a"] * 5, "needs numbers, got strings"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_meant_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(w=weights)


def test_roles_are_columns_of_their_own() -> None:
    for wrong in ({"weight": "t"}, {"negatives": "w", "weight": "w"}, {"weight": 3}, {"negatives": "nowhere"}):
        with pytest.raises(DataError, match="must be different|is the name of a column|no column 'nowhere'"):
            recs.Interactions.from_table(ROWS, query="user", candidate="item", timestamp="t", **wrong)  # type: ignore[arg-type]


def test_a_part_whose_weights_are_all_0_trains_nothing() -> None:
    part = read().take([1])
    with pytest.raises(DataError, match="all 1 rows have weight 0: nothing would be learnt"):
        recs.TwoTower(USER, ITEM, PLAIN, backend=OracleBackend()).fit(part)


def test_tables_splits_and_digests_know_weights_and_lists() -> None:
    data = read()
    table = data.take([4, 2]).to_table()
    assert table["w"].to_pylist() == [0.5, 2.5] and table["shown"].to_pylist() == [[], ["b"]]
    again = recs.Interactions.from_table(
        table, query="user", candidate="item", timestamp="t", weight="w", negatives="shown"
    )
    assert again.weights is not None and again.weights.tolist() == [0.5, 2.5]
    assert len({data.digest(), read(w=[1.0] * 5).digest(), read(shown=[[]] * 5).digest()}) == 3
    core = read(item=["a", "b", "a", "b", "e"], shown=[["e", "b"], ["e"], ["b"], ["a"], ["a"]]).filter(
        min_per_candidate=2
    )
    assert core.to_table()["shown"].to_pylist() == [["b"], [], ["b"], ["a"]]


def test_what_was_shown_is_a_negative_of_its_own_row_alone() -> None:
    """By hand: v took a and c, so that of its lists, b and z and a and d, b and d stay; z is no candidate."""
    (batch,) = batches(read(), PLAIN, batch_size=5)
    own = {("u", "a"): "cd", ("u", "b"): "c", ("v", "a"): "b", ("v", "c"): "d", ("w", "d"): ""}
    drawn, ids = batch.task["uncorrected_from"], batch.task["candidate_ids"]
    assert drawn == 5 and ["abcd"[code] for code in ids[drawn:]] == ["b", "c", "d"]
    for row, pair in enumerate(_pairs(batch, read())):
        kept = batch.task["score_mask"][row]
        assert kept[:drawn].all()
        assert "".join("abcd"[code] for code in ids[drawn:][kept[drawn:]]) == own[pair]


@pytest.mark.parametrize("negatives", ["in-batch", "uniform", "mixed"])
@pytest.mark.parametrize("logq", [False, True, "refined"])
def test_the_loss_is_that_of_each_row_with_its_own_list_uncorrected(negatives: Any, logq: Any) -> None:
    """Worked out target by target from the batch's vectors, with −log q or −log(n q) for draws alone."""
    if negatives == "uniform" and logq == "refined":
        pytest.skip("uniform negatives have one correction")
    spec = recs.RetrievalSpec(
        negatives=negatives,
        num_negatives=None if negatives == "in-batch" else 3,
        logq=logq,
        remove_accidental_hits=False,
        candidate_bias=False,
        temperature=0.5,
    )
    (batch,) = batches(read(w=[1.0] * 5), spec, batch_size=5)
    random = np.random.default_rng(0)
    q, c = random.normal(size=(5, 4)), random.normal(size=(len(batch.task["candidate_ids"]), 4))
    got = task.loss_and_gradients(spec, q, c, **batch.task).losses
    unit_q, unit_c = (x / np.sqrt((x**2).sum(1, keepdims=True) + 1e-12) for x in (q, c))
    scores = unit_q @ unit_c.T / 0.5
    start, drawn = batch.task["negatives_from"], batch.task["uncorrected_from"]
    probability = batch.task.get("candidate_sampling_probability")
    for t, (r, p) in enumerate(zip(batch.task["target_query"], batch.task["target_candidate"], strict=True)):
        terms, z = [], scores[r, p]
        if probability is not None and logq is True and negatives != "uniform":
            z -= np.log(probability[p])
        for j in range(start, len(c)):
            if j == p or not batch.task["score_mask"][r, j]:
                continue
            draws = drawn - start if negatives == "uniform" or logq == "refined" else 1
            corrected = probability is not None and j < drawn
            terms.append(scores[r, j] - (np.log(probability[j] * draws) if corrected else 0))
        assert got[t] == pytest.approx(np.log(np.exp([*terms, z]).sum()) - z, rel=1e-9)


def test_by_query_what_any_target_was_shown_is_a_negative_of_its_query() -> None:
    (batch,) = batches(read(), PLAIN, batch_size=5, batch_by="query")
    drawn, ids = batch.task["uncorrected_from"], batch.task["candidate_ids"]
    users = batch.rows["table/user"][batch.query.codes["user"]] - 1  # type: ignore[call-overload]
    own = {"u": "cd", "v": "bd", "w": ""}
    for row, user in enumerate(users):
        kept = batch.task["score_mask"][row][drawn:]
        assert "".join("abcd"[code] for code in ids[drawn:][kept]) == own["uvw"[user]]


def test_unknown_ids_are_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "recs_core"):
        read()
    assert "shown: 1 of 7 are no candidate of these interactions: left out" in caplog.text


def test_lists_that_cannot_be_meant_are_refused() -> None:
    with pytest.raises(DataError, match=r"row 3 \(counting from 0\) took 'c' and lists it among those not taken"):
        read(shown=[[], [], [], ["a", "c"], []])
    with pytest.raises(DataError, match="needs a list column of strings or integers"):
        read(shown=["a", "b", "c", "d", "e"])
    with pytest.raises(SpecError, match="'corpus' has every candidate as a negative already"):
        recs.TwoTower(USER, ITEM, recs.RetrievalSpec(negatives="corpus"), backend=OracleBackend()).fit(read())


@pytest.mark.parametrize("ids", [["a", "b", "", "c"], [10, 20, 0, 30]])
def test_a_null_in_a_list_is_no_candidate(ids: list[Any]) -> None:
    """Nor is it the candidate that is named by nothing, or by 0."""
    shown = [[ids[1], None], None, [], [None]]
    data = recs.Interactions.from_table(
        {"user": [1, 1, 2, 2], "item": ids, "shown": shown}, query="user", candidate="item", negatives="shown"
    )
    assert data.to_table()["shown"].to_pylist() == [[ids[1]], [], [], []]


def test_lists_of_integers_beside_ids_of_strings_are_refused() -> None:
    with pytest.raises(DataError, match="column 'shown': the candidates' ids are strings, but these are integers"):
        read(shown=[[1], [2], [], [], []])


def test_a_csv_file_has_its_lists_as_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("user,item,shown\n1,10,20|30\n2,20,\n1,30,20\n")
    data = recs.Interactions.from_table(path, query="user", candidate="item", negatives="shown", lists={"shown": "|"})
    assert data.to_table()["shown"].to_pylist() == [[20, 30], [], [20]]


def test_mined_negatives_are_the_best_that_were_never_taken() -> None:
    random = np.random.default_rng(1)
    table = {"user": random.integers(0, 5, 40), "item": random.integers(0, 9, 40)}
    data = recs.Interactions.from_table(table, query="user", candidate="item")
    model = recs.TwoTower(USER, ITEM, backend=OracleBackend())
    model.fit(data, epochs=1, progress=False)
    for k, skip in ((2, 0), (3, 1), (20, 0)):
        mined = model.mine_negatives(data, k=k, skip=skip).to_table()
        scores = model.encode_query(list(range(5))) @ model.encode_candidate().T
        for row in mined.to_pylist():
            code = model.schema.queries.encode(pa.array([row["user"]]))[0]
            taken = {r["item"] for r in mined.to_pylist() if r["user"] == row["user"]}
            ranked = [
                model.schema.candidates.ids[int(i)].as_py()
                for i in np.argsort(-scores[list(range(5)).index(row["user"])], kind="stable")
            ]
            assert code >= 0
            assert row["mined"] == [item for item in ranked if item not in taken][skip : skip + k]
    model.fit(model.mine_negatives(data, k=2), epochs=1, progress=False)
    for wrong in ({"k": 0}, {"k": 1.5}, {"skip": -1}, {"skip": 9}):
        with pytest.raises(SpecError, match="mine_negatives: "):
            model.mine_negatives(data, **wrong)  # type: ignore[arg-type]


def test_mined_candidates_that_the_rows_do_not_know_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    model = recs.TwoTower(USER, ITEM, backend=OracleBackend())
    model.build(read())  # of candidates that are more than these two
    rows = {"user": ROWS["user"][:2], "item": ROWS["item"][:2]}
    few = recs.Interactions.from_table(rows, query="user", candidate="item")
    with caplog.at_level("INFO", "recs_core"):
        mined = model.mine_negatives(few, k=9).to_table()["mined"].to_pylist()
    assert {item for items in mined for item in items} <= set(rows["item"])
    corpus = len(model.schema.candidates)
    taken = {user: {i for u, i in zip(*rows.values(), strict=True) if u == user} for user in rows["user"]}
    found = sum(corpus - len(items) for items in taken.values())
    lost = len(taken) * (corpus - len(set(rows["item"])))
    assert f"mine_negatives: {lost} of {found} found are no candidates of train" in caplog.text


def test_negatives_are_mined_of_interactions() -> None:
    model = recs.TwoTower(USER, ITEM, backend=OracleBackend())
    model.build(read())
    with pytest.raises(DataError, match="mine_negatives: train must be Interactions, got dict"):
        model.mine_negatives(ROWS)  # type: ignore[arg-type]
    named = recs.Interactions.from_table({**ROWS, "mined": [0] * 5}, query="user", candidate="item")
    with pytest.raises(DataError, match="mine_negatives: train has a column 'mined', which the lists would hide"):
        model.mine_negatives(named)


def test_every_gradient_of_the_task_with_lists_is_the_slope_of_its_loss() -> None:
    (batch,) = batches(read(w=[1.0] * 5), PLAIN, batch_size=5)
    schema = Schema.learn(USER, ITEM, read())
    weights = {
        "table/user": np.random.default_rng(2).normal(size=(4, 4)),
        "table/item": np.random.default_rng(3).normal(size=(schema.table_rows["table/item"], 4)),
    }
    model = training.Model(USER, ITEM, PLAIN)
    _, gradient = training.gradients(model, weights, batch)
    for name, weight in weights.items():
        for place in ((1, 0), (2, 3)):
            step = np.zeros_like(weight)
            step[place] = 1e-6
            above, below = (
                training.gradients(model, {**weights, name: weight + sign * step}, batch)[0] for sign in (1, -1)
            )
            assert gradient[name][place] == pytest.approx((above - below) / 2e-6, rel=1e-4, abs=1e-8)
