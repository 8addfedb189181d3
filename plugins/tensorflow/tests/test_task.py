"""The loss: against the float64 oracle, in many blocks, and against `tfrs.tasks.Retrieval` itself."""

from __future__ import annotations

import gc
import itertools
import weakref
from typing import Any

import numpy as np
import pytest
from recs_core_tensorflow import kernel
from recs_core_tensorflow.backend import create
from recs_core_tensorflow.environment import tf, tfrs
from recs_core_tensorflow.native import TFRSRetrieval
from recs_core_tensorflow.task import RetrievalTask

from recs_core.conformance.random_tasks import random_task
from recs_core.conformance.worlds import many_targets
from recs_core.contract.batch import Ragged
from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.task import plan_task
from recs_core.reference import task as oracle

PLAIN = RetrievalSpec(
    scoring="dot", temperature=1.0, candidate_bias=False, logq=False, remove_accidental_hits=False, reduction="sum"
)


@pytest.mark.parametrize(("rows_a_block", "safe"), [(1, kernel.SAFE), (2, -1.0), (1000, kernel.SAFE)])
def test_loss_and_gradients_equal_the_oracle_whatever_the_blocks(
    rows_a_block: int, safe: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "SAFE", safe)
    monkeypatch.setattr(kernel, "MIN_BLOCK_ROWS", rows_a_block)
    monkeypatch.setattr(kernel, "BLOCK_SCORES", 0)
    for seed, world in enumerate([*map(random_task, range(60)), many_targets()]):
        given = (world.query, world.candidate, world.bias, world.log_temperature)
        variables = [None if value is None else tf.Variable(np.asarray(value, np.float64)) for value in given]
        plan = plan_task(world.spec, len(world.query), len(world.candidate), **world.inputs)
        with tf.GradientTape() as tape:
            loss = kernel.loss(world.spec, kernel.pack(plan, "float64"), *variables)
        held = [variable for variable in variables if variable is not None]
        gradients = iter(tape.gradient(loss, held, unconnected_gradients="zero"))
        expected = oracle.loss_and_gradients(world.spec, *given, **world.inputs)
        np.testing.assert_allclose(loss, expected.loss, rtol=1e-12, atol=1e-12, err_msg=f"seed {seed}")
        for variable, name in zip(variables, ("query", "candidate", "bias", "log_temperature"), strict=True):
            if variable is not None:
                got, wanted = tf.convert_to_tensor(next(gradients)), getattr(expected, name)
                np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-12, err_msg=f"seed {seed}, {name}")


def embeddings(queries: int = 7, extra: int = 0, dim: int = 5) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    random = np.random.default_rng(3)
    return (
        random.normal(size=(queries, dim)).astype(np.float32),
        random.normal(size=(queries + extra, dim)).astype(np.float32),
        random,
    )


@pytest.mark.parametrize("length", [1.0, 6.0, 6.9, 20.0])
def test_scores_of_either_sign_and_any_length_are_the_oracles(length: float) -> None:
    """On both sides of `SAFE`: the longest products are 1, 36, 47.6 and 400."""
    vectors = (length * x / np.linalg.norm(x, axis=1, keepdims=True) for x in embeddings(64, dim=3)[:2])
    query, candidate = (x.astype(np.float32) for x in vectors)
    variables = [tf.Variable(x) for x in (query, candidate)]
    with tf.GradientTape() as tape:
        loss = kernel.loss(PLAIN, kernel.pack(plan_task(PLAIN, 64, 64), "float32"), *variables)
    expected = oracle.loss_and_gradients(PLAIN, query, candidate, np.zeros(64), 0.0)
    np.testing.assert_allclose(loss, expected.loss, rtol=1e-5)
    for got, want in zip(tape.gradient(loss, variables), (expected.query, expected.candidate), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6 * np.abs(want).max())


def test_a_row_without_negatives_keeps_a_score_far_below_the_others() -> None:
    """All its columns masked, its own no negative and 400 below: no loss, as nothing else is in the sum."""
    variables = [tf.Variable([[1.0]]), tf.Variable([[-400.0], [1.0]])]
    plan = plan_task(PLAIN, 1, 2, target_candidate=[0], negatives_from=1, score_mask=np.zeros((1, 2), bool))
    with tf.GradientTape() as tape:
        loss = kernel.loss(PLAIN, kernel.pack(plan, "float32"), *variables)
    assert float(loss) == 0
    assert all(not np.any(g) for g in tape.gradient(loss, variables))


OPTIONS = ("temperature", "logq", "hits", "mask", "hard", "weight", "extra")


