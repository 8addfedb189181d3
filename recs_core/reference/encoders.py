"""Encoders of one history, forward and backward, by the formulas of `recs_core.contract.encoders`.

x (n, d): the rows of the history's codes, oldest first. `ago` (n, n): the seconds from code j to what place i looks
back from, None where the encoder reads no time. A function here returns its value and a function back: from
∂loss/∂value to ∂loss/∂x, adding ∂loss/∂weight to `gradients` by the weight's name. `keep`: dropout's multipliers, by
name, (n, width) each, or a 1. Everything is float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.encoders import GRU, NORMAL_EPSILON, ROTARY_BASE, TIME_BUCKETS, TIME_STEP, SelfAttention

Array = NDArray[np.float64]
Back: TypeAlias = Callable[[Array], Array]
Keep: TypeAlias = "Mapping[str, Array]"


class Weights:
    """An encoder's weights by the names of the formulas, and the gradients that have come together so far."""

    def __init__(self, values: Mapping[str, NDArray[Any]]) -> None:
        self.values = {name: np.asarray(value, np.float64) for name, value in values.items()}
        self.gradients = {name: np.zeros(np.shape(value)) for name, value in values.items()}

    def linear(self, name: str, x: Array) -> tuple[Array, Back]:
        """x W + b."""
        kernel = self.values[f"{name}/kernel"]

        def back(dy: Array) -> Array:
            self.gradients[f"{name}/kernel"] += x.T @ dy
            self.gradients[f"{name}/bias"] += dy.sum(axis=0)
            return dy @ kernel.T

        return x @ kernel + self.values[f"{name}/bias"], back

    def normal(self, name: str, x: Array) -> tuple[Array, Back]:
        """scale ⊙ (x − mean) / √(var + 1e-5) + bias, row by row."""
        root = np.sqrt(x.var(axis=1, keepdims=True) + NORMAL_EPSILON)
        unit = (x - x.mean(axis=1, keepdims=True)) / root
        scale = self.values[f"{name}/scale"]

        def back(dy: Array) -> Array:
            self.gradients[f"{name}/scale"] += (dy * unit).sum(axis=0)
            self.gradients[f"{name}/bias"] += dy.sum(axis=0)
            d = dy * scale
            return (d - d.mean(axis=1, keepdims=True) - unit * (d * unit).mean(axis=1, keepdims=True)) / root

        return unit * scale + self.values[f"{name}/bias"], back

    def gated(self, name: str, x: Array, y: Array, gate: bool) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        """x + σ(x W + b) ⊙ y, or x + y without a gate; back to x and y."""
        if not gate:
            return x + y, lambda d: (d, d)
        z, back_z = self.linear(name, x)
        g = _sigmoid(z)

        def back(d: Array) -> tuple[Array, Array]:
            return d + back_z(d * y * g * (1 - g)), d * g

        return x + g * y, back


def encode(
    spec: GRU | SelfAttention, weights: Weights, x: Array, keep: Keep, ago: Array | None = None
) -> tuple[Array, Back]:
    """(n, d): row t is what the history's first t + 1 codes come to."""
    if isinstance(spec, GRU):
        return _gru(spec, weights, x, keep)
    return _self_attention(spec, weights, x, keep, ago)


def _self_attention(
    spec: SelfAttention, weights: Weights, x: Array, keep: Keep, ago: Array | None
) -> tuple[Array, Back]:
    n, backs = len(x), []
    learned = spec.position == "learned"
    x = (x + weights.values["position"][:n] if learned else x) * keep["input"]
    for i in range(spec.layers):
        x, back = _layer(spec, weights, x, f"layer_{i}", keep, ago)
        backs.append(back)
    out, back_normal = weights.normal("normal", x)

    def all_back(d: Array) -> Array:
        d = back_normal(d)
        for back in reversed(backs):
            d = back(d)
        d = d * keep["input"]
        if learned:
            weights.gradients["position"][:n] += d
        return d

    return out, all_back


def _layer(
    spec: SelfAttention, weights: Weights, x: Array, name: str, keep: Keep, ago: Array | None
) -> tuple[Array, Back]:
    a, back_a = weights.normal(f"{name}/normal_1", x)
    (q, back_q), (k, back_k), (v, back_v) = (weights.linear(f"{name}/{of}", a) for of in ("query", "key", "value"))
    rotary = spec.position == "rotary"
    if rotary:
        q, k = _rotated(q, spec.heads), _rotated(k, spec.heads)
    bias, back_bias = _time_bias(weights, f"{name}/time", ago) if spec.time else (np.zeros((spec.heads, 1, 1)), None)
    o, back_o = _attention(q, k, v, bias)
    y, back_y = weights.linear(f"{name}/output", o)
    u, back_u = weights.gated(f"{name}/gate_1", x, keep[f"{name}/attention"] * y, spec.gate)

    f, back_f = weights.normal(f"{name}/normal_2", u)
    h, back_h = weights.linear(f"{name}/ffn_1", f)
    swiglu = spec.activation == "swiglu"
    active = h * _sigmoid(h) if swiglu else np.maximum(h, 0)
    t, back_t = weights.linear(f"{name}/ffn_3", f) if swiglu else (np.ones_like(h), None)
    z, back_z = weights.linear(f"{name}/ffn_2", active * t * keep[f"{name}/hidden"])
    out, back_out = weights.gated(f"{name}/gate_2", u, keep[f"{name}/output"] * z, spec.gate)

    def back(d: Array) -> Array:
        du, dz = back_out(d)
        dm = back_z(dz * keep[f"{name}/output"]) * keep[f"{name}/hidden"]
        s = _sigmoid(h)
        df = back_h(dm * t * (s * (1 + h * (1 - s)) if swiglu else h > 0))
        if back_t is not None:
            df = df + back_t(dm * active)
        dx, dy = back_u(du + back_f(df))
        dq, dk, dv, by_bias = back_o(back_y(dy * keep[f"{name}/attention"]))
        if back_bias is not None:
            back_bias(by_bias)
        if rotary:
            dq, dk = _rotated(dq, spec.heads, -1.0), _rotated(dk, spec.heads, -1.0)
        return dx + back_a(back_q(dq) + back_k(dk) + back_v(dv))

    return out, back


