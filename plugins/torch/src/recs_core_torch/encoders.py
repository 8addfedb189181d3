"""Encoders of histories as modules, by the formulas of `recs_core.contract.encoders`.

Codes lie packed, histories end to end: (nnz, width). Only attention needs a history as a row of its own; histories of
about one length are padded together for it, on the right, where nothing that counts looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from recs_core.contract.encoders import GRU, NORMAL_EPSILON, TIME_BUCKETS, EncoderPlan, SelfAttention, rotation
from recs_core.contract.weights import Weights
from recs_core_torch.sequences import Layout
from recs_core_torch.tensors import copied


def is_kernel(name: str) -> bool:
    """Whether a weight lies transposed: kernels are (in, out), those of PyTorch (out, in)."""
    return name.endswith("/kernel")


def _module_name(name: str) -> str:
    return name.replace("/", "_")


class Encoder(nn.Module):
    """The base of the encoders: `plan`, and the weights as modules.

    `like`, without a number, has the device and dtype of the weights.
    """

    def __init__(self, plan: EncoderPlan, weights: Weights, like: Tensor) -> None:
        super().__init__()
        self.plan = plan
        self.scale = 1 / (1 - plan.spec.dropout)
        for name, value in plan.own(weights).items():
            array = np.asarray(value)
            tensor = copied(array.T if is_kernel(name) else array, like)
            self.register_parameter(_module_name(name), nn.Parameter(tensor))

    def kept(self, x: Tensor, name: str, keep: Mapping[str, Tensor]) -> Tensor:
        """x with dropout, where the batch brings masks; as numbers, for PyTorch multiplies by booleans one by one."""
        return x * keep[name].to(x.dtype).mul_(self.scale) if name in keep else x

    def weight(self, name: str) -> Tensor:
        """A weight by its name in the formulas; a kernel lies (out, in), as PyTorch has it."""
        return self.get_parameter(_module_name(name))

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x W + b."""
        return F.linear(x, self.weight(f"{name}/kernel"), self.weight(f"{name}/bias"))

    def linears(self, x: Tensor, *names: str) -> Tensor:
        """Several side by side, in one product."""
        kernels, biases = ([self.weight(f"{name}/{part}") for name in names] for part in ("kernel", "bias"))
        return F.linear(x, torch.cat(kernels), torch.cat(biases))

    def normal(self, name: str, x: Tensor) -> Tensor:
        """Layer normalisation."""
        return F.layer_norm(x, x.shape[1:], self.weight(f"{name}/scale"), self.weight(f"{name}/bias"), NORMAL_EPSILON)


Attend: TypeAlias = "Callable[[Tensor, Tensor | None], Tensor]"
"""Queries, keys and values (nnz, 3 width), and the time bias (128, heads) or None → what each code draws from its
history, (nnz, width)."""


