"""What differs between Keras's engines: gradient, gather and scatter, blocks, compilation.

Everything else of the backend is written once, in `keras.ops`. A tree is a nested dict of arrays; a group is the
value of one weight and its optimizer slots, `{"value": …, "m": …}`, which share their rows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, cast

from recs_core.contract.guard import Guard
from recs_core.contract.towers import Activation

Tensor: TypeAlias = Any
Tree: TypeAlias = Mapping[str, Any]
Group: TypeAlias = Mapping[str, Any]
Values: TypeAlias = Mapping[str, Tensor]
Groups: TypeAlias = Mapping[str, Group]
Body: TypeAlias = Callable[[Any, dict[str, Tensor]], tuple[Any, Tensor, Tensor]]


class Engine(Protocol):
    """One of Keras's engines. Compiled functions take trees of NumPy arrays or tensors, whole ones of one dtype."""

    name: str

    def allow_float64(self) -> None:
        """Make float64 arrays possible, where that is a setting. Raises `BackendConflict` if it was switched off."""
        ...

    def activate(self, name: Activation, x: Tensor) -> Tensor:
        """relu, tanh or sigmoid; those of `keras.ops` round float64 to float32 on JAX."""
        ...

    def segment_sum(self, data: Tensor, segments: Tensor, size: Any) -> Tensor:
        """(size, …): the sum of the rows of `data` of each segment. Differentiable; keeps the dtype."""
        ...

    def mask_at(self, scores: Tensor, rows: Tensor, columns: Tensor, value: float) -> Tensor:
        """`scores` with `value` at each (row, column); `scores` itself may be overwritten."""
        ...

    def add_at(self, matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
        """`matrix` with each of `values` added at its (row, column); `matrix` itself may be overwritten."""
        ...

    def vjp(
        self, function: Callable[[Values], tuple[Values, Values]], leaves: Values
    ) -> tuple[Values, Callable[[Values], Values], Values]:
        """Outputs of `function(leaves)`, the map from their gradients to those of the leaves, and its second result."""
        ...

    def scan_blocks(self, body: Body, carry: tuple[Tensor, ...], plan: Tree) -> tuple[tuple[Tensor, ...], Any, Any]:
        """Run `body(carry, block)` over the plan's blocks of score rows, in order.

        `body` returns the carry, something for each row of the block and something for each of its targets; the last
        two come back joined over all blocks. See `recs_core.keras_backend.task.inputs` for the plan.
        """
        ...

    def reader(self, function: Callable[[Values, Tree], Any], variables: Values) -> Callable[..., Any]:
        """`function(values, inputs)` compiled; `values` are the variables' rows in `inputs["rows"]`, or all of them.

        A frozen dataclass as `function`, here and in `stepper`, says that equal ones compute the same: an engine may
        then compile once for many models.
        """
        ...

    def stepper(
        self, function: Callable[[Groups, Tree], tuple[Tensor, Groups]], groups: Groups
    ) -> Callable[..., Tensor]:
        """`function(groups, inputs) → (loss, new groups)` compiled; what it returns is written back in place.

        Reads and writes only the rows in `inputs["rows"]`, where a name is there. The compiled function's second
        argument is, by weight, how many rows a batch like this one can touch: an engine with static shapes pads to it.
        """
        ...


def guard(engine: Engine) -> Guard:
    """A model's guard, held by whoever reads or writes its variables: a step of JAX gives their arrays away."""
    return Guard(engine.name, f"keras[{engine.name}]")


def load_engine(name: str) -> Engine:
    """The engine named `torch`, `tensorflow` or `jax`; imports its framework."""
    module = importlib.import_module(f"recs_core.keras_backend.engines.{name}")
    return cast(Engine, module.ENGINE)