def _time_bias(weights: Weights, name: str, ago: Array | None) -> tuple[Array, Callable[[Array], None]]:
    """(heads, n, n): the row of the weight that each number of seconds falls into; and the way back to the weight."""
    assert ago is not None
    row = np.minimum(TIME_BUCKETS - 1, np.floor(np.log(np.maximum(1, ago)) / TIME_STEP)).astype(int)

    def back(d: Array) -> None:
        np.add.at(weights.gradients[name], row, d.transpose(1, 2, 0))

    return weights.values[name][row].transpose(2, 0, 1), back


def _attention(
    q: Array, k: Array, v: Array, bias: Array
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, Array]]]:
    """Of each head softmax(⟨Q_i, K_j⟩ / √e + bias_ij over j ≤ i) V, the heads side by side; back to q, k, v and the
    bias (heads, n, n)."""
    (n, d), heads = q.shape, len(bias)
    root = np.sqrt(d // heads)
    past = np.tril(np.ones((n, n), bool))
    out = np.zeros((n, d))
    shares = []
    for h in range(heads):
        own = slice(h * d // heads, (h + 1) * d // heads)
        scores = np.where(past, q[:, own] @ k[:, own].T / root + bias[h], -np.inf)
        share = np.exp(scores - scores.max(axis=1, keepdims=True))
        share /= share.sum(axis=1, keepdims=True)
        shares.append((own, share))
        out[:, own] = share @ v[:, own]

    def back(do: Array) -> tuple[Array, Array, Array, Array]:
        dq, dk, dv = np.zeros((3, n, d))
        by_bias = np.zeros((heads, n, n))
        for h, (own, share) in enumerate(shares):
            by_share = do[:, own] @ v[:, own].T
            by_score = by_bias[h] = share * (by_share - (by_share * share).sum(axis=1, keepdims=True))
            dq[:, own], dk[:, own] = by_score @ k[:, own] / root, by_score.T @ q[:, own] / root
            dv[:, own] = share.T @ do[:, own]
        return dq, dk, dv, by_bias

    return out, back


def _rotated(x: Array, heads: int, sign: float = 1.0) -> Array:
    """Columns k and k + e/2 of each head turned by t · 10000^(−2k/e); with sign −1 turned back."""
    n, d = x.shape
    e = d // heads
    out = np.empty_like(x)
    for t in range(n):
        for h in range(heads):
            for k in range(e // 2):
                angle = sign * t * ROTARY_BASE ** (-2 * k / e)
                a, b = x[t, h * e + k], x[t, h * e + k + e // 2]
                out[t, h * e + k] = a * np.cos(angle) - b * np.sin(angle)
                out[t, h * e + k + e // 2] = b * np.cos(angle) + a * np.sin(angle)
    return out


def _gru(spec: GRU, weights: Weights, x: Array, keep: Keep) -> tuple[Array, Back]:
    x = x * keep["input"]
    backs = []
    for i in range(spec.layers):
        x, back = _gru_layer(weights, x, f"layer_{i}", keep[f"layer_{i}/output"])
        backs.append(back)

    def all_back(d: Array) -> Array:
        for back in reversed(backs):
            d = back(d)
        return d * keep["input"]

    return x, all_back


def _gru_layer(weights: Weights, x: Array, name: str, keep: Array) -> tuple[Array, Back]:
    n, d = x.shape
    r, z, new = (slice(j * d, (j + 1) * d) for j in range(3))
    inputs, back_inputs = weights.linear(f"{name}/input", x)
    state, steps, out = np.zeros((1, d)), [], np.zeros((n, d))
    for t in range(n):
        before = state
        a, (b, back_b) = inputs[t : t + 1], weights.linear(f"{name}/state", before)
        reset, update = _sigmoid(a[:, r] + b[:, r]), _sigmoid(a[:, z] + b[:, z])
        fresh = np.tanh(a[:, new] + reset * b[:, new])
        state = (1 - update) * fresh + update * before
        steps.append((before, reset, update, fresh, b[:, new], back_b))
        out[t] = state[0]

    def back(dout: Array) -> Array:
        dout = dout * keep
        da, dh = np.zeros((n, 3 * d)), np.zeros((1, d))
        for t in reversed(range(n)):
            before, reset, update, fresh, recurrent, back_b = steps[t]
            dh = dh + dout[t]
            dn = dh * (1 - update) * (1 - fresh**2)
            dz = dh * (before - fresh) * update * (1 - update)
            dr = dn * recurrent * reset * (1 - reset)
            da[t] = np.concatenate([dr, dz, dn], axis=1)[0]
            dh = dh * update + back_b(np.concatenate([dr, dz, dn * reset], axis=1))
        return back_inputs(da)

    return out * keep, back


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))
