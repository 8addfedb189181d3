"""The worlds themselves, and the plan that the core makes of a task, against the oracle in many more of them."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.conformance.checks.task import oracle
from recs_core.conformance.random_tasks import OPTIONAL, all_pairs, options_of, random_task
from recs_core.conformance.worlds import WIDE, World, ragged
from recs_core.contract.batch import Ragged
from recs_core.contract.retrieval import RetrievalSpec

SEEDS = st.integers(0, 2**31)
SOURCE = Path(__file__).parents[2] / "examples" / "numpy_backend_plugin" / "src"


@pytest.fixture(scope="module")
def numpy_task():
    """The NumPy plugin's, which follows `TaskPlan`."""
    sys.path.insert(0, str(SOURCE))
    from recs_core_numpy.task import RetrievalTask

    yield RetrievalTask
    sys.path.remove(str(SOURCE))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(seed=SEEDS)
def test_the_plan_of_a_task_gives_what_its_formula_gives(numpy_task, seed):
    world = random_task(seed)
    expected = oracle(world)
    query, candidate = np.float64(world.query), np.float64(world.candidate)
    bias = None if world.bias is None else np.float64(world.bias)
    weights = {"task/bias": bias, "task/log_temperature": world.log_temperature}
    task = numpy_task(world.spec, {name: np.float64(w) for name, w in weights.items() if w is not None}, "float64")
    loss, *gradients = task.gradients(query, candidate, bias, **world.inputs)
    assert loss == pytest.approx(expected.loss, rel=1e-11, abs=1e-11)
    for got, want in zip(
        gradients, (expected.query, expected.candidate, expected.bias, expected.log_temperature), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-11)


def test_random_tasks_cover_every_option():
    worlds = [random_task(seed) for seed in range(24)]
    for option in ("scoring", "negatives", "logq", "reduction", "learn_temperature", "candidate_bias"):
        seen = {str(getattr(world.spec, option)) for world in worlds}
        assert len(seen) == {"negatives": 4, "logq": 3}.get(option, 2), option
    assert {"positives", "score_mask"} <= {name for world in worlds for name in world.inputs}
    assert len({len(world.inputs["target_query"]) == len(world.query) for world in worlds}) == 2


@pytest.mark.parametrize("declined", [(), OPTIONAL, ("hard_negatives",)])
def test_every_two_options_that_are_not_declined_meet(declined):
    values = {
        "scoring": ["dot", "cosine"],
        "negatives": ["in-batch", "uniform", "corpus"] + ["mixed"] * ("mixed" not in declined),
        "logq": [True, False] + ["refined"] * ("refined_logq" not in declined),
        "hard_negatives": [None] + [2] * ("hard_negatives" not in declined),
        "score_mask": [False] + [True] * ("score_mask" not in declined),
        "reduction": ["mean", "sum"],
        **{name: [True, False] for name in ("learn_temperature", "candidate_bias", "mask_positives")},
        **{name: [True, False] for name in ("remove_accidental_hits", "several targets")},
    }
    met = {
        pair for world in all_pairs(declined) for pair in itertools.combinations(sorted(options_of(world), key=str), 2)
    }
    for (one, its), (other, theirs) in itertools.combinations(values.items(), 2):
        for a, b in itertools.product(its, theirs):
            assert tuple(sorted([(one, a), (other, b)], key=str)) in met, (one, a, other, b)
    assert not {value for pair in met for value in pair} - {(name, v) for name, its in values.items() for v in its}


@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_a_batchs_codes_count_within_its_rows(seed):
    batch = WIDE.with_(seed=seed, candidate_bias=True).batch()
    for features, tower in ((batch.query, WIDE.query), (batch.candidate, WIDE.candidate)):
        for feature in tower.features:
            if feature.table_name is not None:
                codes = features.codes[feature.name]
                values = codes.values if isinstance(codes, Ragged) else codes
                rows = batch.rows[feature.table_name]
                assert (np.diff(rows) > 0).all()
                assert values.max(initial=0) < len(rows)
    np.testing.assert_array_equal(batch.rows["task/bias"][batch.bias_codes], batch.task["candidate_ids"])


def test_a_world_is_the_same_again_and_batches_differ():
    first, again, other = World().batch(3), World().batch(3), World().batch(4)
    np.testing.assert_array_equal(first.query.codes["user"], again.query.codes["user"])
    np.testing.assert_array_equal(first.task["candidate_ids"], again.task["candidate_ids"])
    assert (first.task["candidate_ids"] != other.task["candidate_ids"]).any()


def test_ragged_keeps_empty_rows():
    made = ragged([[1], [], [2, 3]])
    np.testing.assert_array_equal(made.lengths, [1, 0, 2])


def test_a_world_is_changed_in_its_task_by_name_or_as_a_whole():
    cosine = RetrievalSpec(scoring="cosine")
    assert World().with_(retrieval=cosine).retrieval == cosine
    changed = World().with_(retrieval=cosine, temperature=0.3, queries=5)
    assert (changed.retrieval, changed.queries) == (RetrievalSpec(scoring="cosine", temperature=0.3), 5)
