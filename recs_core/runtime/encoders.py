"""An encoder's last rows in NumPy, by the formulas of `recs_core.contract.encoders`, without dropout.

Histories are taken in groups of one length, so that nothing is padded, and a few at a time, so that what is made of
them stays in cache; where there are several groups, threads share them. Every product is of one history's rows, as
BLAS sums in an order that depends on how many there are: so a history's vector is the same, bit for bit, whatever it
stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.batch import Sequences
from recs_core.contract.encoders import GRU, NORMAL_EPSILON, EncoderPlan, SelfAttention, rotation, time_buckets
from recs_core.index import tiles

Array: TypeAlias = "NDArray[np.floating]"
Weights: TypeAlias = "Mapping[str, Array]"
Buckets: TypeAlias = "NDArray[np.uint8] | None"
"""(B, length, length), the row of the time bias of each place, seen from each other; None where no time is read."""

CODES = 1 << 9
"""Codes encoded at a time: ½ MB for each array of 256 float32 a code. Four times as many leave the cache, and malloc
gives arrays of that size back to the system, which clears every page of the next: up to a third of the time."""

HISTORIES = 512
"""Histories that go through a GRU at a time, place by place."""

PLACES = 48
"""Places that attend at a time."""


def encode(plan: EncoderPlan, weights: Weights, table: Array, sequences: Sequences, out: Array) -> None:
    """Writes to `out` (n, width) what each row reads of its history; −1 reads zeros. Raises `UnsupportedFeature` for
    codes without the times that the encoder reads."""
    plan.check_times(sequences.times)
    out[:] = 0
    own = _paired(plan.spec, plan.own(weights))  # type: ignore[arg-type]
    read = sequences.read  # what comes after the place that is read changes nothing
    lengths = read.codes.lengths

    def work(some: NDArray[np.intp]) -> None:
        place = read.codes.offsets[some][:, None] + np.arange(lengths[some[0]])
        x = np.asarray(table[read.values[place]], out.dtype)
        buckets = None
        if read.times is not None and read.asked is not None:
            buckets = time_buckets(read.asked[place], read.times[place])
        out[some] = _last(plan.spec, own, x, buckets)

    groups = list(_groups(plan.spec, lengths))
    tiles.run(work, groups, min(len(groups), tiles.num_threads()))


def _groups(spec: GRU | SelfAttention, lengths: NDArray[np.integer]) -> Iterator[NDArray[np.intp]]:
    """Rows whose histories are of one length, as many as are encoded at a time; none of empty ones."""
    for length in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == length)
        at_once = HISTORIES if isinstance(spec, GRU) else max(1, CODES // int(length))
        for start in range(0, len(rows), at_once):
            yield rows[start : start + at_once]


def _last(spec: GRU | SelfAttention, weights: Weights, x: Array, buckets: Buckets) -> Array:
    """(B, width) from the rows of the codes, (B, length, width)."""
    return _gru(spec, weights, x) if isinstance(spec, GRU) else _self_attention(spec, weights, x, buckets)


def _self_attention(spec: SelfAttention, weights: Weights, x: Array, buckets: Buckets) -> Array:
    if spec.position == "learned":
        x += weights["position"][: x.shape[1]]
    for i in range(spec.layers):
        x = _layer(spec, weights, f"layer_{i}", x, buckets, only_last=i == spec.layers - 1)
    return _normal(weights, "normal", x)[:, 0]


def _layer(spec: SelfAttention, weights: Weights, name: str, x: Array, buckets: Buckets, only_last: bool) -> Array:
    """(B, length, width), or (B, 1, width): of the last layer only the last place is read."""
    a = _normal(weights, f"{name}/normal_1", x)
    of = slice(-1, None) if only_last else slice(None)
    q = _linear(weights, f"{name}/query", a[:, of])
    k, v = (_linear(weights, f"{name}/{part}", a) for part in ("key", "value"))
    if spec.position == "rotary":
        turns = _turns(x.shape[1], x.shape[2] // spec.heads, x.dtype.str)
        _turn(q, turns[of])
        _turn(k, turns)
    q, k, v = (part.reshape(*part.shape[:2], spec.heads, -1).swapaxes(1, 2) for part in (q, k, v))
    bias = None if buckets is None else (weights[f"{name}/time"], buckets[:, of])
    y = _linear(weights, f"{name}/output", _attention(q, k, v, bias))
    x = x[:, of]
    y = _gated(weights, f"{name}/gate_1", x, y) if spec.gate else y
    y += x
    z = _feed_forward(spec, weights, name, _normal(weights, f"{name}/normal_2", y))
    z = _gated(weights, f"{name}/gate_2", y, z) if spec.gate else z
    z += y
    return z


def _feed_forward(spec: SelfAttention, weights: Weights, name: str, x: Array) -> Array:
    h = _linear(weights, f"{name}/ffn_1", x)
    if spec.activation == "swiglu":  # silu(h) = h σ(h)
        other = _one_more_than_exp_of_minus(h)
        h /= other
        h *= _linear(weights, f"{name}/ffn_3", x, out=other)
    else:
        np.maximum(h, 0, out=h)
    return _linear(weights, f"{name}/ffn_2", h)


def _gated(weights: Weights, name: str, x: Array, y: Array) -> Array:
    """σ(x W + b) ⊙ y; y is written over."""
    y /= _one_more_than_exp_of_minus(_linear(weights, name, x))
    return y


def _attention(q: Array, k: Array, v: Array, bias: tuple[Array, NDArray[np.uint8]] | None) -> Array:
    """(B, queries, width) of (B, heads, …, e): each of the last places attends to what is no later. `bias`: that of
    each bucket of times (128, heads), and the buckets (B, queries, places).

    A few places at a time, so that nothing later than the last of them is scored, and little that is masked.
    """
    places, queries = k.shape[2], q.shape[2]
    out = np.empty((len(q), queries, q.shape[1], q.shape[3]), q.dtype)
    q *= q.dtype.type(1 / np.sqrt(q.shape[-1]))
    for low in range(0, queries, PLACES):
        high = min(low + PLACES, queries)
        end = places - queries + high
        scores = q[:, :, low:high] @ k[:, :, :end].swapaxes(-1, -2)
        if bias is not None:
            scores += np.moveaxis(bias[0][bias[1][:, low:high, :end]], -1, 1)
        if high - low > 1:
            scores[..., end - (high - low) :] += _later(high - low, scores.dtype.str)
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        np.divide(scores @ v[:, :, :end], scores.sum(-1, keepdims=True), out=out[:, low:high].swapaxes(1, 2))
    return out.reshape(len(q), queries, -1)


@lru_cache(maxsize=256)
def _later(number: int, dtype: str) -> Array:
    """What hides later places: − ∞ above the diagonal, else 0."""
    return np.triu(np.full((number, number), -np.inf, dtype), 1)


def _paired(spec: GRU | SelfAttention, weights: Weights) -> Weights:
    """With rotary positions, the columns of queries and keys in another order: those that turn together side by side,
    as the parts of a complex number. No inner product of the two changes."""
    if isinstance(spec, GRU) or spec.position != "rotary":
        return weights
    out = dict(weights)
    for name, weight in weights.items():
        if "/query/" in name or "/key/" in name:
            pairs = weight.reshape(*weight.shape[:-1], spec.heads, 2, -1)
            out[name] = pairs.swapaxes(-1, -2).reshape(weight.shape)
    return out


@lru_cache(maxsize=512)
def _turns(length: int, head: int, dtype: str) -> NDArray[np.complexfloating]:
    """(length, 1, head / 2): what turns each pair of columns at each place."""
    cos, sin = rotation(length, head)
    return (cos + 1j * sin).astype(np.result_type(dtype, np.complex64))[:, None]


def _turn(x: Array, turns: NDArray[np.complexfloating]) -> None:
    """(B, n, width), the columns in pairs; in place."""
    pairs = x.view(turns.dtype)
    pairs = pairs.reshape(*pairs.shape[:2], -1, turns.shape[-1])  # of each head
    pairs *= turns


def _gru(spec: GRU, weights: Weights, x: Array) -> Array:
    for i in range(spec.layers):
        inputs = _linear(weights, f"layer_{i}/input", x)
        width = x.shape[2]
        state = np.zeros((len(x), 1, width), x.dtype)
        states = np.empty_like(x)
        for t in range(x.shape[1]):
            a, b = inputs[:, t : t + 1], _linear(weights, f"layer_{i}/state", state)
            gates = _sigmoid(a[..., : 2 * width] + b[..., : 2 * width])
            reset, update = gates[..., :width], gates[..., width:]
            fresh = np.tanh(a[..., 2 * width :] + reset * b[..., 2 * width :])
            states[:, t : t + 1] = state = fresh + update * (state - fresh)
        x = states
    return x[:, -1]


def _linear(weights: Weights, name: str, x: Array, out: Array | None = None) -> Array:
    """x W + b, a product for each history."""
    out = np.matmul(x, weights[f"{name}/kernel"], out=out)
    out += weights[f"{name}/bias"]
    return out


def _normal(weights: Weights, name: str, x: Array) -> Array:
    width = x.shape[-1]
    x = x - np.vecdot(x, np.full(width, 1 / width, x.dtype))[..., None]
    variance = np.vecdot(x, x)[..., None]
    variance /= width
    variance += x.dtype.type(NORMAL_EPSILON)
    x /= np.sqrt(variance, out=variance)
    x *= weights[f"{name}/scale"]
    x += weights[f"{name}/bias"]
    return x


def _one_more_than_exp_of_minus(x: Array) -> Array:
    """1 + exp(−x) = 1 / σ(x), ∞ where that is more than the dtype holds; x is left as it is."""
    out = np.negative(x)
    with np.errstate(over="ignore"):
        np.exp(out, out=out)
    out += 1
    return out


def _sigmoid(x: Array) -> Array:
    """(1 + tanh(x/2)) / 2, which never overflows."""
    half = x.dtype.type(0.5)
    out = np.tanh(x * half)
    out += 1
    out *= half
    return out