class SelfAttentionEncoder(Encoder):
    """Causal self-attention."""

    cos: Tensor
    sin: Tensor

    def __init__(self, plan: EncoderPlan, weights: Weights, like: Tensor) -> None:
        super().__init__(plan, weights, like)
        assert isinstance(plan.spec, SelfAttention)
        self.spec = plan.spec
        for name, table in zip(("cos", "sin"), rotation(plan.length, plan.width // self.spec.heads), strict=True):
            self.register_buffer(name, torch.from_numpy(table).to(like.device, like.dtype), persistent=False)

    def forward(self, x: Tensor, layout: Layout, keep: Mapping[str, Tensor]) -> Tensor:
        """(nnz, width) → (nnz, width)."""
        places = layout.tensor("place", layout.place, x.device)
        return self.run(x, places, lambda qkv, bias: attention(qkv, self.spec.heads, layout, bias), keep)

    def run(self, x: Tensor, places: Tensor, attend: Attend, keep: Mapping[str, Tensor]) -> Tensor:
        """The same, histories lying as `attend` knows; `places` (nnz,) counts each code from its history's oldest."""
        if self.spec.position == "learned":
            x = x + self.weight("position").index_select(0, places)
        turns = None
        if self.spec.position == "rotary":
            turns = tuple(table.index_select(0, places)[:, None] for table in (self.cos, self.sin))
        x = self.kept(x, "input", keep)
        for i in range(self.spec.layers):
            x = self.layer(f"layer_{i}", x, attend, turns, keep)
        return self.normal("normal", x)

    def layer(
        self, name: str, x: Tensor, attend: Attend, turns: tuple[Tensor, ...] | None, keep: Mapping[str, Tensor]
    ) -> Tensor:
        """One layer."""
        qkv = self.linears(
            self.normal(f"{name}/normal_1", x), *(f"{name}/{part}" for part in ("query", "key", "value"))
        )
        if turns is not None:
            qkv = rotated(qkv, self.spec.heads, *turns)
        bias = self.weight(f"{name}/time") if self.spec.time else None
        y = self.linear(f"{name}/output", attend(qkv, bias))
        u = self.gated(f"{name}/gate_1", x, self.kept(y, f"{name}/attention", keep))
        f = self.normal(f"{name}/normal_2", u)
        if self.spec.activation == "swiglu":
            h, t = self.linears(f, f"{name}/ffn_1", f"{name}/ffn_3").chunk(2, 1)
            m = F.silu(h) * t
        else:
            m = F.relu(self.linear(f"{name}/ffn_1", f))
        z = self.linear(f"{name}/ffn_2", self.kept(m, f"{name}/hidden", keep))
        return self.gated(f"{name}/gate_2", u, self.kept(z, f"{name}/output", keep))

    def gated(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """x + σ(x W + b) ⊙ y, or x + y."""
        return torch.addcmul(x, torch.sigmoid(self.linear(name, x)), y) if self.spec.gate else x + y


def rotated(qkv: Tensor, heads: int, cos: Tensor, sin: Tensor) -> Tensor:
    """(nnz, 3 width): queries and keys turned, head by head."""
    width = qkv.shape[1] // 3
    a, b = qkv[:, : 2 * width].unflatten(1, (2 * heads, -1)).chunk(2, 2)
    turned = torch.cat([a * cos - b * sin, b * cos + a * sin], 2)
    return torch.cat([turned.flatten(1), qkv[:, 2 * width :]], 1)


def attention(qkv: Tensor, heads: int, layout: Layout, bias: Tensor | None = None) -> Tensor:
    """(nnz, 3 width) → (nnz, width): causal attention within each history. `bias`: of each bucket of times."""
    sizes = [number * length for number, length in layout.blocks]
    where = None if layout.padded is None else layout.tensor("padded", layout.padded, qkv.device)
    qkv = qkv if where is None else _Spread.apply(qkv, where, sum(sizes))  # type: ignore[no-untyped-call]
    out = []
    for i, part in enumerate(qkv.split(sizes)):
        timed = None
        if bias is not None:
            timed = bias, layout.tensor(("buckets", i), layout.buckets[i], qkv.device)
        out.append(attend_padded(part, heads, layout.blocks[i][1], timed))
    joined = torch.cat(out) if len(out) > 1 else out[0]
    return joined if where is None else _Gathered.apply(joined, where)  # type: ignore[no-untyped-call]


def attend_padded(qkv: Tensor, heads: int, length: int, timed: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The same of histories of one length, padded on the right, end to end. `timed`: the time bias (128, heads), and
    the bucket of each pair of places (histories, length, length), 128 where the second is later."""
    width = qkv.shape[1] // 3
    q, k, v = qkv.view(-1, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    drawn = (
        F.scaled_dot_product_attention(q, k, v, is_causal=True) if timed is None else _Timed.apply(q, k, v, *timed)  # type: ignore[no-untyped-call]
    )
    return drawn.transpose(1, 2).reshape(-1, width)


class _Timed(torch.autograd.Function):
    """softmax(QKᵀ / √e + bias of the buckets) V, (B, heads, n, e).

    By hand: given a bias that learns, PyTorch's own attention goes through step by step, and adds the bias's gradient
    up one by one. That costs two thirds more than attention without a bias, this a fifth.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, buckets: Tensor) -> Tensor:
        ctx.scale = q.shape[-1] ** -0.5
        scores = (q * ctx.scale) @ k.transpose(-1, -2)
        index = buckets.flatten().int()
        for head, rows in enumerate(F.pad(bias.T, (0, 1), value=-torch.inf)):
            scores[:, head] += rows.index_select(0, index).view(buckets.shape)
        shares = torch.softmax(scores, -1)
        drawn = shares @ v
        ctx.save_for_backward(q, k, v, shares, drawn, buckets)
        return drawn

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, None]:
        q, k, v, shares, drawn, buckets = ctx.saved_tensors
        by_share = d @ v.transpose(-1, -2)
        by_score = by_share.sub_((d * drawn).sum(-1, keepdim=True)).mul_(shares)
        index = buckets.flatten().int()
        sums = [index.bincount(part.flatten().double(), TIME_BUCKETS + 1)[:-1] for part in by_score.unbind(1)]
        dq, dk = (by_score @ k).mul_(ctx.scale), (by_score.transpose(-1, -2) @ q).mul_(ctx.scale)
        return dq, dk, shares.transpose(-1, -2) @ d, torch.stack(sums, 1).to(d.dtype), None


class _Spread(torch.autograd.Function):
    """x (n, width) at the places `where` of (size, width), zeros elsewhere. No two share a place, so that the way back
    is a gather, which PyTorch, not knowing it, would add up on one core; `_Gathered` is the opposite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(where)
        return x.new_zeros(size, x.shape[1]).index_copy_(0, where, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None, None]:
        (where,) = ctx.saved_tensors
        return d.index_select(0, where), None, None


class _Gathered(torch.autograd.Function):
    """x at the places `where`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, where: Tensor) -> Tensor:
        ctx.save_for_backward(where)
        ctx.size = len(x)
        return x.index_select(0, where)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor, None]:
        (where,) = ctx.saved_tensors
        return d.new_zeros(ctx.size, d.shape[1]).index_copy_(0, where, d), None


