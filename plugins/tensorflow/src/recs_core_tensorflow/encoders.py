"""Encoders of histories, by the formulas of `recs_core.contract.encoders`, on histories in lanes.

A history's codes are rows of one matrix (places, width), lane after lane; only attention and recurrent layers look at
lanes as such. What stands in empty places is read by nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recs_core.contract.encoders import GRU, NORMAL_EPSILON, EncoderPlan, SelfAttention, rotation
from recs_core.contract.task import MASKED
from recs_core_tensorflow.environment import tf

Tensors = Mapping[str, Any]


def encode(plan: EncoderPlan, weights: Tensors, table: Any, lanes: Tensors) -> Any:
    """(n, width): what each row reads. `weights`: the plan's by canonical name; `table`: the rows that codes count in;
    `lanes`: as of `recs_core.contract.lanes.Lanes`, "keep" only where dropout is.
    Raises `UnsupportedFeature` for codes without the times that the encoder reads."""
    own = {name: tf.convert_to_tensor(value) for name, value in plan.own(weights).items()}
    plan.check_times(lanes.get("buckets"))
    scale = 1 / (1 - plan.spec.dropout)
    keep = {
        name: tf.reshape(tf.cast(mask, table.dtype) * scale, (-1, plan.spec.masked(plan.width)[name]))
        for name, mask in lanes.get("keep", {}).items()
    }
    x = tf.gather(table, tf.reshape(lanes["codes"], [-1]))
    if isinstance(plan.spec, GRU):
        encoded = _gru(plan, own, x, lanes["start"], keep)
    else:
        encoded = _self_attention(plan, own, x, lanes["start"], keep, lanes.get("buckets"))
    read = tf.concat([encoded, tf.zeros((1, plan.width), x.dtype)], axis=0)  # −1 reads the last: zeros
    return tf.gather(read, tf.where(lanes["at"] < 0, tf.shape(encoded)[0], lanes["at"]))


def lanes_of(ragged: Any, length: int) -> dict[str, Any]:
    """A lane for each row of a `tf.RaggedTensor` of codes, oldest first, of which the latest `length` count."""
    codes = ragged[:, -length:].to_tensor()
    codes = tf.pad(codes, [[0, 0], [0, tf.cast(tf.shape(codes)[1] == 0, tf.int32)]])  # a lane has a place
    places = tf.shape(codes)[1]
    last = tf.cast(tf.minimum(ragged.row_lengths(), length), tf.int32) - 1
    lane = tf.range(tf.shape(codes)[0])
    return {
        "codes": codes,
        "start": tf.zeros_like(codes, tf.int32),
        "at": tf.where(last < 0, -1, lane * places + last),
    }


def _self_attention(plan: EncoderPlan, weights: Tensors, x: Any, start: Any, keep: Tensors, buckets: Any) -> Any:
    spec = plan.spec
    assert isinstance(spec, SelfAttention)
    here = tf.range(tf.shape(start)[1])
    number = tf.reshape(here - start, [-1])  # of each place within its history
    seen = (here[None, None, :] <= here[None, :, None]) & (here[None, None, :] >= start[:, :, None])
    hidden = tf.where(seen, tf.zeros((), x.dtype), tf.constant(MASKED, x.dtype))[:, None]  # (lanes, 1, i, j)
    if spec.position == "learned":
        x += tf.gather(weights["position"], number)
    turns = None
    if spec.position == "rotary":
        tables = rotation(plan.length, plan.width // spec.heads)
        turns = [tf.gather(tf.constant(table, x.dtype), number)[:, None] for table in tables]
    x = _kept(x, "input", keep)
    for i in range(spec.layers):
        added = hidden if buckets is None else hidden + _time_bias(weights[f"layer_{i}/time"], buckets)
        x = _layer(spec, weights, f"layer_{i}", x, added, turns, keep)
    return _normal(weights, "normal", x)


def _layer(
    spec: SelfAttention, weights: Tensors, name: str, x: Any, added: Any, turns: list[Any] | None, keep: Tensors
) -> Any:
    width = x.shape[1]
    qkv = _linear(
        weights, _normal(weights, f"{name}/normal_1", x), *(f"{name}/{part}" for part in ("query", "key", "value"))
    )
    qk, v = tf.split(qkv, [2 * width, width], axis=1)
    if turns is not None:
        qk = _rotated(qk, 2 * spec.heads, *turns)
    q, k = tf.split(qk, 2, axis=1)
    y = _linear(weights, _attention(q, k, v, spec.heads, added), f"{name}/output")
    u = _gated(spec, weights, f"{name}/gate_1", x, _kept(y, f"{name}/attention", keep))
    f = _normal(weights, f"{name}/normal_2", u)
    if spec.activation == "swiglu":
        h, t = tf.split(_linear(weights, f, f"{name}/ffn_1", f"{name}/ffn_3"), 2, axis=1)
        m = h * tf.sigmoid(h) * t
    else:
        m = tf.nn.relu(_linear(weights, f, f"{name}/ffn_1"))
    z = _linear(weights, _kept(m, f"{name}/hidden", keep), f"{name}/ffn_2")
    return _gated(spec, weights, f"{name}/gate_2", u, _kept(z, f"{name}/output", keep))


def _attention(q: Any, k: Any, v: Any, heads: int, added: Any) -> Any:
    """(places, width): of each head softmax(⟨Q_i, K_j⟩ / √e + added_ij) V. `added`: (lanes, heads or 1, i, j), −1e30
    where a place is hidden."""
    width = q.shape[1]
    lanes, length = tf.shape(added)[0], tf.shape(added)[2]

    def by_head(x: Any) -> Any:
        return tf.transpose(tf.reshape(x, (lanes, length, heads, width // heads)), (0, 2, 1, 3))

    q, k, v = by_head(q * (width // heads) ** -0.5), by_head(k), by_head(v)
    shares = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) + added)
    return tf.reshape(tf.transpose(tf.matmul(shares, v), (0, 2, 1, 3)), (-1, width))


def _time_bias(bias: Any, buckets: Any) -> Any:
    """(lanes, heads, i, j): the row of `bias` (128, heads) of each of the buckets (lanes, i, j)."""
    return tf.transpose(tf.gather(bias, tf.cast(buckets, tf.int32)), (0, 3, 1, 2))


def _rotated(x: Any, heads: int, cos: Any, sin: Any) -> Any:
    """Columns k and k + e/2 of each head turned by their angle; cos and sin are (places, 1, e / 2)."""
    width = x.shape[1]
    a, b = tf.split(tf.reshape(x, (-1, heads, width // heads)), 2, axis=2)
    return tf.reshape(tf.concat([a * cos - b * sin, b * cos + a * sin], axis=2), (-1, width))


def _gru(plan: EncoderPlan, weights: Tensors, x: Any, start: Any, keep: Tensors) -> Any:
    spec = plan.spec
    assert isinstance(spec, GRU)
    lanes, length = tf.shape(start)[0], tf.shape(start)[1]
    # A history begins with no state: what the one before it in the lane left counts 0.
    goes_on = tf.cast(tf.transpose(start) < tf.range(length)[:, None], x.dtype)[:, :, None]
    x = _kept(x, "input", keep)
    for i in range(spec.layers):
        inputs = tf.reshape(_linear(weights, x, f"layer_{i}/input"), (lanes, length, 3 * plan.width))
        states = _states(weights, f"layer_{i}/state", tf.transpose(inputs, (1, 0, 2)), goes_on)
        x = tf.reshape(tf.transpose(states, (1, 0, 2)), (-1, plan.width))
        x = _kept(x, f"layer_{i}/output", keep)
    return x


def _states(weights: Tensors, name: str, inputs: Any, goes_on: Any) -> Any:
    """(length, lanes, width): the state after each place, from x W + b of it (length, lanes, 3 width)."""
    width = inputs.shape[2] // 3

    def step(state: Any, now: tuple[Any, Any]) -> Any:
        a, going_on = now
        state *= going_on
        b = _linear(weights, state, name)
        reset, update = tf.split(tf.sigmoid(a[:, : 2 * width] + b[:, : 2 * width]), 2, axis=1)
        fresh = tf.tanh(a[:, 2 * width :] + reset * b[:, 2 * width :])
        return fresh + update * (state - fresh)

    return tf.scan(step, (inputs, goes_on), tf.zeros((tf.shape(inputs)[1], width), inputs.dtype))


def _linear(weights: Tensors, x: Any, *names: str) -> Any:
    """x W + b; of several, side by side, in one product."""
    kernels, biases = ([weights[f"{name}/{part}"] for name in names] for part in ("kernel", "bias"))
    if len(names) > 1:
        return tf.nn.bias_add(tf.matmul(x, tf.concat(kernels, axis=1)), tf.concat(biases, axis=0))
    return tf.nn.bias_add(tf.matmul(x, kernels[0]), biases[0])


def _normal(weights: Tensors, name: str, x: Any) -> Any:
    """Layer normalisation."""
    x -= tf.reduce_mean(x, axis=1, keepdims=True)
    x *= tf.math.rsqrt(tf.reduce_mean(x * x, axis=1, keepdims=True) + NORMAL_EPSILON)
    return x * weights[f"{name}/scale"] + weights[f"{name}/bias"]


def _gated(spec: SelfAttention, weights: Tensors, name: str, x: Any, y: Any) -> Any:
    """x + σ(x W + b) ⊙ y, or x + y."""
    return x + tf.sigmoid(_linear(weights, x, name)) * y if spec.gate else x + y


def _kept(x: Any, name: str, keep: Tensors) -> Any:
    """x with dropout, where there are masks."""
    return x * keep[name] if name in keep else x
