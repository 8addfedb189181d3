"""Keras on JAX: `jit` with donated state, so that rows are scattered in place, and inputs padded to few shapes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import is_dataclass
from functools import cache, lru_cache
from math import prod
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

from recs_core.contract.batch import Side
from recs_core.contract.towers import Activation
from recs_core.environment import prepare_jax_x64
from recs_core.keras_backend.engines import Body, Engine, Full, Groups, Reader, Step, Tensor, Tree, Values
from recs_core.keras_backend.engines.padding import bucket, pad, pad_at, pad_features, pad_kernel, pad_task
from recs_core.keras_backend.kernel import Kernel, Loss
from recs_core.keras_backend.move import Move, Towers, with_temperature

T = TypeVar("T")

PROGRAMS = 64
"""Compiled functions kept for models to come; each is compiled once for each bucket of sizes."""

FEW_ROWS = 32
"""So many at most are embedded by a program that compiles quickly."""

UNOPTIMIZED = {"xla_backend_optimization_level": 0}
QUICK = {**UNOPTIMIZED, "xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
"""Options that compile a small program in a quarter of the time. A large one would run at half of its speed."""


class JaxEngine:
    """See `Engine`."""

    name = "jax"
    general_scores = 2**11

    def allow_float64(self) -> None:
        """Switch x64 on for the whole process; JAX has no other way for arrays that outlive a call."""
        prepare_jax_x64("dtype='float64' on keras[jax]")

    def asks_gradients(self, tensors: Iterable[Tensor]) -> bool:
        return any(isinstance(tensor, jax.core.Tracer) for tensor in tensors)

    def activate(self, name: Activation, x: Tensor) -> Tensor:
        return getattr(jax.nn, name)(x)

    def segment_sum(self, data: Tensor, segments: Tensor, size: int) -> Tensor:
        return jax.ops.segment_sum(data, segments, size, mode="drop")

    def mask_at(self, scores: Tensor, rows: Tensor, columns: Tensor, value: float) -> Tensor:
        return scores.at[rows, columns].set(value, mode="drop")

    def add_at(self, matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
        return matrix.at[rows, columns].add(values, mode="drop")

    def vjp(
        self, function: Callable[[Values], tuple[Values, Values]], leaves: Values
    ) -> tuple[Values, Callable[[Values], Values], Values]:
        outputs, pull, extra = jax.vjp(function, leaves, has_aux=True)
        return outputs, lambda cotangents: pull({name: cotangents[name] for name in outputs})[0], extra

    def scan_blocks(self, body: Body, carry: tuple[Tensor, ...], plan: Tree) -> tuple[tuple[Tensor, ...], Any, Any]:
        blocks = plan["blocks"].shape[0]
        flat = dict(plan["rows"])
        for kind in ("targets", "masked"):
            flat |= {f"{kind}/{name}": value for name, value in plan[kind].items()}
        xs = {name: value.reshape(blocks, -1, *value.shape[1:]) for name, value in flat.items()}

        def one(carry: tuple[Tensor, ...], block: dict[str, Tensor]) -> tuple[tuple[Tensor, ...], tuple[Any, Any]]:
            carry, of_rows, of_targets = body(carry, block)
            return carry, (of_rows, of_targets)

        carry, parts = self.scanned(one, carry, xs)
        of_rows, of_targets = (part.reshape(-1, *part.shape[2:]) for part in parts)
        return carry, of_rows, of_targets

    def scanned(self, one: Callable[..., Any], carry: Any, blocks: Any) -> tuple[Any, Any]:
        """`one` over all blocks, which adds to what it carries."""
        return jax.lax.scan(one, carry, blocks)

    def placed(self, inputs: Tree) -> dict[str, Any]:
        """A padded batch where its step runs."""
        return jax.device_put(inputs)

    def kept(self, weight: str, value: Tensor) -> Tensor:
        """What a step makes of a weight or of a slot of it, lying as it lay."""
        return value

    def scan(self, step: Step, state: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        def one(state: Tensor, now: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
            after = step(state, now)
            return after, after

        return jax.lax.scan(one, state, inputs)[1]

    def reader(self, function: Callable[[Values, Tree], Any], variables: Values) -> Reader:
        @cache
        def program(small: bool) -> Callable[[Values, Tree], Any]:
            return _compiled(_plain, function, small)

        def call(inputs: Tree, size: int) -> Any:
            padded = {"tower": pad_features(inputs["tower"], bucket(size))}
            run = program(size <= FEW_ROWS)
            return run({name: v.value for name, v in variables.items()}, padded)

        return call

    def kernel(self, kernel: Kernel) -> Callable[[Values, Tree], Loss]:
        def call(at: Values, packed: Tree) -> Loss:
            queries, candidates = at["query"].shape[0], at["candidate"].shape[0]
            small = "bias" in packed["at"]
            run = _compiled(_plain, kernel, small)
            if not small or self.asks_gradients(at.values()):
                return run(at, pad_task(packed, int(packed["num_rows"]), len(packed["add"])))
            full = Full(queries, candidates)
            task = pad_kernel(packed, full)
            loss = run(pad_at({**task.pop("at"), **at}, full), task)
            parts = {"query": queries, "candidate": candidates, "bias": candidates}
            return loss._replace(**{name: np.asarray(getattr(loss, name))[:size] for name, size in parts.items()})

        return call

    def stepper(self, move: Move, groups: Groups) -> Callable[[Tree, Full], Tensor]:
        if move.towers.encoders:  # too dear to run a second time for the gradients
            return self._stepper_at_once(move, groups)

        @cache
        def programs(small: bool, small_kernel: bool) -> tuple[Any, Any, Any]:
            vectors, finish = (_compiled(make, move.towers, small) for make in (_vectors, _finish))
            return vectors, _compiled(_plain, move.kernel, small_kernel), finish

        shapes = {name: group["value"].shape for name, group in groups.items()}
        totals = {name: shape[0] for name, shape in shapes.items() if shape}
        tables = _tables(move.towers)

        def call(inputs: Tree, full: Full) -> Tensor:
            padded = self.placed(pad(inputs, full, tables, totals))
            task, now = padded.pop("task"), padded.pop("now")
            state = {name: {part: v.value for part, v in group.items()} for name, group in groups.items()}
            small = "bias" in task["at"]
            few = _numbers(shapes, padded) <= self.general_scores
            vectors, kernel, finish = programs(small or few, small)
            out = vectors({name: group["value"] for name, group in state.items()}, padded)
            loss = kernel({**task.pop("at"), **out}, task)
            _assign(groups, finish(state, {**padded, "now": now}, loss))
            return loss.value

        return call

    def _stepper_at_once(self, move: Move, groups: Groups) -> Callable[[Tree, Full], Tensor]:
        """A stepper that is one program."""
        totals = {n: group["value"].shape[0] for n, group in groups.items() if group["value"].shape}
        tables = _tables(move.towers)

        def call(inputs: Tree, full: Full) -> Tensor:
            padded = self.placed(pad(inputs, full, tables, totals))
            state = {name: {part: v.value for part, v in group.items()} for name, group in groups.items()}
            loss, moved = _compiled(_step, move, "bias" in padded["task"]["at"])(state, padded)
            _assign(groups, moved)
            return loss

        return call

    def padded(self, inputs: Tree, full: Full) -> Tree:
        return pad(inputs, full, {}, {})

    def read(self, inputs: Tree) -> Tree:
        return inputs


def _compiled(make: Callable[[Any, bool], T], function: Any, small: bool) -> T:
    """`make(function, small)`, the same for equal functions: a program takes a second to compile, and JAX keeps what it
    has compiled. A function that is equal to itself alone, as of an adopted module, is not held beyond its model."""
    return cast(T, _shared(make, cast(Hashable, function), small)) if _is_value(function) else make(function, small)


@lru_cache(maxsize=PROGRAMS)
def _shared(make: Callable[[Any, bool], T], function: Hashable, small: bool) -> T:
    return make(function, small)


def _jit(function: Callable[..., Any], small: bool, **options: Any) -> Callable[..., Any]:
    """Compiled. Of a small problem, without the optimizer's passes: they take longer than many of its steps."""
    return jax.jit(function, compiler_options=_quick() if small else None, **options)


