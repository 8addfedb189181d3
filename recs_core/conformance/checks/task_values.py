"""The task far from 1: large and small scores, temperatures, weights and probabilities; and float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recs_core.conformance import expect
from recs_core.conformance.checks.task import judge, oracle, spec_of, value
from recs_core.conformance.context import BackendContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import TaskWorld, task_world


def scaled(world: TaskWorld, by: float) -> TaskWorld:
    """Its embeddings times `by`."""
    return dataclasses.replace(world, query=world.query * np.float32(by), candidate=world.candidate * np.float32(by))


@check(
    "task/large-score-gradients",
    rests_on=("task/extreme-scores",),
    formula="∂ℓ/∂s_j = exp(s_j − log Σ exp s), shifted as the loss is",
)
def large_score_gradients(context: BackendContext) -> None:
    """Gradients where scores lie in ± 200 and in ± 20,000: finite, and the oracle's.

    Look at the backward pass: its exp needs the same shift as the forward pass. In float32 what is judged is that it is
    finite and roughly right.
    """
    for by in (8, 80):
        world = scaled(task_world(spec_of()), by)
        judge(context, world)
        expected = oracle(world)
        gradients = context.loss_and_gradients(world, world.batch(), "float32")[1]
        for name, want in (("table/q", expected.query), ("table/c", expected.candidate)):
            expect.rows_close(f"the gradient of {name} in float32, × {by}", gradients[name][1:], want, 0.02)


@check(
    "task/values",
    needs=("cosine", "learn_temperature", "sample_weight", "logq"),
    rests_on=(
        "task/large-score-gradients", "task/zero-vectors", "task/learned-temperature", "task/q-without-floor",
        "task/sample-weight", "task/sum-reduction",
    ),
)  # fmt: skip
def values(context: BackendContext) -> None:
    """Temperatures from 0.02 to 3, targets that weigh from 10⁻⁶ to 10⁵, q of 10⁻⁶⁰, vectors of length 10⁻³ to 10⁴,
    candidates that tie: loss and gradients.

    Look for a clamp: of a temperature, a weight, a probability, a norm.
    """
    heavy = np.array([1e5, 3e-6, 7.0, 0.0, 1.0, 40.0])
    tiny = np.array([1e-60, 1e-40, 1e-30, 1e-3, 1e-9, 0.5, 1e-60, 1e-12, 1e-20])
    cosine: dict[str, Any] = {"scoring": "cosine"}
    tied = task_world(spec_of())
    tied.candidate[[1, 6, 7, 8]] = tied.candidate[1]
    for what, world in {
        "a learned temperature of 0.02": task_world(spec_of(**cosine, temperature=0.02, learn_temperature=True)),
        "a learned temperature of 3": task_world(spec_of(temperature=3.0, learn_temperature=True)),
        "weights": task_world(spec_of(), sample_weight=heavy),
        "weights, added up": task_world(spec_of(reduction="sum"), sample_weight=heavy),
        "small q": task_world(spec_of(logq=True), candidate_sampling_probability=tiny),
        "long vectors": scaled(task_world(spec_of(**cosine)), 1e4),
        "short vectors": scaled(task_world(spec_of(**cosine)), 1e-3),
        "ties": tied,
    }.items():
        with expect.about(what):
            judge(context, world)


@check(
    "task/float64",
    needs=("float64", "cosine", "candidate_bias"),
    rests_on=("task/zero-vectors", "task/learned-temperature", "task/candidate-bias"),
)
def float64(context: BackendContext) -> None:
    """`task(dtype="float64")` counts in float64: vectors, bias and temperature that no float32 holds.

    Look for a constant, a mask or a conversion that makes float32 of it on the way.
    """
    spec = spec_of(scoring="cosine", learn_temperature=True, candidate_bias=True)
    world = task_world(spec)
    third = np.float64(1) / 3
    finer: Any = {"query": world.query * third, "candidate": world.candidate * third}
    world = dataclasses.replace(world, **finer, bias=None if world.bias is None else world.bias * third)
    got = value(context, world, "float64")
    expect.close("the loss in float64", got, oracle(world).loss, 1e-13)
