"""What differs between Keras's engines: gradient, gather and scatter, blocks, compilation.

Everything else of the backend is written once, in `keras.ops`. A tree is a nested dict of arrays; a group is the
value of one weight and its optimizer slots, `{"value": …, "m": …}`, which share their rows.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, cast

from recs_core.contract.batch import Batch
from recs_core.contract.guard import Guard
from recs_core.contract.retrieval import RetrievalSpec
from recs_core.contract.towers import Activation

if TYPE_CHECKING:
    from recs_core.keras_backend.kernel import Kernel, Loss
    from recs_core.keras_backend.move import Move

Tensor: TypeAlias = Any
Tree: TypeAlias = Mapping[str, Any]
Group: TypeAlias = Mapping[str, Any]
Values: TypeAlias = Mapping[str, Tensor]
Groups: TypeAlias = Mapping[str, Group]
Reader: TypeAlias = Callable[[Tree, int], Any]
Step: TypeAlias = Callable[[Tensor, tuple[Tensor, ...]], Tensor]
Body: TypeAlias = Callable[[Any, dict[str, Tensor]], tuple[Any, Tensor, Tensor]]


class Full(NamedTuple):
    """A full batch like the one at hand, which is a smaller one where it is the last of its epoch.

    `growth`: how many times the one at hand fits into it.
    """

    queries: int
    candidates: int
    targets: int = 0
    growth: float = 1.0

    def rows(self, number: int, expand: bool) -> int:
        """Rows of scores, of which the batch at hand has `number`."""
        return max(number, self.targets if expand else self.queries)


def full_like(spec: RetrievalSpec, batch: Batch) -> Full:
    """A full batch like this one: one target more is one column more, unless the columns are the corpus."""
    number, targets = batch.query.size, len(batch.task.get("target_query", ())) or batch.query.size
    queries, most = max(batch.full[0], number), max(batch.full[1], targets)
    more = 0 if spec.negatives == "corpus" else most - targets
    return Full(queries, batch.candidate.size + more, most, queries / max(1, number))


class Engine(Protocol):
    """One of Keras's engines. Compiled functions take trees of NumPy arrays or tensors, whole ones of one dtype."""

    name: str
    general_scores: int
    """Up to how many scores `pack` gives all problems one structure."""

    def allow_float64(self) -> None:
        """Make float64 arrays possible, where that is a setting. Raises `BackendConflict` if it was switched off."""
        ...

    def asks_gradients(self, tensors: Iterable[Tensor]) -> bool:
        """Whether somebody may differentiate by one of them."""
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
        two come back joined over all blocks. See `recs_core.keras_backend.kernel.pack` for the plan.
        """
        ...

    def scan(self, step: Step, state: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """(length, …): each state, where the next is `step(state, the inputs' next rows)`. Differentiable."""
        ...

    def reader(self, function: Callable[[Values, Tree], Any], variables: Values) -> Reader:
        """`function(values of the variables, {"tower": …})` compiled. The second argument of what comes back is how
        many rows an engine with static shapes pads to.

        A frozen dataclass as `function`, here and below, says that equal ones compute the same: an engine may then
        compile once for many models.
        """
        ...

    def kernel(self, kernel: Kernel) -> Callable[[Values, Tree], Loss]:
        """The kernel compiled, for a loop of one's own."""
        ...

    def stepper(self, move: Move, groups: Groups) -> Callable[[Tree, Full], Tensor]:
        """`move(groups, inputs) → (loss, new groups)` compiled; what it returns is written back in place.

        Reads and writes only the rows in `inputs["rows"]`, where a name is there. The second argument of what comes
        back is what an engine with static shapes pads to.
        """
        ...

    def padded(self, inputs: Tree, full: Full) -> Tree:
        """A batch of whole tables for Keras's own trainer, of few shapes where the engine compiles by shape."""
        ...

    def read(self, inputs: Tree) -> Tree:
        """The same batch as Keras's trainer hands it to a model, as the engine's functions read it."""
        ...


def guard(engine: Engine) -> Guard:
    """A model's guard, held by whoever reads or writes its variables: a step of JAX gives their arrays away."""
    return Guard(engine.name, f"keras[{engine.name}]")


def load_engine(name: str) -> Engine:
    """The engine named `torch`, `tensorflow` or `jax`; imports its framework."""
    module = importlib.import_module(f"recs_core.keras_backend.engines.{name}")
    return cast(Engine, module.ENGINE)
