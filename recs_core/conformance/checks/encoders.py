"""Encoders: histories whose order counts, through self-attention and through a GRU.

A world's histories are of all lengths up to the longest, one of them empty, and its rows read places in the middle and
at the end of them, a place twice, and none. Their order by length is no rule.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from recs_core.conformance import expect
from recs_core.conformance.checks.towers import embed, gradients
from recs_core.conformance.checks.training import one_step, run
from recs_core.conformance.context import BackendContext
from recs_core.conformance.registry import check
from recs_core.conformance.worlds import OPTIMIZERS, World, ragged
from recs_core.contract.batch import Features, Sequences
from recs_core.contract.encoders import GRU, SelfAttention
from recs_core.contract.feature_kinds import Categorical, History
from recs_core.contract.optimizers import Adam
from recs_core.contract.towers import TowerSpec
from recs_core.reference import training

PLAIN = SelfAttention(layers=1, ffn=1, activation="relu", gate=False, position=None, dropout=0)
"""Attention with every switch off. Checks turn on the one they are about."""

BASE = ("towers/history", "towers/layers")
APART = 10
"""Normalising divides by what may be small, so that float32's error grows on the way."""

TRAINED_ALIKE = ("training/weight-decay", "training/clip-norm", "training/whole-corpus", "task/positives-shared")
LENGTH = 9


def world(encoder: GRU | SelfAttention, *, dim: int = 4, length: int = LENGTH, **changes: Any) -> World:
    """A world whose queries are histories through an encoder, over the candidates' own table."""
    history = History("item", dim=dim, max_length=length, encoder=encoder)
    return World(query=TowerSpec((history,)), candidate=TowerSpec((Categorical("item", dim=dim),)), **changes)


def judge(context: BackendContext, encoder: GRU | SelfAttention, *, dim: int = 4, length: int = LENGTH) -> None:
    """Vectors, and the gradient of every weight."""
    here = world(encoder, dim=dim, length=length)
    embed(context, here, dtypes=context.dtypes, apart=APART)
    gradients(context, here)


@check(
    "encoders/attention",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=BASE,
    formula="U = X + softmax(QKᵀ/√e over j ≤ i) V W + b; X ← U + max(F W₁ + b₁, 0) W₂ + b₂; Q, K, V and F of normal(…)",
)
def attention(context: BackendContext) -> None:
    """Plain causal self-attention, one layer and two: Q, K and V all of the normalised input.

    Look at what is normalised (keys and values too, with 1e-5 under the root), at j ≤ i, and at dropout: none on the
    shares.
    """
    judge(context, PLAIN)
    judge(context, dataclasses.replace(PLAIN, layers=2, ffn=2))


@check(
    "encoders/heads",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/attention",),
    formula="head h owns columns he … he + e − 1; scores ÷ √e",
)
def heads(context: BackendContext) -> None:
    """Two heads and three: each has neighbouring columns, and its scores are divided by the root of its own width.

    Look at the reshape, (…, heads, e), and at √e, which is not √dim.
    """
    judge(context, dataclasses.replace(PLAIN, heads=2))
    judge(context, dataclasses.replace(PLAIN, heads=3), dim=6)


@check(
    "encoders/rotary",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/heads",),
    formula="in each head, columns k and k + e/2 of Q and K turn by t · 10000^(−2k/e)",
)
def rotary(context: BackendContext) -> None:
    """Rotary positions: t counts from the oldest code, and halves of a head are paired.

    Look at which columns are pairs, and at V, which does not turn.
    """
    judge(context, dataclasses.replace(PLAIN, position="rotary", heads=2), dim=8)


@check(
    "encoders/learned-positions",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/attention",),
    formula="X_t = E[c_t] + P[t], t from the oldest",
)
def learned_positions(context: BackendContext) -> None:
    """Learned positions, counted from a history's oldest code.

    Look for places counted from the newest, or from the padding.
    """
    judge(context, dataclasses.replace(PLAIN, position="learned"))


@check(
    "encoders/gate",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/attention",),
    formula="U = X + σ(X W + b) ⊙ Y, and alike after the feed-forward part",
)
def gate(context: BackendContext) -> None:
    """Gated residuals: the gate is of what the block was given, before it is normalised.

    Look at what each gate reads: X the first, U the second.
    """
    judge(context, dataclasses.replace(PLAIN, gate=True))