@cache
def _quick() -> dict[str, Any]:
    """`QUICK`, where XLA knows all of it: options come and go with its versions."""
    try:
        jax.jit(lambda: 0, compiler_options=QUICK).lower().compile()
    except jax.errors.JaxRuntimeError:
        return UNOPTIMIZED
    return QUICK


def _plain(function: Callable[..., Any], small: bool) -> Callable[..., Any]:
    return _jit(function, small)


def _is_value(function: Any) -> bool:
    """Whether it is a dataclass, and so are the functions in it."""
    return is_dataclass(function) and all(_is_value(part) for part in vars(function).values() if callable(part))


def _numbers(shapes: dict[str, tuple[int, ...]], inputs: Tree) -> int:
    """How many numbers the largest array of the towers' programs holds, at most."""
    codes = max(x.size for x in jax.tree.leaves((inputs["query"], inputs["candidate"])))
    whole = [prod(shape) for name, shape in shapes.items() if name not in inputs["rows"]]
    return max([*whole, *(codes * prod(shape[1:]) for shape in shapes.values())])


def _tables(towers: Towers) -> dict[Side, dict[str, str]]:
    """Of each declared tower: column → the table that its codes are rows of."""
    sides: dict[Side, Any] = {"query": towers.query, "candidate": towers.candidate}
    return {
        side: {column.name: column.table for column in forward.plan.columns if column.table is not None}
        for side, forward in sides.items()
        if hasattr(forward, "plan")
    }


