"""Tiers, list agreement and verdicts, on cases worked by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recs_core.compare.agreement import Tier, _spearman, compare, tier, window
from recs_core.compare.defaults import REPORT
from recs_core.compare.job import Job
from recs_core.compare.processes import Answer
from recs_core.contract.optimizers import Adagrad, Adam
from recs_core.experiment import DataSpec, Experiment

P3 = Tier("P3", "for a test", 100, 1e-5, 1e-5, 1e-4)
P5 = Tier("P5", "for a test", 100, None, 1e-5, None)
RUN = Experiment(DataSpec("report"), REPORT)


def answer(name="a", losses=(3.0, 2.0), weights=None, queries=None, candidates=None, lists=None, metric=None):
    """One training as a worker reports it. Three candidates on a line, scores 3, 2 and 1, unless given."""
    candidates = np.array([[3.0], [2.0], [1.0]]) if candidates is None else np.array(candidates)
    queries = np.ones((1, 1)) if queries is None else np.array(queries)
    scores = queries @ candidates.T
    codes = np.argsort(-scores, axis=1, kind="stable") if lists is None else np.array(lists)
    arrays = {
        "losses": np.array(losses),
        "vectors/query": queries,
        "vectors/candidate": candidates,
        "lists/codes": codes,
        "lists/scores": np.take_along_axis(scores, codes, 1),
    }
    for step, value in (weights or {0: 1.0, 1: 1.0, 2: 1.0}).items():
        arrays |= {f"weights/{step}/table/x": np.array([value]), f"weights/{step}/b": np.array([0.0])}
    if metric is not None:
        arrays |= {"metrics/model/mrr": np.array(metric), "metrics/model-targets": np.ones(len(metric), np.int64)}
        arrays["metrics/model-queries"] = np.arange(len(metric))
    digests = {"0": {"weights": "w"}, "1": {"weights": "v", "batch": "b"}}
    job = Job(name, "measure", {}, [], 3, 1, "", "", 2)
    return Answer(job, {"digests": digests}, arrays, 0.1)


def judged(first, second, held_to=P3):
    return compare(first, second, held_to=held_to, shown=1, k=2)


def failed(pair):
    return [check.what for check in pair.checks if not check.ok]


@pytest.mark.parametrize(
    ("run", "steps", "expected"),
    [
        (RUN, 40, "P3"),
        (RUN, 101, "P3+P5"),
        (replace(RUN, dtype="float64"), 40, "P1"),
        (replace(RUN, model=replace(REPORT, optimizer=Adam(0.01, epsilon=1e-7))), 40, "P5"),
        (replace(RUN, model=replace(REPORT, optimizer=Adagrad(0.1, initial_accumulator=0.0))), 40, "P5"),
        (replace(RUN, model=replace(REPORT, query=replace(REPORT.query, final_activation="relu"))), 40, "P5"),
        (replace(RUN, model=replace(REPORT, query=replace(REPORT.query, activation="relu"))), 40, "P3"),
        (
            replace(RUN, model=replace(REPORT, query=replace(REPORT.query, activation="relu", layers=(16, 16)))),
            40,
            "P5",
        ),
    ],
    ids=[
        "smooth",
        "long",
        "float64",
        "tiny epsilon",
        "empty accumulator",
        "relu at the end",
        "relu unused",
        "relu inside",
    ],
)
def test_tier_of_a_run(run, steps, expected):
    assert tier(run, run.model, steps, 4).name == expected


def test_window_is_all_of_a_short_run_and_the_first_epoch_of_a_long_one():
    assert [window(40, 4), window(100, 10), window(832, 16), window(10_000, 500)] == [40, 100, 16, 100]


def test_the_same_twice():
    pair = judged(answer(), answer("b"))
    assert pair.agree and pair.parting is None
    assert (pair.overlap, pair.same_lists, pair.rank_correlation, pair.score_difference) == (1, 1, pytest.approx(1), 0)


def test_losses_are_relative_to_the_loss_or_to_one():
    assert judged(answer(losses=(100.0,)), answer("b", losses=(100.0009,))).agree
    assert failed(judged(answer(losses=(0.01,)), answer("b", losses=(0.01002,)))) == ["loss"]


def test_where_they_part_is_the_first_step_looked_at_and_its_tensor():
    pair = judged(answer(), answer("b", weights={0: 1.0, 1: 1.0 + 1e-6, 2: 1.1}))
    assert pair.parting["step"] == 2 and pair.parting["tensor"] == "table/x"
    assert pair.parting["difference"] == pytest.approx(0.1 / 1.1)


def test_what_all_scores_of_a_query_move_by_is_no_difference():
    one = answer(queries=[[1.0, 1.0]], candidates=[[3.0, 0], [2.0, 0], [1.0, 0]])
    other = answer("b", queries=[[1.0, 1.0]], candidates=[[3.0, 0.5], [2.0, 0.5], [1.0, 0.5]])
    pair = judged(one, other)
    assert pair.agree
    assert pair.score_difference == pytest.approx(0.5)
    assert pair.score_error == pytest.approx(0, abs=1e-12)


def test_a_swap_of_near_ties_is_the_same_list_and_another_is_not():
    tied = [[3.0], [3.0 - 1e-8], [1.0]]
    assert judged(answer(candidates=tied), answer("b", candidates=tied, lists=[[1, 0, 2]])).agree
    assert failed(judged(answer(), answer("b", lists=[[1, 0, 2]]))) == ["lists"]


def test_scores_too_far_apart_excuse_no_swap():
    pair = judged(answer(), answer("b", candidates=[[2.0], [3.0], [1.0]]))
    assert failed(pair) == ["scores"]
    assert "DIFFER" in pair.line()


def test_overlap_counts_sets_not_order():
    pair = judged(answer(lists=[[0, 1, 2]]), answer("b", lists=[[2, 0, 1]]))
    assert pair.overlap == 0.5  # of the first two, candidate 0


def test_p5_asks_for_metrics_within_each_others_interval():
    low, high = [0.0, 0.2, 0.1, 0.0, 0.1] * 4, [1.0, 0.9, 1.0, 0.8, 1.0] * 4
    assert judged(answer(metric=low), answer("b", metric=low[::-1]), P5).agree
    assert failed(judged(answer(metric=low), answer("b", metric=high), P5)) == ["metrics"]


def test_p5_still_holds_the_first_loss():
    assert failed(judged(answer(losses=(3.0, 2.0)), answer("b", losses=(3.1, 2.0)), P5)) == ["first loss"]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3], [10, 20, 30], 1),
        ([1, 2, 3], [3, 2, 1], -1),
        ([1, 2, 3, 4], [1, 2, 4, 3], 0.8),  # 1 − 6·Σd² / n(n² − 1) = 1 − 12/60
        ([1, 1, 2], [1, 2, 3], np.sqrt(3) / 2),  # ranks 1.5, 1.5, 3 against 1, 2, 3
        ([5, 5], [1, 1], 1),
        ([5, 5], [1, 2], 0),
    ],
)
def test_rank_correlation(a, b, expected):
    assert _spearman(np.array(a, float), np.array(b, float)) == pytest.approx(expected)
