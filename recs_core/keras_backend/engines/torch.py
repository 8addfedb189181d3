"""Keras on torch: eager, gradients by `torch.autograd`, rows copied in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from keras import ops

from recs_core.contract.towers import Activation
from recs_core.keras_backend.engines import Body, Engine, Full, Groups, Reader, Step, Tensor, Tree, Values
from recs_core.keras_backend.kernel import Kernel, Loss
from recs_core.keras_backend.move import Move


class TorchEngine:
    """See `Engine`."""

    name = "torch"
    general_scores = 0

    def allow_float64(self) -> None:
        """Nothing to do."""

    def asks_gradients(self, tensors: Iterable[Tensor]) -> bool:
        return True

    def activate(self, name: Activation, x: Tensor) -> Tensor:
        return getattr(torch, name)(x)

    def segment_sum(self, data: Tensor, segments: Tensor, size: int) -> Tensor:
        """`keras.ops.segment_sum` would round float64 to float32 on this engine."""
        return data.new_zeros((size, *data.shape[1:])).index_add(0, segments, data)

    def mask_at(self, scores: Tensor, rows: Tensor, columns: Tensor, value: float) -> Tensor:
        scores[rows, columns] = value
        return scores

    def add_at(self, matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
        return matrix.index_put_((rows, columns), values, accumulate=True)

    def vjp(
        self, function: Callable[[Values], tuple[Values, Values]], leaves: Values
    ) -> tuple[Values, Callable[[Values], Values], Values]:
        leaves = {name: leaf.detach().requires_grad_() for name, leaf in leaves.items()}
        with torch.enable_grad():
            outputs, extra = function(leaves)

        def pull(cotangents: Values) -> Values:
            names = [name for name, output in outputs.items() if output.requires_grad]
            gradients = torch.autograd.grad(
                [outputs[name] for name in names],
                list(leaves.values()),
                [cotangents[name] for name in names],
                materialize_grads=True,
            )
            return dict(zip(leaves, gradients, strict=True))

        return {name: output.detach() for name, output in outputs.items()}, pull, extra

    def scan_blocks(self, body: Body, carry: tuple[Tensor, ...], plan: Tree) -> tuple[tuple[Tensor, ...], Any, Any]:
        size, count = int(plan["block"]), int(plan["num_rows"])
        of_rows, of_targets = [], []
        for i, start in enumerate(range(0, count, size)):
            block = {name: value[start : start + size] for name, value in plan["rows"].items()}
            for kind, ends in plan["ends"].items():
                lo, hi = ends[i : i + 2]
                block |= {f"{kind}/{name}": value[lo:hi] for name, value in plan[kind].items()}
            carry, row, target = body(carry, block)
            of_rows.append(row)
            of_targets.append(target)
        return carry, torch.cat(of_rows), torch.cat(of_targets)

    def scan(self, step: Step, state: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        states = []
        for now in zip(*inputs, strict=True):
            state = step(state, now)
            states.append(state)
        return torch.stack(states)

    def reader(self, function: Callable[[Values, Tree], Any], variables: Values) -> Reader:
        @torch.no_grad()
        def run(inputs: Tree, _: int) -> Any:
            return function({name: _gather(variable, None) for name, variable in variables.items()}, _tensors(inputs))

        return run

    def kernel(self, kernel: Kernel) -> Callable[[Values, Tree], Loss]:
        @torch.no_grad()
        def run(at: Values, packed: Tree) -> Loss:
            return kernel(at, _tensors(packed))

        return run

    def stepper(self, move: Move, groups: Groups) -> Callable[[Tree, Full], Tensor]:
        @torch.no_grad()
        def run(inputs: Tree, _: Full) -> Tensor:
            tensors = _tensors(inputs)
            rows = tensors["rows"]
            taken = {
                name: {part: _gather(variable, rows.get(name)) for part, variable in group.items()}
                for name, group in groups.items()
            }
            loss, moved = move(taken, tensors)
            for name, group in moved.items():
                for part, value in group.items():
                    _scatter(groups[name][part], rows.get(name), value)
            return loss

        return run

    def padded(self, inputs: Tree, full: Full) -> Tree:
        return inputs

    def read(self, inputs: Tree) -> Tree:
        return _tensors(inputs)


def _gather(variable: Any, rows: Tensor | None) -> Tensor:
    value = variable.value.detach()
    return value if rows is None else value.index_select(0, rows)


def _scatter(variable: Any, rows: Tensor | None, value: Tensor) -> None:
    table = variable.value.detach()
    if rows is None:
        table.copy_(value)
    else:
        table.index_copy_(0, rows, value)


def _tensors(tree: Tree) -> dict[str, Any]:
    """The tree on the device; the ends of blocks stay with the host, which cuts by them."""
    out: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out[name] = value if name == "ends" else _tensors(value)
        elif isinstance(value, np.ndarray) and value.ndim == 0:
            out[name] = value.item() if value.dtype.kind == "i" else ops.convert_to_tensor(value)
        else:
            tensor = ops.convert_to_tensor(value)
            out[name] = tensor.long() if tensor.dtype == torch.int32 else tensor  # index_copy_ takes int64 only
    return out


ENGINE: Engine = TorchEngine()
