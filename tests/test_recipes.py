"""What recipes decide from the data, by their stated rules, and that a recipe's model answers for what is new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import recs_core as recs
from recs_core.contract.errors import SpecError
from recs_core.contract.features import History
from recs_core.contract.optimizers import Adam
from recs_core.recipes import RECIPES, choice, choose, history


def test_a_small_corpus_is_trained_against_whole() -> None:
    against, why = choice.negatives(10_000)
    assert against == {"negatives": "corpus"}
    assert "10,000" in why


def test_a_large_corpus_is_sampled_and_its_positives_masked() -> None:
    against, why = choice.negatives(10_001)
    assert against == {"negatives": "uniform", "num_negatives": 4_096, "mask_positives": True}
    assert "10,001" in why


def visits(rows_a_query: int, *, times: bool) -> recs.Interactions:
    """Four visitors with so many rows each."""
    table = {"visitor": np.repeat(np.arange(4), rows_a_query), "page": np.tile(np.arange(rows_a_query), 4)}
    if times:
        table["at"] = np.arange(4 * rows_a_query)
    return recs.Interactions.from_table(table, query="visitor", candidate="page", timestamp="at" if times else None)


def test_short_histories_in_time_predict_what_comes_next() -> None:
    chosen = choose("history", visits(20, times=True))
    assert chosen.query.features == (History("page", dim=64, max_length=3),)
    assert chosen.training.batch_by == "interaction"
    assert "20 rows a query ≤ 20" in chosen.reasons[0]


@pytest.mark.parametrize(("rows", "times", "why"), [(21, True, "21 rows a query > 20"), (5, False, "no timestamps")])
def test_long_histories_and_those_without_times_predict_their_other_half(rows: int, times: bool, why: str) -> None:
    chosen = choose("history", visits(rows, times=times))
    assert chosen.query.features == (History("page", dim=64),)
    assert chosen.training.batch_by == "query"
    assert why in chosen.reasons[0]


def test_features_predicts_the_other_half_whatever_the_length() -> None:
    chosen = choose("features", visits(20, times=True))
    assert chosen.query.features[0] == History("page", dim=64)
    assert chosen.training.batch_by == "query"


def test_few_ids_take_dense_adam_and_many_take_lazy_adam_three_times_as_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    data = recs.datasets.load("report")  # 10 users, 20 movies
    assert choice.adam(data, 5e-3)[0] == Adam(5e-3, dense=True)
    monkeypatch.setattr(choice, "DENSE_ADAM_UP_TO", 29)
    assert choice.adam(data, 5e-3)[0] == Adam(1.5e-2)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_a_reason_for_each_choice(name: str) -> None:
    chosen = choose(name, recs.datasets.load("report"))
    assert len(chosen.reasons) >= 4
    assert all(reason and "\n" not in reason for reason in chosen.reasons)


def test_an_unknown_recipe_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="no recipe is called 'best'; there are ids, history, features"):
        choose("best", recs.datasets.load("report"))


def test_the_page_states_the_rules_that_the_code_has() -> None:
    page = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in RECIPES)
    for number in (choice.FULL_SOFTMAX_UP_TO, choice.SAMPLED_NEGATIVES, choice.DENSE_ADAM_UP_TO):
        assert f"{number:,}" in page
    data = recs.datasets.load("report")
    for name in RECIPES:
        chosen = choose(name, data)
        assert f"| temperature | {chosen.retrieval.temperature:g}" in page
        assert f"Adam at {chosen.optimizer.learning_rate:g}" in page
        assert f"{chosen.training.epochs} epochs" in page
        assert f"{chosen.training.batch_size} queries" in page
    short = choose("history", visits(20, times=True))
    assert f"at most {history.SHORT_UP_TO} rows a query" in page
    assert f"the latest {history.LATEST} candidates" in page
    assert f"{short.retrieval.temperature:g} by interaction" in page
    assert f"({short.training.epochs} by interaction)" in page
    assert f"{short.training.batch_size} rows a batch" in page
