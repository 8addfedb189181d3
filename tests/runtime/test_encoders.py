"""Histories in order in the NumPy runtime: against the oracle, alone and beside others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recs_core.contract import weights as canonical
from recs_core.contract.batch import Features, Ragged, Sequences
from recs_core.contract.encoders import GRU, SelfAttention
from recs_core.contract.feature_kinds import History
from recs_core.contract.plans import TowerPlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import TowerSpec
from recs_core.reference import towers as reference
from recs_core.runtime import NumpyTower

ROWS, LONGEST = 30, 70

ENCODERS = {
    "defaults": SelfAttention(),
    "two heads": SelfAttention(heads=2, activation="relu", gate=False),
    "learned positions": SelfAttention(heads=4, position="learned", ffn=1),
    "no positions": SelfAttention(layers=1, position=None),
    "history time": SelfAttention(heads=2, time="history"),
    "request time": SelfAttention(layers=1, time="request"),
    "gru": GRU(),
    "two layers of gru": GRU(layers=2),
}


def declared(encoder: GRU | SelfAttention, dim: int) -> TowerSpec:
    return TowerSpec([History("h", dim=dim, max_length=LONGEST, encoder=encoder)])


def weights_of(tower: TowerSpec, random: np.random.Generator, dtype: str) -> dict[str, Any]:
    initial = canonical.initial(TowerPlan.of("query", tower), None, RetrievalSpec(), {"table/h": ROWS}, 1, seed=0)
    return {name: (random.standard_normal(w.shape) * 0.4).astype(dtype) for name, w in initial.items()}


def histories(lengths: Sequence[int], encoder: GRU | SelfAttention, random: np.random.Generator) -> Sequences:
    """Histories of these lengths."""
    codes = Ragged.of([random.integers(0, ROWS, length).tolist() for length in lengths])
    if not encoder.reads_time:
        return Sequences.last(codes)
    times = np.cumsum(np.exp(random.uniform(0, 14, len(codes.values))))
    return Sequences.last(codes, times, times + random.uniform(0, 1e6, len(times)))


def embed(tower: TowerSpec, weights: dict[str, Any], asked: Sequences) -> Any:
    return NumpyTower(TowerPlan.of("query", tower), weights).embed(Features(len(asked.at), {"h": asked}))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_long_histories_are_those_of_the_oracle(encoder: GRU | SelfAttention, dtype: str, tolerance: float) -> None:
    """Longer than the places that attend at a time, and more of one length than are encoded at a time."""
    random = np.random.default_rng(1)
    tower = declared(encoder, 8)
    weights = weights_of(tower, random, dtype)
    asked = histories([LONGEST] * 17 + [1, 0, 47, 48, 49, 48], encoder, random)
    expected = reference.embed(tower, "query", Features(len(asked.at), {"h": asked}), weights)
    np.testing.assert_allclose(embed(tower, weights, asked), expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(
    encoder=st.sampled_from(list(ENCODERS.values())),
    dim=st.sampled_from([4, 8, 20, 64]),
    dtype=st.sampled_from(["float32", "float64"]),
    lengths=st.lists(st.integers(0, LONGEST) | st.integers(0, 3), min_size=2, max_size=12),
    again=st.integers(0, 5),
    seed=st.integers(0, 1000),
)
def test_a_vector_is_the_same_bit_for_bit_alone_and_beside_others(
    encoder: GRU | SelfAttention, dim: int, dtype: str, lengths: list[int], again: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    tower = declared(encoder, dim)
    weights = weights_of(tower, random, dtype)
    asked = histories(lengths + lengths[:1] * again, encoder, random)
    together = embed(tower, weights, asked)
    rows = np.arange(len(asked.at))
    alone = [embed(tower, weights, asked.take(rows[row : row + 1])) for row in rows]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    for _ in range(3):
        some = random.permutation(rows)[: random.integers(1, len(rows) + 1)]
        np.testing.assert_array_equal(embed(tower, weights, asked.take(some)), together[some])


@pytest.mark.parametrize("encoder", [SelfAttention(), GRU()], ids=["attention", "gru"])
def test_what_lies_far_out_neither_overflows_nor_warns(encoder: GRU | SelfAttention) -> None:
    """Gates of ± 1,000 and more are 0 or 1, as in the oracle."""
    random = np.random.default_rng(2)
    tower = declared(encoder, 4)
    far = ("gate_1", "gate_2", "ffn_1", "input", "state")
    weights = weights_of(tower, random, "float32")
    weights = {name: weight * (1e4 if name.split("/")[-2] in far else 1) for name, weight in weights.items()}
    asked = histories([3, 5, 5], encoder, random)
    found = embed(tower, weights, asked)
    with np.errstate(over="ignore"):
        expected = reference.embed(tower, "query", Features(3, {"h": asked}), weights)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