@check(
    "encoders/swiglu",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/attention",),
    formula="M = silu(F W₁ + b₁) ⊙ (F W₃ + b₃)",
)
def swiglu(context: BackendContext) -> None:
    """The feed-forward part with a product of two.

    Look at which of the two goes through silu, x σ(x).
    """
    judge(context, dataclasses.replace(PLAIN, activation="swiglu", ffn=3))


@check(
    "encoders/gru",
    tier="optional",
    needs=("encoder_gru",),
    rests_on=BASE,
    formula="n = tanh(x W + b + r ⊙ (h U + c)); h ← (1 − z) ⊙ n + z ⊙ h; gates in the order r, z, n",
)
def gru(context: BackendContext) -> None:
    """A GRU of one layer and of two, with two biases.

    Look at the order of the gates, at r, which comes after the product with U, and at which state z keeps.
    """
    judge(context, GRU(dropout=0))
    judge(context, GRU(layers=2, dropout=0))


@check(
    "encoders/two-histories",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/attention", "towers/shared-table"),
    formula="x₀ = [encoder A of one history ; encoder B of the other]",
)
def two_histories(context: BackendContext) -> None:
    """Two histories of one tower over one table, each with an encoder of its own and of the same shapes.

    Look for weights, or gradients, that go by shape or by table, and not by the feature's name.
    """
    histories = (History(name, dim=4, max_length=LENGTH, table="item", encoder=PLAIN) for name in ("item", "shown"))
    here = World(TowerSpec(tuple(histories)), TowerSpec((Categorical("item", dim=4),), layers=(8,)))
    embed(context, here, dtypes=context.dtypes, apart=APART)
    gradients(context, here)


@check(
    "encoders/large",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/rotary", "encoders/gate", "encoders/swiglu"),
    formula="those of encoders/rotary and of encoders/attention",
)
def large(context: BackendContext) -> None:
    """A head of 264 columns, and histories of up to 140 codes.

    Look at blocks of columns or of places, and at places in 7 bits.
    """
    judge(context, dataclasses.replace(PLAIN, position="rotary"), dim=264)
    judge(context, dataclasses.replace(IN_USE, dropout=0), dim=8, length=140)


IN_USE = SelfAttention(layers=2, heads=2, ffn=2, dropout=0.4)
"""Every switch on."""


@check(
    "encoders/dropout",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/gate", "encoders/swiglu", "encoders/rotary"),
    formula="x ⊙ keep / (1 − dropout) where the plan says, and nowhere else",
)
def dropout(context: BackendContext) -> None:
    """The batch brings the masks: of the input, and of what attention and the feed-forward part add.

    Look at the scale 1/(1 − dropout), and at `embed`, which drops nothing.
    """
    _dropout(context, IN_USE)


def _dropout(context: BackendContext, encoder: GRU | SelfAttention) -> None:
    here = world(encoder)
    gradients(context, here)
    plain = here.features("query", 6)
    embed(context, here, here.with_keep(plain), apart=APART, plain=plain)


@check(
    "encoders/places",
    tier="optional",
    needs=("encoder_attention",),
    rests_on=("encoders/rotary", "encoders/learned-positions", "encoders/gate", "encoders/swiglu"),
    formula="row i reads the output at codes.values[at[i]]; −1: zeros",
)
def places(context: BackendContext) -> None:
    """A row reads the place it names; an empty history is zeros; what stands beside a history changes nothing.

    Look at the last code of the longest history, at histories of one code, at a batch of empty ones, at codes after the
    place that is read.
    """
    _places(context, dataclasses.replace(IN_USE, dropout=0))


def _places(context: BackendContext, encoder: GRU | SelfAttention) -> None:
    here = world(encoder)
    random = np.random.default_rng(5)
    held = [random.integers(1, 13, n) for n in (LENGTH, 1, 0, 2, LENGTH, 4)]
    codes = ragged(held)
    ends = Sequences.last(codes)
    embed(context, here, Features(6, {"item": ends}), apart=APART)
    embed(context, here, Features(len(codes.values), {"item": Sequences.every(codes)}), apart=APART)
    embed(context, here, Features(2, {"item": Sequences.last(ragged([[], []]))}), apart=APART)
    model = context.model(here, context.finest)
    beside = model.query.embed(Features(6, {"item": ends}))
    for i, history in enumerate(held):
        alone = model.query.embed(Features(1, {"item": Sequences.last(ragged([history]))}))
        expect.close(f"history {i} alone and beside others", alone[0], beside[i], expect.VECTOR[context.finest])


