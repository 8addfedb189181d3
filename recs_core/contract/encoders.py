"""Encoders: what a history becomes where its order counts.

Declared as `GRU` or `SelfAttention`, and handed to a backend as an `EncoderPlan`: weights by name, where each starts,
and which dropout masks a batch brings. The formulas, for one history of codes c_0 … c_{n−1}, oldest first:

    input            X_t = E[c_t] (+ P[t], position="learned"),   X ← X ⊙ keep("input")
    normal(x)        scale ⊙ (x − mean) / √(var + 1e-5) + bias;   var ÷ width

    SelfAttention, each layer
      A = normal_1(X);   Q, K, V = A W + b, each its own;   head h owns the columns he … he + e − 1, e = width / heads
      rotary         of Q and K: in each head, columns k and k + e/2 turn by t · 10000^(−2k/e)
      scores         S_ij = ⟨Q_i, K_j⟩ / √e, for j ≤ i alone;   Y = softmax(S) V W_output + b_output
      time           S_ij + time[min(127, ⌊ln(max(1, Δ)) / 0.301⌋), head], Δ = asked_i − times_j seconds; asked_i is
                     times_i ("history"), or when place i is asked for what follows it ("request")
      U = X + G_1 ⊙ keep("layer_i/attention") ⊙ Y;   G_1 = σ(X W_gate_1 + b_gate_1), or 1 without gate
      F = normal_2(U);   relu: M = max(F W_1 + b_1, 0);   swiglu: M = silu(F W_1 + b_1) ⊙ (F W_3 + b_3)
      Z = (M ⊙ keep("layer_i/hidden")) W_2 + b_2
      X ← U + G_2 ⊙ keep("layer_i/output") ⊙ Z;   G_2 = σ(U W_gate_2 + b_gate_2), or 1
    output           H = normal(X)

    GRU, each layer, h_{−1} = 0; the columns of W, b, U and c are those of r, z and n, in this order
      r = σ(x W_r + b_r + h U_r + c_r),   z alike,   n = tanh(x W_n + b_n + r ⊙ (h U_n + c_n))
      h ← (1 − z) ⊙ n + z ⊙ h;   the next layer's x, or the output, is h ⊙ keep("layer_i/output")

Row t of the output reads c_0 … c_t and nothing later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.validation import Declared, is_finite, is_one_of, is_whole, require

Start: TypeAlias = Literal["zeros", "ones", "glorot", "table", "recurrent"]

NORMAL_EPSILON = 1e-5
"""What is added to a variance before its root, in `normal`."""

ROTARY_BASE = 10_000.0

TIME_BUCKETS = 128
"""Rows of a layer's time bias."""

TIME_STEP = 0.301
"""How much longer, in logarithms, each bucket of times is than the one before it: 7.65 of them per factor of ten."""

Time: TypeAlias = Literal["history", "request"]


class Part(NamedTuple):
    """One weight of an encoder. `start`: "zeros", "ones", "glorot" (uniform, ± √(6 / (in + out))), "table" (as a
    table's rows) or "recurrent" (uniform, ± 1/√width)."""

    shape: tuple[int, ...]
    start: Start


@dataclass(frozen=True)
class Encoder(Declared):
    """The base of the encoders. `dropout`: the share of each masked array that a training step zeroes; the rest is
    scaled by 1/(1 − dropout)."""

    dropout: float = 0.2

    capability: ClassVar[str]

    @property
    def capabilities(self) -> tuple[str, ...]:
        """What a backend that computes it declares."""
        return (self.capability,)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_finite(self.dropout) and 0 <= self.dropout < 1, self, f"needs 0 ≤ dropout < 1, got {self.dropout!r}")

    @property
    def reads_time(self) -> Time | None:
        """What it measures times from: "history", each code's own, or "request", when it is asked; None: no times."""
        return None

    def check(self, where: str, width: int, length: int | None) -> None:
        """Raise `SpecError` unless it can encode histories of `length` codes, `width` numbers each."""
        if length is None or length < 2:
            raise SpecError(f"{where}: {type(self).__name__} needs max_length ≥ 2, got {length!r}; 50 or 200 are usual")

    def describe(self) -> str:
        """In a few words, for reports."""
        raise NotImplementedError

    def parts(self, width: int, length: int) -> dict[str, Part]:
        """Its weights, by names that count from its own prefix, in a fixed order."""
        raise NotImplementedError

    def masked(self, width: int) -> dict[str, int]:
        """Each array of the formulas that has a keep mask → its width."""
        raise NotImplementedError


