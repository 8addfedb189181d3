"""Tasks with options and inputs drawn by seed, of those that a manifest does not decline."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from typing import Any

import numpy as np

from recs_core.conformance.worlds import TaskWorld, World, ragged, task_world
from recs_core.contract.randomness import generator
from recs_core.contract.retrieval import RetrievalSpec

OPTIONAL = ("mixed", "refined_logq", "score_mask", "hard_negatives")
"""Options of the task that a manifest may decline."""


def random_task(seed: int, declined: Collection[str] = ()) -> TaskWorld:
    """A task with options and inputs drawn by `seed`: every combination of what is not `declined` comes up sooner or
    later."""
    random = generator(seed, "conformance/random-task")

    def pick(*choices: Any, **optional: Any) -> Any:
        choices = (*choices, *(choice for name, choice in optional.items() if name not in declined))
        return choices[int(random.integers(len(choices)))]

    negatives = pick("in-batch", "uniform", "corpus", mixed="mixed")
    spec = RetrievalSpec(
        scoring=pick("dot", "cosine"),
        temperature=pick(0.3, 0.5, 1.0),
        learn_temperature=pick(True, False),
        candidate_bias=pick(True, False),
        negatives=negatives,
        num_negatives=4 if negatives in ("uniform", "mixed") else None,
        logq=pick(True, False, refined_logq="refined"),
        remove_accidental_hits=pick(True, False),
        mask_positives=pick(True, False),
        hard_negatives=pick(None, hard_negatives=2),
        reduction=pick("mean", "sum"),
    )
    masks = pick(False, False, score_mask=True)
    world = World(batch_by=pick("interaction", "query"), retrieval=spec, queries=5, masks=masks, seed=seed)
    inputs: dict[str, Any] = {**world.batch().task}
    columns = len(inputs["candidate_ids"])
    inputs["sample_weight"] = random.random(len(inputs["target_query"])) + 0.1
    if spec.mask_positives:  # some columns of a candidate and not others: accidental hits are not all among them
        inputs["positives"] = ragged([np.flatnonzero(random.random(columns) < 0.2) for _ in range(world.queries)])
    return task_world(spec, queries=world.queries, columns=columns, seed=seed, **inputs)


def all_pairs(declined: Collection[str] = ()) -> list[TaskWorld]:
    """Random tasks, chosen so that every two options that are drawn together among 300 meet in one of them."""
    seen: set[tuple[Any, Any]] = set()
    chosen = []
    for seed in range(300):
        world = random_task(seed, declined)
        met = set(combinations(options_of(world), 2))
        if met - seen:
            chosen.append(world)
            seen |= met
    return chosen


def options_of(world: TaskWorld) -> list[tuple[str, Any]]:
    """What distinguishes a random task from others, by name."""
    names = (
        "scoring", "learn_temperature", "candidate_bias", "negatives", "logq", "remove_accidental_hits",
        "mask_positives", "hard_negatives", "reduction",
    )  # fmt: skip
    several = len(world.inputs["target_query"]) > len(world.query)
    given = [("several targets", several), ("score_mask", "score_mask" in world.inputs)]
    return [*((name, getattr(world.spec, name)) for name in names), *given]