@check(
    "encoders/training",
    tier="optional",
    needs=("encoder_attention", "weight_decay", "clip_norm", "state", "lazy_adam"),
    rests_on=("encoders/places", "encoders/dropout", *TRAINED_ALIKE),
    formula="the weights of an encoder are weights as any other: clipped, decayed and moved",
)
def trained(context: BackendContext) -> None:
    """A step on an encoder's weights, and in float64 a hundred (P1), with dropout and positives shared by a history.

    Look at what the optimizer is given, and at float32 on the way.
    """
    _trained(context, IN_USE)


def _trained(context: BackendContext, encoder: GRU | SelfAttention) -> None:
    here = world(encoder, batch_by="sequence", queries=7, users=1, corpus=20).with_(
        negatives="corpus", mask_positives=context.has("mask_positives", "corpus")
    )
    one_step(context, Adam(0.01, weight_decay=0.05, clip_norm=0.05), here, dtype=context.finest)
    if not context.has("float64"):
        return
    batches, optimizer = here.batches(100), OPTIMIZERS["lazy-adam"]
    losses, weights, _ = training.trajectory(here.model, optimizer, here.weights(), batches)
    model, got, _ = run(context, optimizer, batches, world=here, dtype="float64")
    expect.close("the losses in float64", got, losses, expect.LOSS["float64"])
    expect.all_close("the weights after 100 steps in float64", model.weights(), weights, expect.WEIGHT["float64"])


@check(
    "encoders/time-history",
    tier="optional",
    needs=("encoder_attention", "encoder_time"),
    rests_on=("encoders/heads",),
    formula="S_ij + time[min(127, ⌊ln(max(1, Δ)) / 0.301⌋), head] of each layer, Δ = times_i − times_j in seconds",
)
def time_history(context: BackendContext) -> None:
    """A learned bias for the time between two codes, of each layer and head.

    Look at the rows, which `time_buckets` of the contract gives, at `asked`, which is here `times`, at the layer whose
    weight it is, and at the gradient, which adds up over all pairs of a bucket.
    """
    judge(context, dataclasses.replace(PLAIN, layers=2, heads=2, time="history"))


@check(
    "encoders/time-request",
    tier="optional",
    needs=("encoder_attention", "encoder_time", "weight_decay", "clip_norm", "state", "lazy_adam"),
    rests_on=("encoders/time-history", "encoders/training"),
    formula="Δ = asked_i − times_j: from when place i is asked for what follows it",
)
def time_request(context: BackendContext) -> None:
    """The time since a code, from when its place is asked: alone and beside others, for a step and for a hundred (P1).

    Look at `asked`, which serving gives for the last place alone, and at dropout, which leaves the bias as it is.
    """
    judge(context, dataclasses.replace(PLAIN, layers=2, heads=2, time="request"))
    encoder = dataclasses.replace(IN_USE, time="request")
    here = world(dataclasses.replace(encoder, dropout=0))
    features = here.features("query", 9)
    model = context.model(here, context.finest)
    beside = model.query.embed(features)
    for row in range(features.size):
        alone = model.query.embed(features.take(np.array([row])))
        expect.close(f"row {row} alone and beside others", alone[0], beside[row], expect.VECTOR[context.finest])
    _trained(context, encoder)


@check(
    "encoders/gru-in-use",
    tier="optional",
    needs=("encoder_gru", "weight_decay", "clip_norm", "state", "lazy_adam"),
    rests_on=("encoders/gru", *TRAINED_ALIKE),
    formula="x ⊙ keep, h ⊙ keep of each layer; row i reads the output at codes.values[at[i]]; clipped, decayed, moved",
)
def gru_in_use(context: BackendContext) -> None:
    """A GRU of two layers with dropout, of all lengths, alone and beside others, for a step and for a hundred (P1).

    Look at each layer's masks, at the end of short histories beside long ones, and at what the optimizer is given.
    """
    _dropout(context, GRU(layers=2, dropout=0.4))
    _places(context, GRU(layers=2, dropout=0))
    _trained(context, GRU(layers=2, dropout=0.4))