@pytest.mark.parametrize(
    "on",
    [
        *itertools.combinations(OPTIONS, 0),
        *itertools.combinations(OPTIONS, 1),
        *itertools.combinations(OPTIONS, 2),
        OPTIONS,
    ],
    ids=lambda on: "+".join(on) or "plain",
)
def test_our_sum_equals_the_tfrs_task(on: tuple[str, ...]) -> None:
    query, candidate, random = embeddings(extra=4 if "extra" in on else 0)
    rows, columns = len(query), len(candidate)
    spec = RetrievalSpec(
        scoring="dot",
        temperature=0.3 if "temperature" in on else 1.0,
        candidate_bias=False,
        logq="logq" in on,
        remove_accidental_hits="hits" in on,
        hard_negatives=3 if "hard" in on else None,
        reduction="sum",
    )
    given: dict[str, Any] = {}
    if "logq" in on:
        given["candidate_sampling_probability"] = random.random(columns).astype(np.float32) * 0.1 + np.float32(1e-6)
    if "hits" in on:
        given["candidate_ids"] = random.integers(0, 4, columns).astype(np.int32)
    if "mask" in on:
        # TFRS masks the positive too where the mask says so; ours always keeps it.
        given["score_mask"] = (random.random((rows, columns)) < 0.6) | np.eye(rows, columns, dtype=bool)
    if "weight" in on:
        given["sample_weight"] = random.random(rows).astype(np.float32)
    native = tfrs.tasks.Retrieval(
        temperature=0.3 if "temperature" in on else None,
        num_hard_negatives=spec.hard_negatives,
        remove_accidental_hits="hits" in on,
    )
    wanted = native(query, candidate, **given, compute_metrics=False)
    got = create().task(spec)(query, candidate, **given)
    np.testing.assert_allclose(got, wanted, rtol=2e-6)


def test_q_below_1e_6_is_corrected_where_tfrs_saturates() -> None:
    query, candidate, _ = embeddings()
    task = create().task(RetrievalSpec(**{**PLAIN.__dict__, "logq": True}))
    losses = []
    for rare in (1e-6, 1e-8):
        q = np.full(len(candidate), 0.1)
        q[2] = rare
        losses.append(float(task(query, candidate, candidate_sampling_probability=q)))
        expected = oracle.loss_and_gradients(task.spec, query, candidate, candidate_sampling_probability=q)
        np.testing.assert_allclose(losses[-1], expected.loss, rtol=1e-6)
    assert losses[0] != losses[1]


def test_extra_candidates_with_ids_work() -> None:
    """tfrs.tasks.Retrieval raises on these as soon as it computes metrics."""
    query, candidate, _ = embeddings(extra=3)
    ids = np.array([0, 1, 2, 0, 1, 2, 3, 3, 9, 0], np.int32)
    spec = RetrievalSpec(**{**PLAIN.__dict__, "remove_accidental_hits": True})
    got = create().task(spec)(query, candidate, candidate_ids=ids)
    wanted = oracle.loss_and_gradients(spec, query, candidate, candidate_ids=ids).loss
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


