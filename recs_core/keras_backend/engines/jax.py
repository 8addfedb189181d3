"""Keras on JAX: `jit` with donated state, so that rows are scattered in place, and inputs padded to few shapes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from recs_core.contract.task import MASKED
from recs_core.contract.towers import Activation
from recs_core.environment import prepare_jax_x64
from recs_core.keras_backend.engines import Body, Engine, Groups, Tensor, Tree, Values

T = TypeVar("T")

PROGRAMS = 32
"""Compiled functions kept for models to come; each is compiled once for each bucket of sizes."""


class JaxEngine:
    """See `Engine`."""

    name = "jax"

    def allow_float64(self) -> None:
        """Switch x64 on for the whole process; JAX has no other way for arrays that outlive a call."""
        prepare_jax_x64("dtype='float64' on keras[jax]")

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

        carry, parts = jax.lax.scan(one, carry, xs)
        of_rows, of_targets = (part.reshape(-1, *part.shape[2:]) for part in parts)
        return carry, of_rows, of_targets

    def reader(self, function: Callable[[Values, Tree], Any], variables: Values) -> Callable[..., Any]:
        run = _compiled(_reader, function)
        totals = {name: variable.shape[0] for name, variable in variables.items() if variable.shape}

        def call(inputs: Tree, most: Mapping[str, int] | None = None) -> Any:
            return run({name: v.value for name, v in variables.items()}, pad(inputs, most or {}, totals))

        return call

    def stepper(
        self, function: Callable[[Groups, Tree], tuple[Tensor, Groups]], groups: Groups
    ) -> Callable[..., Tensor]:
        compiled = _compiled(_stepper, function)
        totals = {name: group["value"].shape[0] for name, group in groups.items() if group["value"].shape}

        def call(inputs: Tree, most: Mapping[str, int]) -> Tensor:
            state = {name: {part: v.value for part, v in group.items()} for name, group in groups.items()}
            loss, moved = compiled(state, pad(inputs, most, totals))
            for name, group in moved.items():
                for part, value in group.items():
                    groups[name][part].assign(value)
            return loss

        return call


def _compiled(make: Callable[[Any], T], function: Any) -> T:
    """`make(function)`, the same for equal functions: a program takes a second to compile, and JAX keeps what it has
    compiled. A function that is equal to itself alone, as of an adopted module, is not held beyond its model."""
    if not is_dataclass(function):
        return make(function)
    return cast(T, _shared(make, cast(Hashable, function)))


@lru_cache(maxsize=PROGRAMS)
def _shared(make: Callable[[Any], T], function: Hashable) -> T:
    return make(function)


def _reader(function: Callable[[Values, Tree], Any]) -> Callable[[Values, Tree], Any]:
    def run(values: Values, inputs: Tree) -> Any:
        rows = inputs.get("rows", {})
        return function({name: _gather(value, rows.get(name)) for name, value in values.items()}, inputs)

    return cast(Callable[[Values, Tree], Any], jax.jit(run))


def _stepper(function: Callable[[Groups, Tree], tuple[Tensor, Groups]]) -> Callable[..., tuple[Tensor, Groups]]:
    def run(state: Groups, inputs: Tree) -> tuple[Tensor, Groups]:
        rows = inputs["rows"]
        taken = {
            name: {part: _gather(value, rows.get(name)) for part, value in group.items()}
            for name, group in state.items()
        }
        loss, moved = function(taken, inputs)
        return loss, {
            name: {part: _scatter(state[name][part], rows.get(name), value) for part, value in group.items()}
            for name, group in moved.items()
        }

    return cast(Callable[..., tuple[Tensor, Groups]], jax.jit(run, donate_argnums=0))


def _gather(value: Tensor, rows: Tensor | None) -> Tensor:
    return value if rows is None else jnp.take(value, rows, axis=0, mode="clip")


def _scatter(value: Tensor, rows: Tensor | None, moved: Tensor) -> Tensor:
    return moved if rows is None else value.at[rows].set(moved, mode="drop", indices_are_sorted=True)


# Padding: the same sums over longer arrays, so that batches of about one size share one compiled program. What an
# array is padded to depends on its batch alone, never on earlier ones, or a resumed run would differ in the last bit.


def bucket(size: int) -> int:
    """The next of 8, 10, 12, 14, 16, 20, 24, 28, 32, …: four sizes an octave, at most a quarter of padding."""
    step = max(2, 1 << max(0, (size - 1).bit_length() - 3))
    return max(8, -(-size // step) * step)


def pad(inputs: Tree, most: Mapping[str, int], totals: Mapping[str, int]) -> dict[str, Any]:
    """The inputs of a compiled function, padded.

    Rows are padded with `totals`, a row that no weight has: a gather clips it and a scatter drops it. Padded codes are
    0, but nothing reads what they look up: their queries have no target and their candidate columns are masked.
    """
    out = dict(inputs)
    if "rows" in inputs:
        out["rows"] = {
            name: _fill(rows, min(bucket(most[name]), totals[name]), totals[name])
            for name, rows in inputs["rows"].items()
        }
    for side in ("query", "candidate", "tower"):
        if side in inputs:
            out[side] = _pad_features(inputs[side])
    if "bias_codes" in inputs:
        out["bias_codes"] = _fill(inputs["bias_codes"], bucket(len(inputs["bias_codes"])), 0)
    if "task" in inputs:
        out["task"] = _pad_task(inputs["task"], bucket if "candidate" in inputs else int)
    return out


def _fill(array: NDArray[Any], size: int, value: float) -> NDArray[Any]:
    """`array` with its first axis filled up to `size`."""
    out = np.full((size, *array.shape[1:]), value, array.dtype)
    out[: len(array)] = array
    return out


def _pad_features(features: Tree) -> dict[str, Any]:
    codes: dict[str, Any] = {}
    for name, value in features["codes"].items():
        if isinstance(value, Mapping):
            size = bucket(len(value["scale"]))
            length = bucket(len(value["values"]))
            codes[name] = {
                "values": _fill(value["values"], length, 0),
                "segments": _fill(value["segments"], length, size),  # beyond the last row: dropped
                "scale": _fill(value["scale"], size, 0),
            }
        else:
            codes[name] = _fill(value, bucket(len(value)), 0)
    out: dict[str, Any] = {
        "codes": codes,
        "dense": {name: _fill(d, bucket(len(d)), 0) for name, d in features["dense"].items()},
    }
    if "keep" in features:
        out["keep"] = _fill(features["keep"], bucket(len(features["keep"])), 0)
    return out


def _pad_task(plan: Tree, columns: Callable[[int], int]) -> dict[str, Any]:
    """The plan with blocks of one size, windows of one length, and padded columns masked by their correction."""
    count = int(plan["num_rows"])
    size = min(int(plan["block"]), bucket(count))
    blocks = -(-bucket(count) // size)
    negatives = columns(len(plan["add"]))
    rows = {name: _fill(value, blocks * size, 0) for name, value in plan["rows"].items()}
    if "query" not in rows:
        rows["query"] = _fill(np.arange(count, dtype=np.int32), blocks * size, 0)
    if "keep" in rows:
        rows["keep"] = _fill(rows["keep"].T, negatives, 0).T
    out: dict[str, Any] = {
        "rows": rows,
        "columns": {name: _fill(value, negatives, 0) for name, value in plan["columns"].items()},
        "add": _fill(plan["add"], negatives, MASKED),
        "blocks": np.zeros(blocks, np.bool_),
    }
    for kind, fill in (("targets", 0), ("masked", size)):  # a masked entry of row `size` is dropped
        out[kind] = _windows(plan[kind], plan["ends"].get(kind), blocks, fill)
    return out


def _windows(arrays: Tree, ends: NDArray[np.int32] | None, blocks: int, fill: int) -> dict[str, Any]:
    """Each array cut at `ends` into blocks, every block filled up to one length, joined again."""
    if ends is None:
        return {}
    lengths = np.zeros(blocks, np.int64)
    lengths[: len(ends) - 1] = np.diff(ends)
    width = bucket(int(lengths.max()))
    place = np.arange(ends[-1]) + np.repeat(np.arange(blocks) * width - (np.cumsum(lengths) - lengths), lengths)
    out: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        out[name] = np.full(blocks * width, fill if name == "row" else 0, array.dtype)
        out[name][place] = array
    return out


ENGINE: Engine = JaxEngine()
