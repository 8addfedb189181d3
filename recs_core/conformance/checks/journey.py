"""Whole journeys through the public face: fit, recommend, save here and load there, evaluate.

Each part was right alone. What is left is what only a journey shows: batches of other sizes, tables of real length,
weights that come from a file, vectors that must tie, scores at the ends of float32.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from recs_core import evaluation
from recs_core.conformance import expect
from recs_core.conformance.context import BackendContext
from recs_core.conformance.registry import check
from recs_core.conformance.shop import CUSTOMERS, FIRST_ITEM, ITEMS, angled, restored, shop, trained
from recs_core.contract import weights as canonical
from recs_core.contract.feature_kinds import Categorical
from recs_core.contract.plans import TowerPlan
from recs_core.contract.towers import TowerSpec
from recs_core.data.interactions import Interactions
from recs_core.loading import load
from recs_core.recommender import EMBED_ROWS, Recommender
from recs_core.reference import metrics
from recs_core.reference.backend import OracleBackend
from recs_core.two_tower import TwoTower

SHOP = ("bag", "history", "numeric", "cosine", "learn_temperature", "candidate_bias", "logq", "lazy_adam")
PARTS = (
    "towers/bag-mean", "towers/shared-table", "towers/feature-order", "towers/tanh", "task/cosine",
    "task/accidental-hits-beyond-the-batch", "training/whole-corpus", "training/learning-rate",
    "training/deterministic", "training/everything", "weights/top-k",
)  # fmt: skip
K = 12
ANSWER = 4 * expect.VECTOR["float32"]
"""Absolute, on scores in float32: vectors are of length 1 over a temperature of about a half, and two of them meet."""
QUESTIONS: dict[str, dict[str, Any]] = {
    "known customers": {"queries": CUSTOMERS},
    "what is left of what they have not bought": {"queries": CUSTOMERS, "exclude": "seen"},
    "exclusions that name an item twice, an unknown one, and all": {
        "queries": CUSTOMERS[:3],
        "exclude": [[ITEMS[1], ITEMS[1]], [FIRST_ITEM - 1], ITEMS],
    },
    "an unknown customer": {"queries": ["nobody", CUSTOMERS[0]]},
    "histories alone": {"history": [[ITEMS[3], ITEMS[3]], [], [ITEMS[29], ITEMS[0]]]},
    "nobody at all": {"queries": []},
}


@check("journey/fit", needs=SHOP, rests_on=PARTS)
def fit(context: BackendContext) -> None:
    """An epoch of `TwoTower.fit`, whose last batch is smaller, has the losses of the oracle's run (P3).

    Look at what is compiled or kept for the size of the first batch.
    """
    expected = trained(OracleBackend(), "float64").history.losses
    expect.close("the losses in float32", context.fitted.history.losses, expected, 1e-5)


@check("journey/ids", rests_on=("towers/layers",))
def ids(context: BackendContext) -> None:
    """Among 40,000 candidates with int64 ids above 2**53, customers get the right ones, as the ids they came with.

    The core makes codes of ids; a backend has the codes to keep. Look at codes in 8 or 16 bits, or in a float.
    """
    item_ids = FIRST_ITEM + np.arange(40_000)
    bought = {"customer": np.resize(CUSTOMERS, len(item_ids)), "item": item_ids}
    data = Interactions.from_table(bought, query="customer", candidate="item")
    items = np.random.default_rng(0).normal(size=(len(item_ids), 8))
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    wanted = np.resize([39_999, 32_768, 256, 128, 70], len(CUSTOMERS))  # a customer's vector is that of one item
    pad = np.zeros((1, 8))
    weights = {"table/customer": np.vstack([pad, items[wanted]]), "table/item": np.vstack([pad, items])}
    model = restored(context.backend, data, table("customer", 8), table("item", 8), weights)
    got = model.recommend(CUSTOMERS, k=1)
    expect.same("the dtype of ids", str(got.ids.dtype), "int64")
    expect.same("each customer's best item", got.ids[:, 0], item_ids[wanted])
    expect.close("its score", got.scores[:, 0], np.ones(len(CUSTOMERS)), ANSWER)


@check(
    "journey/extreme-scores",
    needs=("dot",),
    rests_on=("towers/batch-of-one", "towers/values"),
    formula="⟨10¹⁵ , ± 10¹⁵⟩ = ± 10³⁰",
)
def extreme_scores(context: BackendContext) -> None:
    """Vectors of ± 1e15 come out as they are, so that scores of ± 1e30 are in order and exclusions hold among them.

    Look for half precision, and for vectors or scores that are clipped.
    """
    data = Interactions.from_table({"customer": [0, 0, 0, 0], "item": [0, 1, 2, 3]}, query="customer", candidate="item")
    items = np.array([[0], [1e15], [-1e15], [0], [-2e15]])
    weights = {"table/customer": np.array([[0], [1e15]]), "table/item": items}
    model = restored(context.backend, data, table("customer", 1), table("item", 1), weights)
    for exclude, expected in ((None, [0, 2, 1, 3]), ([[0, 2]], [1, 3, -1, -1])):
        got = model.recommend([0], k=5, exclude=exclude)  # k is cut to the corpus of 4
        expect.same(f"the list without {exclude}", got.ids[0], expected)
        scores = [1e15 * items[1 + i, 0] if i >= 0 else -np.inf for i in expected]
        expect.same("which scores are − inf", np.isneginf(got.scores[0]), np.isneginf(scores))
        there = np.isfinite(scores)
        expect.close("the scores / 1e30", got.scores[0][there] / 1e30, np.array(scores)[there] / 1e30, 1e-6)


@check("saving/load-elsewhere", needs=SHOP, rests_on=("journey/fit", "towers/no-rows"))
def load_elsewhere(context: BackendContext) -> None:
    """What was trained here is saved under canonical names; NumPy alone, and another backend, answer as it does (P4).

    The other backend is the oracle. Look at what `weights()` gives for a model with many tables, and for anything that
    the vectors depend on and `weights()` does not hold.
    """
    model = context.fitted
    schema = model.schema
    plans = TowerPlan.of("query", model.query), TowerPlan.of("candidate", model.candidate)
    shapes = canonical.shapes(*plans, model.retrieval, schema.table_rows, len(schema.candidates))
    expect.same("the names of weights", sorted(model.weights()), sorted(shapes))
    with TemporaryDirectory() as folder:
        path = model.save(Path(folder) / "bundle")
        # Unverified: the golden queries would find most of it, but say less.
        for by, loaded in (
            ("the NumPy runtime", load(path, runtime="numpy", verify=False)),
            ("the oracle", load(path, backend=OracleBackend(), verify=False)),
        ):
            same_answers(by, model, loaded)


@check(
    "saving/load-here",
    needs=(*SHOP, "state", "float64"),
    rests_on=("saving/load-elsewhere", "weights/state", "weights/copies", "calls/memory-layout"),
)
def load_here(context: BackendContext) -> None:
    """What another backend trained loads here bit for bit, answers as there (P4), and trains on as there (P1).

    The other backend is the oracle. Weights and state come from a file: they are read-only and float64. Look for memory
    that is shared or written to, and at what `load_state` leaves as it was.
    """
    with TemporaryDirectory() as folder:
        path = trained(OracleBackend(), "float64").save(Path(folder) / "bundle")
        here, there = (load(path, backend=backend, verify=False) for backend in (context.backend, OracleBackend()))
        assert isinstance(here, TwoTower)
        assert isinstance(there, TwoTower)
        for name, value in there.weights().items():
            expect.same(f"{name} as loaded", here.weights()[name], value)
        same_answers("this backend", there, here)
        for model in (here, there):
            model.fit(shop().train, epochs=1, batch_size=len(shop().train), progress=False)  # one shape to compile for
    expect.close("the losses", here.history.losses, there.history.losses, expect.LOSS["float64"])
    expect.all_close("the weights after one more epoch", here.weights(), there.weights(), expect.WEIGHT["float64"])


def same_answers(by: str, expected: Recommender, got: Recommender) -> None:
    """The vectors of the whole catalogue, and the lists that every kind of question gets."""
    theirs = expected.encode_query(CUSTOMERS), expected.encode_candidate()
    ours = got.encode_query(CUSTOMERS), got.encode_candidate()
    for side, vectors, due in zip(("query", "candidate"), ours, theirs, strict=True):
        expect.close(f"the {side} vectors by {by}", vectors, due, ANSWER)
    for question, arguments in QUESTIONS.items():
        lists = got.recommend_codes(**arguments, k=K, unknown="quiet")
        whole = expected.recommend_codes(**arguments, k=len(ITEMS), unknown="quiet")
        best = whole.scores[:, :K]
        # The one more than there are takes up the places that are not filled.
        scores = np.full((len(best), len(ITEMS) + 1), -np.inf)
        np.put_along_axis(scores, whole.ids, whole.scores.astype(np.float64), axis=1)
        worth = np.take_along_axis(scores, lists.ids, axis=1)
        expect.same(f"{question}, by {by}: places that are filled", lists.ids >= 0, np.isfinite(best))
        expect.same(f"{question}, by {by}: scores of − inf", np.isneginf(lists.scores), np.isneginf(best))
        expect.same(f"{question}, by {by}: items that may not come back", np.isneginf(worth), np.isneginf(best))
        there = np.isfinite(best)
        expect.close(f"{question}, by {by}: the scores", lists.scores[there], best[there], ANSWER)
        expect.close(f"{question}, by {by}: what the list is worth", worth[there], best[there], ANSWER)


def table(name: str, dim: int) -> TowerSpec:
    """A tower that is a table."""
    return TowerSpec((Categorical(name, dim=dim),))


# Metrics. A customer looks one degree beside an item, so that what should tie ties exactly and nothing else does.


def purchases(number: int) -> Interactions:
    """Customer i buys item i."""
    return Interactions.from_table(
        {"customer": np.arange(number), "item": np.arange(number)}, query="customer", candidate="item"
    )


def judge_metrics(context: BackendContext, items: NDArray[np.floating]) -> None:
    """Metrics of customers who buy one item each, the i-th looking at the i-th of angles all around."""
    number = len(items)
    looks = 1 + np.arange(number) * 360 / number
    data = purchases(number)
    scores = np.cos(np.deg2rad(looks[:, None] - items))
    model = angled(context.backend, data, looks, items)
    bought_once = [1] * number  # so nothing is in the tail: its recall is NaN
    for ties in METRIC_TIES:
        expected = metrics.evaluate(scores, [[i] for i in range(number)], (1, 5), ties=ties, counts=bought_once)
        got = model.evaluate(data, k=(1, 5), ties=ties)
        expect.same("the names of metrics", sorted(got), sorted(expected))
        for name, value in expected.items():
            if np.isnan(value):
                expect.true(np.isnan(got[name]), f"{name}, ties {ties}", value, got[name])
            else:
                expect.close(f"{name}, ties {ties}", got[name], value, 1e-9)


METRIC_TIES: tuple[Literal["pessimistic", "expected"], ...] = ("pessimistic", "expected")
AROUND = np.arange(50) * 360 / 50


@check(
    "metrics/perfect",
    rests_on=("towers/layers", "weights/round-trip"),
    formula="every target in place 1: recall, NDCG and MRR are 1",
)
def perfect(context: BackendContext) -> None:
    """A model that puts each of 50 customers' item first has the metrics of a perfect one.

    Look at vectors beyond a number of rows.
    """
    judge_metrics(context, AROUND)


@check("metrics/tied", rests_on=("metrics/perfect",), formula="two tied: place 2 (pessimistic), or 1 and 2 (expected)")
def tied(context: BackendContext) -> None:
    """Items with the same features tie, so that one of two takes the second place, or half of each.

    Equal rows must give equal vectors bit for bit, wherever they stand in a batch. Look for noise, and for kernels that
    add up the last rows of a block in another order.
    """
    judge_metrics(context, AROUND // 14.4 * 14.4)


@check(
    "metrics/collapsed",
    rests_on=("metrics/tied",),
    formula="all tied: 0 (pessimistic), or what chance gives (expected)",
)
def collapsed(context: BackendContext) -> None:
    """A model whose items are all the same gets nothing for it: 0, or what chance gives.

    Equal rows must give equal vectors bit for bit. Look for a normalisation over a batch, which makes noise of what is
    all the same.
    """
    judge_metrics(context, np.full(50, 10.0))


@check("metrics/ragged-last-batch", rests_on=("metrics/perfect",), formula="over all queries at once, not over batches")
def ragged_last_batch(context: BackendContext) -> None:
    """Three customers more than are embedded at a time count as all others: a perfect model stays perfect.

    Look at what is compiled or kept for the size of the first batch.
    """
    kinds, number = 7, EMBED_ROWS + 3
    customers, kind = np.arange(number), np.arange(number) % kinds
    data = Interactions.from_table(
        {"customer": customers, "item": kind},
        query="customer",
        candidate="item",
        queries={"customer": customers, "kind": kind},
    )
    angles = np.arange(kinds) * 360 / kinds
    model = angled(context.backend, data, angles + 1, angles, name="kind")
    got = evaluation.metrics(model.rank(data), k=(1,))
    expect.same("metrics", got, dict.fromkeys(got, 1.0))
