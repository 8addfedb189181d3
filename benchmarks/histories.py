"""Vectors of histories in order in the NumPy runtime, beside the matrix products alone that they need.

    python benchmarks/histories.py [--rounds 9]

Two layers of `SelfAttention`, 64 dims, one head, histories of 200: one at a time, and 512 at once. The products alone
are the same ones, of the same blocks on as many threads (OPENBLAS_NUM_THREADS), with nothing between them and without
biases: the floor. Both take turns in one process; what counts is the ratio of medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import recs_core as recs
from recs_core.contract import weights as canonical
from recs_core.contract.batch import Features, Ragged, Sequences
from recs_core.contract.plans import TowerPlan
from recs_core.index import tiles
from recs_core.runtime import NumpyTower
from recs_core.runtime.encoders import CODES, PLACES

ITEMS, LENGTH, DIM, LAYERS, FFN = 3416, 200, 64, 2, 4
GOALS = {1: 3.0, 512: 150.0}
"""Histories at once → milliseconds."""


def tower() -> NumpyTower:
    """With weights as they start."""
    encoder = recs.SelfAttention(layers=LAYERS, heads=1, ffn=FFN)
    spec = recs.TowerSpec([recs.History("item", dim=DIM, max_length=LENGTH, encoder=encoder)])
    plan = TowerPlan.of("query", spec)
    weights = canonical.initial(plan, None, recs.RetrievalSpec(), {"table/item": ITEMS}, ITEMS, seed=0)
    return NumpyTower(plan, {name: weight.astype(np.float32) for name, weight in weights.items()})


def asked(number: int) -> Features:
    """So many histories of uniform items."""
    codes = np.random.default_rng(0).integers(0, ITEMS, number * LENGTH).astype(np.int32)
    offsets = np.arange(0, number * LENGTH + 1, LENGTH, dtype=np.int32)
    return Features(number, {"item": Sequences.last(Ragged(codes, offsets))})


def products(number: int) -> tuple[Callable[[], None], float]:
    """The products that so many histories need, and how many GFLOP they are."""
    random = np.random.default_rng(0)
    at_once = min(number, CODES // LENGTH)

    def factors(rows: int, inner: int, columns: int, *, shared: bool) -> tuple[Any, Any]:
        """Of each history (rows, inner) times (inner, columns), its own or one that all share."""
        right = (inner, columns) if shared else (at_once, inner, columns)
        return random.random((at_once, rows, inner), np.float32), random.random(right, np.float32)

    pairs = []
    for layer in range(LAYERS):
        rows = 1 if layer == LAYERS - 1 else LENGTH  # of the last layer one place is read
        pairs += [factors(LENGTH, DIM, DIM, shared=True) for _ in ("key", "value")]
        pairs += [factors(rows, DIM, DIM, shared=True) for _ in ("query", "output", "gate_1", "gate_2")]
        pairs += [factors(rows, DIM, FFN * DIM, shared=True) for _ in ("ffn_1", "ffn_3")]
        pairs.append(factors(rows, FFN * DIM, DIM, shared=True))
        for low in range(0, rows, PLACES):
            high = min(low + PLACES, rows)
            end = LENGTH - rows + high
            pairs += [factors(high - low, DIM, end, shared=False), factors(high - low, end, DIM, shared=False)]
    flop = sum(2 * left.size * right.shape[-1] for left, right in pairs) * number / at_once

    def work(_: int) -> None:
        for left, right in pairs:
            left @ right

    blocks = range(-(-number // at_once))
    return lambda: tiles.run(work, blocks, min(len(blocks), tiles.num_threads())), flop / 1e9


def main() -> None:
    """Take turns, and print a table."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--rounds", type=int, default=9)
    options = given.parse_args()
    runtime = tower()
    heads = ("histories of 200", "GFLOP", "median, ms", "products alone, ms", "beside", "of CPU time, ms", "beside")
    print(f"| {' | '.join(heads)} | goal, ms |\n| ---{' | --:' * len(heads)} |")
    for number, goal in GOALS.items():
        features = asked(number)
        floor, flop = products(number)
        runs: dict[str, Callable[[], object]] = {"ours": partial(runtime.embed, features), "alone": floor}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for i in range(-2, options.rounds * (1 if number > 1 else 20)):
            for name, run in runs.items():
                began, worked = time.perf_counter(), time.process_time()
                run()
                if i >= 0:
                    taken[name].append((1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - worked)))
        ours, alone = ([statistics.median(each) for each in zip(*taken[name], strict=True)] for name in runs)
        beside = [f"{it / other:.1f}×" for it, other in zip(ours, alone, strict=True)]
        print(
            f"| {number} | {flop:.3g} | {ours[0]:.1f} | {alone[0]:.1f} | {beside[0]} | {ours[1]:.1f} | {beside[1]} | "
            f"{goal:g} |"
        )


if __name__ == "__main__":
    main()
