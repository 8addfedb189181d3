"""Encoders of histories, by the formulas of `recs_core.contract.encoders`, on histories in lanes.

A history's codes are rows of one matrix (places, width), lane after lane; only attention and recurrent layers look at
lanes as such. What stands in empty places is read by nothing. No layer of Keras's own: several round float64.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from recs_core.contract.encoders import GRU, NORMAL_EPSILON, EncoderPlan, SelfAttention, rotation
from recs_core.contract.task import MASKED
from recs_core.keras_backend.engines import Engine, Tensor, Tree, Values


def encode(engine: Engine, plan: EncoderPlan, weights: Values, table: Tensor, lanes: Tree) -> Tensor:
    """(n, width): what each row reads. `weights`: the plan's by canonical name; `table`: the rows that codes count in;
    `lanes`: as of `recs_core.contract.lanes.Lanes`, "keep" only where dropout is.
    Raises `UnsupportedFeature` for codes without the times that the encoder reads."""
    own = plan.own(weights)
    plan.check_times(lanes.get("buckets"))
    scale = 1 / (1 - plan.spec.dropout)
    keep = {
        name: ops.reshape(ops.cast(mask, _dtype(table)), (-1, plan.spec.masked(plan.width)[name])) * scale
        for name, mask in lanes.get("keep", {}).items()
    }
    x = ops.take(table, ops.reshape(lanes["codes"], (-1,)), axis=0)
    if isinstance(plan.spec, GRU):
        encoded = _gru(engine, plan, own, x, lanes["start"], keep)
    else:
        encoded = _self_attention(engine, plan, own, x, lanes["start"], keep, lanes.get("buckets"))
    zero = ops.zeros((1, plan.width), _dtype(table))
    read = ops.concatenate([encoded, zero], axis=0)  # −1 reads the last: zeros
    at = lanes["at"]
    return ops.take(read, ops.where(at < 0, ops.shape(read)[0] - 1, at), axis=0)


def lanes_of(codes: Tensor) -> dict[str, Tensor]:
    """A lane for each row of codes (n, length), oldest first, filled with −1 at either end."""
    present = ops.cast(codes >= 0, "int32")
    number = ops.sum(present, axis=1)
    first = ops.cast(ops.argmax(present, axis=1), "int32")
    rows, places = ops.shape(codes)
    at = ops.arange(rows, dtype="int32") * places + first + number - 1
    return {
        "codes": ops.where(codes < 0, 0, codes),
        "start": ops.where(present > 0, first[:, None], ops.arange(places, dtype="int32")[None]),
        "at": ops.where(number > 0, at, -1),
    }


def _self_attention(
    engine: Engine, plan: EncoderPlan, weights: Values, x: Tensor, start: Tensor, keep: Values, buckets: Tensor | None
) -> Tensor:
    spec = plan.spec
    assert isinstance(spec, SelfAttention)
    here = ops.arange(ops.shape(start)[1], dtype="int32")
    number = ops.reshape(here[None] - start, (-1,))  # of each place within its history
    hides = ops.logical_or(here[None, None, :] > here[None, :, None], here[None, None, :] < start[:, :, None])
    hidden = (ops.cast(hides, _dtype(x)) * MASKED)[:, None]  # (lanes, 1, i, j)
    if spec.position == "learned":
        x = x + ops.take(weights["position"], number, axis=0)
    turns = None
    if spec.position == "rotary":
        tables = (np.asarray(table, _dtype(x)) for table in rotation(plan.length, plan.width // spec.heads))
        turns = [ops.take(ops.convert_to_tensor(table), number, axis=0)[:, None] for table in tables]
    x = _kept(x, "input", keep)
    for i in range(spec.layers):
        added = hidden if buckets is None else hidden + _time_bias(weights[f"layer_{i}/time"], buckets)
        x = _layer(engine, spec, weights, f"layer_{i}", x, added, turns, keep)
    return _normal(weights, "normal", x)


def _layer(
    engine: Engine,
    spec: SelfAttention,
    weights: Values,
    name: str,
    x: Tensor,
    added: Tensor,
    turns: list[Tensor] | None,
    keep: Values,
) -> Tensor:
    width = x.shape[1]
    qkv = _linear(
        weights, _normal(weights, f"{name}/normal_1", x), *(f"{name}/{part}" for part in ("query", "key", "value"))
    )
    qk, v = ops.split(qkv, [2 * width], axis=1)
    if turns is not None:
        qk = _rotated(qk, 2 * spec.heads, *turns)
    q, k = ops.split(qk, 2, axis=1)
    y = _linear(weights, _attention(q, k, v, spec.heads, added), f"{name}/output")
    u = _gated(engine, spec, weights, f"{name}/gate_1", x, _kept(y, f"{name}/attention", keep))
    f = _normal(weights, f"{name}/normal_2", u)
    if spec.activation == "swiglu":
        h, t = ops.split(_linear(weights, f, f"{name}/ffn_1", f"{name}/ffn_3"), 2, axis=1)
        m = h * engine.activate("sigmoid", h) * t
    else:
        m = engine.activate("relu", _linear(weights, f, f"{name}/ffn_1"))
    z = _linear(weights, _kept(m, f"{name}/hidden", keep), f"{name}/ffn_2")
    return _gated(engine, spec, weights, f"{name}/gate_2", u, _kept(z, f"{name}/output", keep))


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int, added: Tensor) -> Tensor:
    """(places, width): of each head softmax(⟨Q_i, K_j⟩ / √e + added_ij) V. `added`: (lanes, heads or 1, i, j), −1e30
    where a place is hidden."""
    width = q.shape[1]
    lanes, _, length, _ = ops.shape(added)

    def by_head(x: Tensor) -> Tensor:
        return ops.transpose(ops.reshape(x, (lanes, length, heads, width // heads)), (0, 2, 1, 3))

    q, k, v = by_head(q * (width // heads) ** -0.5), by_head(k), by_head(v)
    shares = ops.softmax(q @ ops.transpose(k, (0, 1, 3, 2)) + added, axis=-1)
    return ops.reshape(ops.transpose(shares @ v, (0, 2, 1, 3)), (-1, width))


def _time_bias(bias: Tensor, buckets: Tensor) -> Tensor:
    """(lanes, heads, i, j): the row of `bias` (128, heads) of each of the buckets (lanes, i, j)."""
    return ops.transpose(ops.take(bias, ops.cast(buckets, "int32"), axis=0), (0, 3, 1, 2))


def _rotated(x: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
    """Columns k and k + e/2 of each head turned by their angle; cos and sin are (places, 1, e / 2)."""
    width = x.shape[1]
    a, b = ops.split(ops.reshape(x, (-1, heads, width // heads)), 2, axis=2)
    return ops.reshape(ops.concatenate([a * cos - b * sin, b * cos + a * sin], axis=2), (-1, width))


def _gru(engine: Engine, plan: EncoderPlan, weights: Values, x: Tensor, start: Tensor, keep: Values) -> Tensor:
    spec = plan.spec
    assert isinstance(spec, GRU)
    lanes, length = ops.shape(start)
    # A history begins with no state: what the one before it in the lane left counts 0.
    goes_on = ops.cast(ops.transpose(start) < ops.arange(length, dtype="int32")[:, None], _dtype(x))[:, :, None]
    x = _kept(x, "input", keep)
    for i in range(spec.layers):
        inputs = ops.reshape(_linear(weights, x, f"layer_{i}/input"), (lanes, length, 3 * plan.width))
        states = _states(engine, weights, f"layer_{i}/state", ops.transpose(inputs, (1, 0, 2)), goes_on)
        x = ops.reshape(ops.transpose(states, (1, 0, 2)), (-1, plan.width))
        x = _kept(x, f"layer_{i}/output", keep)
    return x


def _states(engine: Engine, weights: Values, name: str, inputs: Tensor, goes_on: Tensor) -> Tensor:
    """(length, lanes, width): the state after each place, from x W + b of it (length, lanes, 3 width)."""
    width = inputs.shape[2] // 3

    def step(state: Tensor, now: tuple[Tensor, ...]) -> Tensor:
        a, going_on = now
        state = state * going_on
        b = _linear(weights, state, name)
        gates = engine.activate("sigmoid", a[:, : 2 * width] + b[:, : 2 * width])
        reset, update = gates[:, :width], gates[:, width:]
        fresh = engine.activate("tanh", a[:, 2 * width :] + reset * b[:, 2 * width :])
        return fresh + update * (state - fresh)

    return engine.scan(step, ops.zeros_like(inputs[0, :, :width]), (inputs, goes_on))


def _linear(weights: Values, x: Tensor, *names: str) -> Tensor:
    """x W + b; of several, side by side, in one product."""
    kernels, biases = ([weights[f"{name}/{part}"] for name in names] for part in ("kernel", "bias"))
    if len(names) > 1:
        return x @ ops.concatenate(kernels, axis=1) + ops.concatenate(biases, axis=0)
    return x @ kernels[0] + biases[0]


def _normal(weights: Values, name: str, x: Tensor) -> Tensor:
    """Layer normalisation. Sums: `ops.mean` divides by a float32 on two of the engines."""
    width = x.shape[1]
    x = x - ops.sum(x, axis=1, keepdims=True) / width
    x = x * ops.rsqrt(ops.sum(x * x, axis=1, keepdims=True) / width + NORMAL_EPSILON)
    return x * weights[f"{name}/scale"] + weights[f"{name}/bias"]


def _gated(engine: Engine, spec: SelfAttention, weights: Values, name: str, x: Tensor, y: Tensor) -> Tensor:
    """x + σ(x W + b) ⊙ y, or x + y."""
    return x + engine.activate("sigmoid", _linear(weights, x, name)) * y if spec.gate else x + y


def _kept(x: Tensor, name: str, keep: Values) -> Tensor:
    """x with dropout, where there are masks."""
    return x * keep[name] if name in keep else x


def _dtype(x: Tensor) -> Any:
    return keras.backend.standardize_dtype(x.dtype)
