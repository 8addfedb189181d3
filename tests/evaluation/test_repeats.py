"""Test targets that the query took in training: missed or left out, by hand, as the reference has it, on the shell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recs_core as recs
from recs_core.cli.main import main
from recs_core.contract.errors import DataError, SpecError
from recs_core.data.schema import Schema
from recs_core.evaluation import Repeats, answer_popularity, metrics, score_ranks, targets_of
from recs_core.reference.metrics import evaluate

REPEATS: tuple[Repeats, ...] = ("miss", "drop")
USER, ITEM = recs.TowerSpec([recs.Categorical("user", dim=2)]), recs.TowerSpec([recs.Categorical("item", dim=2)])


def rows(*pairs: tuple[str, str]) -> recs.Interactions:
    return recs.Interactions.from_table(
        {"user": [user for user, _ in pairs], "item": [item for _, item in pairs]}, query="user", candidate="item"
    )


# By popularity the order is a (4 rows), b (3), c (2), d (1).
TRAIN = rows(*zip("uvwxuyzyzy", "aaaabbbccd", strict=True))
TEST = rows(("u", "a"), ("u", "c"), ("v", "a"), ("w", "b"), ("w", "unheard of"))
"""u took a and b: a is a repeat, c comes first of what is left. v has a repeat alone. w has none: b comes first of what
is left, and a candidate outside the corpus is no repeat, and never found."""


def by_popularity(**options: Any) -> dict[str, float]:
    return metrics(answer_popularity(Schema.learn(USER, ITEM, TRAIN), TRAIN, TEST, **options).ranks, k=(1,))


def test_by_hand() -> None:
    missed, dropped = by_popularity(), by_popularity(repeats="drop")
    assert missed["recall@1"] == pytest.approx((1 / 2 + 0 + 1 / 2) / 3)
    assert dropped["recall@1"] == pytest.approx((1 + 1 / 2) / 2)
    assert (missed["mrr"], dropped["mrr"]) == (pytest.approx(2 / 3), 1)
    assert missed["ndcg@1"] == pytest.approx(2 / 3) and dropped["ndcg@1"] == 1
    assert missed["top_k_categorical_accuracy@1"] == 2 / 5 and dropped["top_k_categorical_accuracy@1"] == 2 / 3


def test_a_model_counts_as_the_reference_does() -> None:
    model = recs.TwoTower(USER, ITEM)
    model.fit(TRAIN, epochs=1, progress=False)
    wanted = {"u": "ac", "v": "a", "w": "bd", "y": "bcd"}
    taken = {"u": "ab", "v": "a", "w": "a", "y": "bcd"}
    test = rows(*[(user, item) for user, items in wanted.items() for item in items])
    scores = model.encode_query(list(wanted)) @ model.encode_candidate(list("abcd")).T
    columns = [[["abcd".index(item) for item in items] for items in each.values()] for each in (wanted, taken)]
    found = {how: model.evaluate(test, exclude=TRAIN, k=(1, 2), repeats=how) for how in REPEATS}
    counts = [len(TRAIN.take(TRAIN.candidate_codes == code)) for code in TRAIN.candidate_ids.encode(list("abcd"))]
    for how, metrics_found in found.items():
        expected = evaluate(scores, columns[0], (1, 2), exclude=columns[1], repeats=how, counts=counts)
        assert metrics_found == pytest.approx(expected)
    assert found["miss"]["mrr"] != found["drop"]["mrr"]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["miss", "drop"]))
def test_equal_to_the_reference(seed: int, repeats: Any) -> None:
    random = np.random.default_rng(seed)
    users, items = int(random.integers(1, 5)), int(random.integers(2, 8))
    names = [[f"u{n}" for n in range(users)], [f"i{n}" for n in range(items)]]
    taken, wanted = random.random((users, items)) < 0.4, random.random((users, items)) < 0.5
    taken[0, 0], wanted[0, 0], taken[0, 1], wanted[0, 1] = (
        True,
        True,
        False,
        True,
    )  # a repeat, and a target that is none
    everything, train, test = (
        rows(*[(names[0][u], names[1][i]) for u, i in np.argwhere(mask)])
        for mask in (np.ones_like(taken), taken, wanted)
    )
    schema = Schema.learn(USER, ITEM, everything)
    order = schema.candidates.encode(names[1])
    scores = random.integers(0, 4, items)
    asks = targets_of(schema, test, train, repeats)
    found = metrics(score_ranks(scores[np.argsort(order)], asks.codes, exclude=asks.excluded), k=(1, 2, 9))
    asked = [names[0].index(user) for user in asks.queries.to_pylist()]
    expected = evaluate(
        np.tile(scores, (len(asked), 1)),
        [np.flatnonzero(wanted[u]) for u in asked],
        (1, 2, 9),
        exclude=[np.flatnonzero(taken[u]) for u in asked],
        repeats=repeats,
    )
    assert found == pytest.approx(expected, abs=1e-12)


def test_nothing_is_dropped_where_nothing_repeats() -> None:
    other = rows(("u", "c"), ("v", "d"), ("w", "b"))
    schema = Schema.learn(USER, ITEM, TRAIN)
    found = [metrics(answer_popularity(schema, TRAIN, other, repeats=how).ranks) for how in REPEATS]
    assert found[0] == found[1]


def test_what_cannot_be_meant_is_refused() -> None:
    schema = Schema.learn(USER, ITEM, TRAIN)
    for odd in ("keep", None, True, 3):
        with pytest.raises(SpecError, match="repeats is 'miss' or 'drop', got"):
            targets_of(schema, TEST, TRAIN, odd)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="nothing is excluded; pass exclude="):
        targets_of(schema, TEST, repeats="drop")
    with pytest.raises(DataError, match="leaves nothing to measure: exclude= rules out all 1 test targets"):
        targets_of(schema, rows(("u", "a")), TRAIN, "drop")


def test_the_shell_says_how_many_and_drops_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """14 users take four of 8 items each; what they take next is the test: for even ones an item that they took."""
    lines = [(user, (user + step) % 8, step) for user in range(14) for step in range(4)]
    lines += [(user, (user + 4 * (user % 2)) % 8, 9) for user in range(14)]
    path = tmp_path / "shop.csv"
    path.write_text("user,item,t\n" + "".join(f"u{u},i{i},{1_600_000_000 + t}\n" for u, i, t in lines))
    run = tmp_path / "run"
    columns = ("--query", "user", "--candidate", "item", "--timestamp", "t", "--split", "last")

    def recs(*arguments: object) -> str:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert not ended.value.code, err
        return out

    assert "7 of 14 test targets (50.0%) are such repeats" in recs("data", "check", path, *columns)
    recs("train", path, *columns, "--epochs", "1", "--out", run)
    assert "7 of 14 test targets (50.0%) repeat a training pair: counted as missed" in recs("evaluate", run)
    assert "left out" in recs("evaluate", run, "--repeats", "drop")
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(tmp_path / "nowhere"), "--repeats", "keep"])
    assert capsys.readouterr().err == "recs: --repeats is miss or drop, got 'keep'\n"
    for how, recall in (("miss", 0.5), ("drop", 1.0)):  # a list of 10 holds all that is not excluded
        found = json.loads(recs("evaluate", run, "--json", "--repeats", how))
        assert (found["repeats"], found["targets"], found["repeated_targets"]) == (how, 14, 7)
        for name in ("model", "popularity"):
            assert found["metrics"][name]["recall@10"] == {"value": recall}