@dataclass(frozen=True)
class GRU(Encoder):
    """A gated recurrent unit with two biases, reset after the product, as `torch.nn.GRU` and Keras have it."""

    layers: int = 1

    capability: ClassVar[str] = "encoder_gru"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(is_whole(self.layers, 1), self, f"needs layers ≥ 1, got {self.layers!r}")

    def describe(self) -> str:
        return f"GRU, {_layers(self.layers)}"

    def parts(self, width: int, length: int) -> dict[str, Part]:
        out = {}
        for i in range(self.layers):
            for side in ("input", "state"):
                out[f"layer_{i}/{side}/kernel"] = Part((width, 3 * width), "recurrent")
                out[f"layer_{i}/{side}/bias"] = Part((3 * width,), "zeros")
        return out

    def masked(self, width: int) -> dict[str, int]:
        return {"input": width, **{f"layer_{i}/output": width for i in range(self.layers)}}


@dataclass(frozen=True)
class SelfAttention(Encoder):
    """Causal self-attention, normalised before each block.

    `ffn`: width of the feed-forward part, in widths of the history. `activation`: "swiglu", or "relu". `gate`: whether
    each residual is scaled by a learned sigmoid. `position`: "rotary", "learned" (a row for each place, counted from
    the oldest of those kept) or None. `time`: a learned bias of each head for how long ago a code was, seen from
    another's time, "history", or from when what follows is asked for, "request", which serving knows by `at=`; None:
    times count for nothing. SASRec, with its keys normalised, is `SelfAttention(ffn=1, activation="relu",
    gate=False, position="learned")`; eSASRec's LiGR layers are the defaults.
    """

    layers: int = 2
    heads: int = 1
    ffn: int = 4
    activation: Literal["swiglu", "relu"] = "swiglu"
    gate: bool = True
    position: Literal["rotary", "learned"] | None = "rotary"
    time: Time | None = None

    capability: ClassVar[str] = "encoder_attention"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "heads", "ffn"):
            value = getattr(self, name)
            require(is_whole(value, 1), self, f"needs {name} ≥ 1, got {value!r}")
        require(
            is_one_of(self.activation, ("swiglu", "relu")),
            self,
            f"activation is 'swiglu' or 'relu', got {self.activation!r}",
        )
        require(isinstance(self.gate, bool), self, f"gate is True or False, got {self.gate!r}")
        require(
            self.position is None or is_one_of(self.position, ("rotary", "learned")),
            self,
            f"position is 'rotary', 'learned' or None, got {self.position!r}",
        )
        require(
            self.time is None or is_one_of(self.time, ("history", "request")),
            self,
            f"time is 'history', 'request' or None, got {self.time!r}",
        )

    @property
    def reads_time(self) -> Time | None:
        return self.time

    @property
    def capabilities(self) -> tuple[str, ...]:
        return (self.capability, *(["encoder_time"] if self.time else []))

    def check(self, where: str, width: int, length: int | None) -> None:
        super().check(where, width, length)
        if width % self.heads:
            raise SpecError(f"{where}: heads={self.heads} must divide dim={width}")
        if self.position == "rotary" and width // self.heads % 2:
            raise SpecError(
                f"{where}: position='rotary' turns pairs of columns, but a head has {width // self.heads}; choose an "
                "even dim / heads, or position='learned'"
            )

    def describe(self) -> str:
        timed = f", by {self.time} time" if self.time else ""
        return f"self-attention, {_layers(self.layers)}, {self.activation} × {self.ffn}{timed}"

    def parts(self, width: int, length: int) -> dict[str, Part]:
        d, f = width, self.ffn * width
        out = {"position": Part((length, d), "table")} if self.position == "learned" else {}
        for i in range(self.layers):
            layer: dict[str, Part] = _normal("normal_1", d)
            for name in ("query", "key", "value", "output"):
                layer |= _dense(name, d, d)
            if self.time:
                layer["time"] = Part((TIME_BUCKETS, self.heads), "zeros")
            if self.gate:
                layer |= _dense("gate_1", d, d)
            layer |= _normal("normal_2", d)
            layer |= _dense("ffn_1", d, f)
            if self.activation == "swiglu":
                layer |= _dense("ffn_3", d, f)
            layer |= _dense("ffn_2", f, d)
            if self.gate:
                layer |= _dense("gate_2", d, d)
            out |= {f"layer_{i}/{name}": part for name, part in layer.items()}
        return out | _normal("normal", d)

    def masked(self, width: int) -> dict[str, int]:
        out = {"input": width}
        for i in range(self.layers):
            out |= {
                f"layer_{i}/attention": width,
                f"layer_{i}/hidden": self.ffn * width,
                f"layer_{i}/output": width,
            }
        return out