@pytest.mark.parametrize("scoring", ["dot", "cosine"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("learn", [False, True])
def test_the_tfrs_path_equals_the_fast_path(scoring: str, reduction: str, learn: bool) -> None:
    query, candidate, random = embeddings()
    codes = random.integers(0, 5, len(candidate)).astype(np.int32)
    bias, start = tf.Variable(random.normal(size=5), dtype=tf.float32), tf.Variable(-0.7)
    spec = RetrievalSpec(scoring=scoring, reduction=reduction, temperature=0.5, learn_temperature=learn)  # type: ignore[arg-type]
    given = {
        "candidate_ids": codes,
        "candidate_sampling_probability": (random.random(len(candidate)) * 0.1 + 1e-9).astype(np.float32),
        "sample_weight": random.random(len(query)).astype(np.float32),
    }
    temperature = start if learn else None
    sources = [bias, start] if learn else [bias]
    with tf.GradientTape() as tape:
        native = TFRSRetrieval(spec, bias, temperature)(query, candidate, **given)
    native_slopes = tape.gradient(native, sources)
    with tf.GradientTape() as tape:
        fast = RetrievalTask(spec, "float32", bias, temperature)(query, candidate, **given)
    fast_slopes = tape.gradient(fast, sources)
    np.testing.assert_allclose(fast, native, rtol=2e-6)
    for a, b in zip(fast_slopes, native_slopes, strict=True):
        np.testing.assert_allclose(tf.convert_to_tensor(a), tf.convert_to_tensor(b), rtol=1e-4, atol=1e-6)


def test_what_tfrs_cannot_say_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="in-batch"):
        TFRSRetrieval(RetrievalSpec(negatives="corpus"))
    with pytest.raises(UnsupportedFeature, match="refined"):
        TFRSRetrieval(RetrievalSpec(logq="refined"))


def test_a_symbolic_plan_is_refused_by_name() -> None:
    query, candidate, _ = embeddings()
    task = create().task(PLAIN)

    @tf.function(autograph=False)
    def loss(weight: Any) -> Any:
        return task(query, candidate, sample_weight=weight)

    with pytest.raises(SpecError, match="sample_weight"):
        loss(tf.ones(len(query)))


def test_the_task_differentiates_in_a_users_function() -> None:
    query, candidate, _ = embeddings()
    task = create().task(PLAIN)

    @tf.function
    def slope(query: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(query)
            loss = task(query, candidate)
        return tape.gradient(loss, query)

    wanted = oracle.loss_and_gradients(PLAIN, query, candidate).query
    np.testing.assert_allclose(slope(tf.constant(query)), wanted, rtol=1e-4, atol=1e-6)


def test_positives_are_columns() -> None:
    query, candidate, _ = embeddings(3)
    positives = Ragged(np.array([1, 2, 0], np.int32), np.array([0, 2, 2, 3], np.int32))
    spec = RetrievalSpec(**{**PLAIN.__dict__, "mask_positives": True})
    got = float(create().task(spec)(query, candidate, positives=positives))
    scores = query @ candidate.T
    left = [[0], [0, 1, 2], [1, 2]]
    wanted = sum(np.log(np.exp(scores[i, left[i]]).sum()) - scores[i, i] for i in range(3))
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def metrics_of(task: Any) -> dict[str, float]:
    return {metric.name: float(metric.result()) for metric in task.metrics}


def corpus_metric(vectors: np.ndarray, ids: np.ndarray) -> Any:
    return tfrs.metrics.FactorizedTopK(tf.data.Dataset.from_tensor_slices((ids, vectors)).batch(4), ks=[1])


def keras_metrics() -> dict[str, list[Any]]:
    return {
        "batch_metrics": [tf.keras.metrics.TopKCategoricalAccuracy(k=1, name="batch")],
        "loss_metrics": [tf.keras.metrics.Mean(name="mean_loss")],
    }


@pytest.mark.parametrize("flags", [{}, {"compute_metrics": False}, {"compute_batch_metrics": False}], ids=str)
@pytest.mark.parametrize("shape", [(7, 5), (7, 2, 5)], ids=["vectors", "heads"])
def test_metrics_are_those_of_the_tfrs_task(flags: dict[str, bool], shape: tuple[int, ...]) -> None:
    query = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    _, candidate, _ = embeddings()
    ids = np.arange(len(candidate), dtype=np.int32)
    tasks = [
        make(metrics=corpus_metric(candidate, ids), **keras_metrics())
        for make in (tfrs.tasks.Retrieval, lambda **given: TFRSRetrieval(PLAIN, **given))
    ]
    losses = [task(query, candidate, candidate_ids=ids, **flags) for task in tasks]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    assert metrics_of(tasks[1]) == pytest.approx(metrics_of(tasks[0]), rel=1e-6)


def test_corpus_metrics_rank_by_cosine_and_bias_and_know_extra_negatives() -> None:
    """Query 0 is its own candidate's by the product, candidate 2's by cosine, candidate 1's with the bias."""
    query = np.array([[1.0, 0.0]], np.float32)
    corpus = np.array([[9.0, 9.0], [0.0, 1.0], [1.0, 0.1]], np.float32)
    ids, bias = np.arange(3, dtype=np.int32), np.array([0.0, 5.0, 0.0], np.float32)
    spec = RetrievalSpec(temperature=0.5, candidate_bias=True, logq=False, remove_accidental_hits=False)
    unit = corpus / np.linalg.norm(corpus, axis=1, keepdims=True)
    for own, with_bias, due in ((0, False, 0.0), (2, False, 1.0), (2, True, 0.0), (1, True, 1.0)):
        b = bias if with_bias else np.zeros(3, np.float32)
        metric = corpus_metric(np.hstack([unit, b[:, None]]).astype(np.float32), ids)
        task = TFRSRetrieval(spec, tf.Variable(b), metrics=metric)
        order = np.array([own, *(i for i in range(3) if i != own)], np.int32)  # two extra columns
        task(query, corpus[order], candidate_ids=order)
        assert [float(value) for value in metric.result()] == [due], (own, with_bias)


def test_a_loss_traced_in_a_users_function_goes_with_it() -> None:
    """A tf.custom_gradient would keep the graph, and what it holds, in a registry of the process."""
    query, candidate, _ = embeddings()
    task = create().task(PLAIN)

    def graph() -> Any:
        function = tf.function(lambda query: task(query, candidate))
        return weakref.ref(function.get_concrete_function(tf.constant(query)).graph)

    held = graph()
    gc.collect()
    assert held() is None
