"""What recipes decide from the data, by their stated rules, and that a recipe's model answers for what is new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import DataError, SpecError
from recs_core.contract.feature_kinds import History
from recs_core.contract.optimizers import Adam
from recs_core.contract.training import BatchBy
from recs_core.experiment import DataSpec, Experiment, ModelSpec, execute
from recs_core.recipes import RECIPES, choice, choose, history, suggest
from recs_core.recipes.lift import lift


def corpus(size: int, **columns: object) -> recs.Interactions:
    """One query that took everything once."""
    table = {"user": ["u"] * size, "item": np.arange(size), **columns}
    return recs.Interactions.from_table(table, query="user", candidate="item", negatives=next(iter(columns), None))


def test_a_small_corpus_is_trained_against_whole() -> None:
    against, why = choice.negatives(corpus(10_000))
    assert against == {"negatives": "corpus"}
    assert "10,000" in why


def test_a_large_corpus_is_sampled_and_its_positives_masked() -> None:
    against, why = choice.negatives(corpus(10_001))
    assert against == {"negatives": "uniform", "num_negatives": 4_096, "mask_positives": True}
    assert "10,001" in why


def test_where_rows_say_what_they_were_shown_that_joins_a_sample() -> None:
    against, why = choice.negatives(corpus(9, shown=[[(row + 1) % 9] for row in range(9)]))
    assert against == {"negatives": "uniform", "num_negatives": 9, "mask_positives": True}
    assert "what they were shown" in why


def visits(rows_per_query: int, *, times: bool) -> recs.Interactions:
    """Four visitors with so many rows each."""
    table = {"visitor": np.repeat(np.arange(4), rows_per_query), "page": np.tile(np.arange(rows_per_query), 4)}
    if times:
        table["at"] = np.arange(4 * rows_per_query)
    return recs.Interactions.from_table(table, query="visitor", candidate="page", timestamp="at" if times else None)


def test_short_histories_in_time_predict_what_comes_next() -> None:
    chosen = choose("history", visits(20, times=True))
    assert chosen.query.features == (History("page", dim=64, max_length=3),)
    assert chosen.training.batch_by == "interaction"
    assert "20 rows per query ≤ 20" in chosen.reasons[0]


@pytest.mark.parametrize(("rows", "times", "why"), [(21, True, "21 rows per query > 20"), (5, False, "no timestamps")])
def test_long_histories_and_those_without_times_predict_their_other_half(rows: int, times: bool, why: str) -> None:
    chosen = choose("history", visits(rows, times=times))
    assert chosen.query.features == (History("page", dim=64),)
    assert chosen.training.batch_by == "query"
    assert why in chosen.reasons[0]


def test_features_predicts_the_other_half_whatever_the_length() -> None:
    chosen = choose("features", visits(20, times=True))
    assert chosen.query.features[0] == History("page", dim=64)
    assert chosen.training.batch_by == "query"


def test_the_temperature_falls_with_rows_per_query_and_with_the_lift() -> None:
    by_rows = [choice.temperature(rows, 1.0) for rows in (10, 30, 60, 120, 200)]
    by_lift = [choice.temperature(25, shared) for shared in (1.0, 2.0, 4.0, 8.0, 16.0)]
    assert by_rows == sorted(set(by_rows), reverse=True)
    assert by_lift == sorted(set(by_lift), reverse=True)


@pytest.mark.parametrize(
    ("rows", "shared", "step", "expected"),
    [
        (132.2, 0.79, "query", 0.2),  # MovieLens-1M
        (84.8, 0.86, "query", 0.25),  # MovieLens-100K
        (59.8, 0.95, "query", 0.25),  # Online Retail
        (27.1, 4.75, "query", 0.105),  # Gowalla
        (7.9, 11.5, "interaction", 0.12),  # Beauty
    ],
)
def test_the_measured_sets_keep_the_temperatures_that_their_results_were_made_with(
    rows: float, shared: float, step: BatchBy, expected: float
) -> None:
    assert choice.temperature(rows, shared, step) == expected


def test_more_rows_than_were_ever_tried_sharpen_nothing_further() -> None:
    assert choice.temperature(5_000, 1.0) == choice.temperature(choice.ROWS_UP_TO, 1.0)


@pytest.mark.parametrize(("rows", "shared"), [(0.0, 0.0), (1.0, 1e6), (1e9, 1.0), (1e9, 1e9)])
def test_no_data_takes_the_temperature_beyond_what_was_tried(rows: float, shared: float) -> None:
    assert choice.TEMPERATURES[0] <= choice.temperature(rows, shared) <= choice.TEMPERATURES[-1]


def taken(query: np.ndarray, candidate: np.ndarray) -> recs.Interactions:
    return recs.Interactions.from_table({"q": query, "c": candidate}, query="q", candidate="c")


def test_lift_by_hand() -> None:
    """Queries 0 and 1 took candidates 0 and 1; query 2 took 2 and 3. So 0 and 1 share both with the other one, 2 shares
    nothing: 2 + 2 + 0 ordered pairs. By chance, of 6 rows and 3 queries of 2: each pair of candidates (1 + 1)² − 2 = 2
    times Σ d(d − 1) ÷ 6² = 6 ÷ 36, for queries 0 and 1."""
    data = taken(np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 2, 3]))
    assert lift(data) == pytest.approx((2 + 2 + 0) / ((2 + 2 + 0) * 6 / 36))


def towns(size: int) -> recs.Interactions:
    """400 queries with 12 of 400 candidates each, in towns of so many candidates that nobody leaves."""
    random = np.random.default_rng(0)
    query = np.repeat(np.arange(400), 12)
    town = random.integers(0, 400 // size, 400)
    picked = np.concatenate([random.permutation(size)[:12] for _ in range(400)])
    return taken(query, np.repeat(town, 12) * size + picked)


def test_lift_is_one_where_popularity_decides_and_grows_as_towns_shrink() -> None:
    one, five, twenty = lift(towns(400)), lift(towns(80)), lift(towns(20))
    assert one == pytest.approx(1, abs=0.1)
    assert five == pytest.approx(5, rel=0.15)
    assert twenty > 3 * five


def test_lift_stays_where_rows_are_dropped_at_random() -> None:
    data = towns(40)
    half = data.take(np.random.default_rng(1).random(len(data)) < 0.5)
    assert lift(half) == pytest.approx(lift(data), rel=0.1)


def test_lift_of_rows_that_share_nothing_is_one_or_less() -> None:
    assert lift(taken(np.arange(4), np.arange(4))) == 1.0
    assert lift(taken(np.repeat(np.arange(4), 2), np.arange(8))) <= 1.0


def test_repeated_rows_count_once_in_the_lift() -> None:
    data = towns(40)
    assert lift(data.take(np.concatenate([np.arange(len(data))] * 2))) == lift(data)


def test_the_corpus_alone_does_not_decide_the_temperature_of_history_by_query() -> None:
    """As many candidates and rows, and no timestamps: where queries share much, scores are sharper."""
    spread, local = (choose("history", towns(size)).retrieval.temperature for size in (400, 20))
    assert local < spread / 2


def dated(rows: int, *, times: bool, unseen: int = 0) -> recs.Interactions:
    """Visits to as many pages as each visitor has rows, and pages with a kind that nobody has visited."""
    base = visits(rows, times=times).to_table()
    kinds = {"page": np.arange(rows + unseen), "kind": ["a", "b"] * ((rows + unseen) // 2)}
    return recs.Interactions.from_table(
        base, query="visitor", candidate="page", timestamp="at" if times else None, candidates=kinds
    )


@pytest.mark.parametrize(
    ("data", "name", "why"),
    [
        (visits(20, times=False), "history", "no timestamps, 20 rows per query ≤ 20"),
        (visits(21, times=False), "ids", "no timestamps, 21 rows per query > 20"),
        (visits(40, times=True), "history", "rows have times (40 rows per query)"),
        (dated(40, times=True, unseen=2), "history", "rows have times"),
        (dated(38, times=True, unseen=2), "features", "2 of 40 candidates have no training row, but have kind"),
    ],
)
def test_the_better_guess_and_why(data: recs.Interactions, name: str, why: str) -> None:
    found, reason = suggest(data)
    assert found == name
    assert why in reason
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("name", "lines"), [("history", []), ("ids", ["recipe history would be the better guess here:"])]
)
def test_a_run_says_which_recipe_would_be_the_better_guess_where_it_is_another(name: str, lines: list[str]) -> None:
    said: list[str] = []
    run = Experiment(DataSpec("report", split=None), ModelSpec(recipe=name))
    execute(run, epochs=1, progress=False, say=said.append)
    assert [
        line[: len("recipe history would be the better guess here:")] for line in said if "better guess" in line
    ] == lines


def test_few_ids_take_dense_adam_and_many_take_lazy_adam_three_times_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    data = recs.datasets.load("report")  # 10 users, 20 movies
    assert choice.adam(data, 5e-3)[0] == Adam(5e-3, dense=True)
    monkeypatch.setattr(choice, "DENSE_ADAM_UP_TO", 29)
    assert choice.adam(data, 5e-3)[0] == Adam(1.5e-2)


@pytest.mark.parametrize(
    ("rows", "layers", "length", "dropout", "size", "epochs"),
    [(20, 1, 50, 0.35, 512, 60), (21, 2, 200, 0.2, 128, 40)],
)
def test_sequences_are_encoded_by_how_long_they_are(
    rows: int, layers: int, length: int, dropout: float, size: int, epochs: int
) -> None:
    chosen = choose("sequence", visits(rows, times=True))
    (read,) = chosen.query.features
    encoder = recs.SelfAttention(layers=layers, heads=2, dropout=dropout)
    assert read == History("page", dim=64, max_length=length, encoder=encoder)
    assert (chosen.training.batch_by, chosen.training.batch_size) == ("sequence", size)
    assert chosen.training.epochs == epochs
    assert chosen.retrieval.mask_positives
    assert f"a median of {rows} rows per query" in chosen.reasons[0]


def test_sequences_need_times() -> None:
    with pytest.raises(DataError, match=r"recipe 'sequence' reads candidates in their order: name the time"):
        choose("sequence", visits(9, times=False))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_a_reason_for_each_choice(name: str) -> None:
    chosen = choose(name, visits(4, times=True))
    assert len(chosen.reasons) >= 4
    assert all(reason and "\n" not in reason for reason in chosen.reasons)


def test_an_unknown_recipe_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="no recipe is called 'best'; there are ids, history, sequence, features"):
        choose("best", recs.datasets.load("report"))


def test_the_page_states_the_rules_that_the_code_has() -> None:
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in RECIPES)
    for number in (choice.FULL_SOFTMAX_UP_TO, choice.SAMPLED_NEGATIVES, choice.DENSE_ADAM_UP_TO):
        assert f"{number:,}" in page
    for name in RECIPES:
        chosen = choose(name, visits(4, times=True) if name == "sequence" else recs.datasets.load("report"))
        assert f"Adam at {chosen.optimizer.learning_rate:g}" in page
        assert f"{chosen.training.epochs} epochs" in page
        unit = {"query": "queries", "interaction": "rows per batch", "sequence": "sequences"}[chosen.training.batch_by]
        assert f"{chosen.training.batch_size} {unit}" in page
    short = choose("history", visits(20, times=True))
    assert f"at most {history.SHORT_UP_TO} rows per query" in page
    assert f"the latest {history.LATEST} candidates" in page
    formula = "1.33 ÷ (rows per query^0.4 × lift^0.8)"
    assert formula in page
    assert formula in str(choice.temperature.__doc__)
    assert f"times {choice.NEXT:g} by interaction" in page
    assert ", ".join(f"{step:g}" for step in choice.TEMPERATURES) in page
    assert f"({short.training.epochs} by interaction)" in page
    assert f"{short.training.batch_size} rows per batch" in page


def asked(hours: list[int | None], **side: object) -> recs.Interactions:
    """Two queries, whose rows tell an hour."""
    rows = {"user": ["u", "u", "v", "v"], "page": ["a", "b", "a", "b"], "hour": hours}
    return recs.Interactions.from_table(rows, query="user", candidate="page", **side)


def test_context_that_is_named_twice_is_read_once() -> None:
    names = [f.name for f in choose("features", asked([1, 2, 3, 4]), context=["hour", "hour"]).query.features]
    assert names.count("hour") == 1


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (asked([1, None, 3, 4]), "context: 'hour' cannot be read: 1 of 4 numbers are missing; fill them"),
        (asked([None] * 4), "context: 'hour' cannot be read: it has no value at all"),
        (
            asked([1, 2, 3, 4], queries={"user": ["u", "v"], "hour": [1, 2]}),
            "and the side table of queries have column 'hour'",
        ),
    ],
    ids=["a null", "nulls", "a query's too"],
)
def test_context_that_is_asked_for_is_read_or_refused(data: recs.Interactions, said: str) -> None:
    with pytest.raises(DataError, match=said):
        choose("features", data, context=["hour"])


def test_context_beside_a_candidate_of_that_column_is_another_thing() -> None:
    data = asked([1, 1, 2, 2], candidates={"page": ["a", "b"], "hour": [1, 2]})
    read = [f for f in choose("features", data, context=["hour"]).query.features if f.name == "hour"]
    assert len(read) == 1