# The step's programs beside the kernel: how rows are taken, and put back where they were.


def _vectors(towers: Towers, small: bool) -> Callable[[Values, Tree], Values]:
    def run(values: Values, inputs: Tree) -> Values:
        rows = inputs["rows"]
        taken = {name: _gather(value, rows.get(name)) for name, value in values.items()}
        return with_temperature(towers.vectors(taken, inputs)[0], values)

    return _jit(run, small)


def _finish(towers: Towers, small: bool) -> Callable[[Groups, Tree, Loss], Groups]:
    def run(state: Groups, inputs: Tree, loss: Loss) -> Groups:
        _, finish = towers.run(_taken(state, inputs["rows"]), inputs)
        return _put(towers.engine, state, inputs["rows"], finish(loss))

    return _jit(run, small, donate_argnums=0)


def _step(move: Move, small: bool) -> Callable[[Groups, Tree], tuple[Tensor, Groups]]:
    """All three in one."""

    def run(state: Groups, inputs: Tree) -> tuple[Tensor, Groups]:
        loss, moved = move(_taken(state, inputs["rows"]), inputs)
        return loss, _put(move.towers.engine, state, inputs["rows"], moved)

    return _jit(run, small, donate_argnums=0)


def _taken(state: Groups, rows: Tree) -> Groups:
    return {
        name: {part: _gather(value, rows.get(name)) for part, value in group.items()} for name, group in state.items()
    }


def _put(engine: Engine, state: Groups, rows: Tree, moved: Groups) -> Groups:
    keep = cast(JaxEngine, engine).kept
    return {
        name: {part: keep(name, _scatter(state[name][part], rows.get(name), value)) for part, value in group.items()}
        for name, group in moved.items()
    }


def _assign(groups: Groups, moved: Groups) -> None:
    for name, group in moved.items():
        for part, value in group.items():
            groups[name][part].assign(value)


def _gather(value: Tensor, rows: Tensor | None) -> Tensor:
    return value if rows is None else jnp.take(value, rows, axis=0, mode="clip")


def _scatter(value: Tensor, rows: Tensor | None, moved: Tensor) -> Tensor:
    return moved if rows is None else value.at[rows].set(moved, mode="drop", indices_are_sorted=True)


ENGINE: Engine = JaxEngine()