def _layers(number: int) -> str:
    return "1 layer" if number == 1 else f"{number} layers"


def _dense(name: str, inputs: int, outputs: int) -> dict[str, Part]:
    return {f"{name}/kernel": Part((inputs, outputs), "glorot"), f"{name}/bias": Part((outputs,), "zeros")}


def _normal(name: str, width: int) -> dict[str, Part]:
    return {f"{name}/scale": Part((width,), "ones"), f"{name}/bias": Part((width,), "zeros")}


@dataclass(frozen=True)
class EncoderPlan:
    """An encoder as a backend builds it, of one column.

    `prefix`: what the canonical names of its weights begin with. `width`: numbers per code, in and out. `length`: the
    most codes that a history has.
    """

    spec: GRU | SelfAttention
    prefix: str
    width: int
    length: int

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """Canonical name of each weight → its shape and where it starts, in a fixed order."""
        return {f"{self.prefix}/{name}": part for name, part in self.spec.parts(self.width, self.length).items()}

    def own(self, weights: Mapping[str, object]) -> dict[str, object]:
        """Its weights among all, by the names of the formulas: `layer_0/query/kernel`."""
        start = len(self.prefix) + 1
        return {name[start:]: weights[name] for name in self.parts}

    def check_times(self, told: object) -> None:
        """Raise `UnsupportedFeature` where it reads times and none are `told`: codes alone are no input for it."""
        if self.spec.reads_time and told is None:
            raise UnsupportedFeature(
                f"{self.prefix}: SelfAttention(time={self.spec.reads_time!r}) reads when past candidates were, which "
                "codes alone do not tell; ask the model, as in model.encode_query(…)"
            )

    @property
    def masked(self) -> dict[str, int]:
        """Each array of the formulas that a batch brings a keep mask for → its width; nothing without dropout."""
        return self.spec.masked(self.width) if self.spec.dropout else {}


def time_buckets(asked: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(n, i, j): the row of the time bias for what was at `times` (n, j), seen from `asked` (n, i), in seconds. Less
    than a second ago, and later, is row 0."""
    out = np.empty((*asked.shape, times.shape[1]), np.uint8)
    for history, seen_from, was in zip(out, asked, times, strict=True):  # one by one, in the processor's cache
        ago = np.subtract.outer(seen_from, was)
        np.log(np.maximum(ago, 1.0, out=ago), out=ago)
        ago /= TIME_STEP
        history[:] = np.minimum(ago, TIME_BUCKETS - 1, out=ago)
    return out


def rotation(length: int, head: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine and sine of t · 10000^(−2k/head), (length, head / 2) each, in float64: a backend rounds them to its
    dtype."""
    k = np.arange(head // 2)
    angle = np.arange(length)[:, None] * ROTARY_BASE ** (-2 * k / head)
    return np.cos(angle), np.sin(angle)