class GRUEncoder(Encoder):
    """A gated recurrent unit."""

    def __init__(self, plan: EncoderPlan, weights: Weights, like: Tensor) -> None:
        super().__init__(plan, weights, like)
        assert isinstance(plan.spec, GRU)
        self.layers = plan.spec.layers

    def forward(self, x: Tensor, layout: Layout, keep: Mapping[str, Tensor]) -> Tensor:
        """(nnz, width) → (nnz, width)."""
        by_place = layout.tensor("by_place", layout.by_place, x.device)
        at_once = np.bincount(layout.place).tolist()  # histories that have a code at each place
        x = _Gathered.apply(self.kept(x, "input", keep), by_place)  # type: ignore[no-untyped-call]
        keep = {name: mask.index_select(0, by_place) for name, mask in keep.items() if name != "input"}
        for i in range(self.layers):
            kernel, bias = (self.weight(f"layer_{i}/state/{part}") for part in ("kernel", "bias"))
            inputs = self.linear(f"layer_{i}/input", x).to(kernel.dtype)  # under autocast a state adds up in full
            x = self.kept(_Recurrence.apply(inputs, kernel, bias, at_once), f"layer_{i}/output", keep)  # type: ignore[no-untyped-call]
        return _Spread.apply(x, by_place, len(x))  # type: ignore[no-untyped-call]


class _Recurrence(torch.autograd.Function):
    """The states (nnz, d), place by place, from x W + b (nnz, 3d), U (3d, d) and c (3d,).

    By hand, because PyTorch's own takes some forty operations for each place, there and back, and this some twelve: a
    tenth of the time for histories of 200. What does not wait for the place before it is done for all of them at once.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, kernel: Tensor, bias: Tensor, at_once: list[int]) -> Tensor:
        d = kernel.shape[1]
        recurrent, gates = torch.empty_like(inputs), torch.empty_like(inputs)
        states, before = (inputs.new_empty(len(inputs), d) for _ in range(2))
        state = inputs.new_zeros(at_once[0], d)
        low = 0
        for number in at_once:
            here = slice(low, low + number)
            before[here] = state = state[:number]
            own, g = gates[here], torch.addmm(bias, state, kernel.T, out=recurrent[here])
            torch.add(inputs[here, : 2 * d], g[:, : 2 * d], out=own[:, : 2 * d])
            own[:, : 2 * d].sigmoid_()
            reset, update, fresh = own.chunk(3, 1)
            torch.addcmul(inputs[here, 2 * d :], reset, g[:, 2 * d :], out=fresh)
            state = torch.lerp(fresh.tanh_(), state, update, out=states[here])
            low += number
        ctx.save_for_backward(kernel, recurrent, gates, before)
        ctx.at_once = at_once
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        kernel, recurrent, gates, before = ctx.saved_tensors
        d = kernel.shape[1]
        reset, update, fresh = gates.chunk(3, 1)
        by_fresh = (1 - update) * (1 - fresh * fresh)
        by_update = (before - fresh) * update * (1 - update)
        by_reset = recurrent[:, 2 * d :] * reset * (1 - reset)
        d_inputs, d_recurrent = torch.empty_like(gates), torch.empty_like(gates)
        later = d_states.new_zeros(0, d)
        high = len(gates)
        for number in reversed(ctx.at_once):
            here = slice(high - number, high)
            dh = d_states[here].clone()
            dh[: len(later)] += later
            d_reset, d_update, d_fresh = d_inputs[here].chunk(3, 1)
            torch.mul(dh, by_fresh[here], out=d_fresh)
            torch.mul(dh, by_update[here], out=d_update)
            torch.mul(d_fresh, by_reset[here], out=d_reset)
            own = d_recurrent[here]
            own[:, : 2 * d] = d_inputs[here, : 2 * d]
            torch.mul(d_fresh, reset[here], out=own[:, 2 * d :])
            later = torch.addmm(dh.mul_(update[here]), own, kernel)
            high -= number
        return d_inputs, d_recurrent.T @ before, d_recurrent.sum(0), None


def build(plan: EncoderPlan, weights: Weights, like: Tensor) -> SelfAttentionEncoder | GRUEncoder:
    """The module of a plan, with its own copy of `weights`."""
    return (GRUEncoder if isinstance(plan.spec, GRU) else SelfAttentionEncoder)(plan, weights, like)
