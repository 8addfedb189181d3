"""Keras on TensorFlow: one `tf.function` for all batches of one structure, rows scattered into resource variables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from recs_core.contract.towers import Activation
from recs_core.keras_backend.engines import Body, Engine, Full, Groups, Reader, Step, Tensor, Tree, Values
from recs_core.keras_backend.kernel import Kernel, Loss
from recs_core.keras_backend.move import Move


class TensorFlowEngine:
    """See `Engine`."""

    name = "tensorflow"
    general_scores = 0

    def allow_float64(self) -> None:
        """Nothing to do."""

    def asks_gradients(self, tensors: Iterable[Tensor]) -> bool:
        return True

    def activate(self, name: Activation, x: Tensor) -> Tensor:
        return getattr(tf.nn, name)(x)

    def segment_sum(self, data: Tensor, segments: Tensor, size: Any) -> Tensor:
        return tf.math.unsorted_segment_sum(data, segments, size)

    def mask_at(self, scores: Tensor, rows: Tensor, columns: Tensor, value: float) -> Tensor:
        updates = tf.fill(tf.shape(rows), tf.constant(value, scores.dtype))
        return tf.tensor_scatter_nd_update(scores, tf.stack([rows, columns], 1), updates)

    def add_at(self, matrix: Tensor, rows: Tensor, columns: Tensor, values: Tensor) -> Tensor:
        return tf.tensor_scatter_nd_add(matrix, tf.stack([rows, columns], 1), values)

    def vjp(
        self, function: Callable[[Values], tuple[Values, Values]], leaves: Values
    ) -> tuple[Values, Callable[[Values], Values], Values]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(leaves)
            outputs, extra = function(leaves)

        def pull(cotangents: Values) -> Values:
            gradients = tape.gradient(
                outputs,
                leaves,
                output_gradients={name: cotangents[name] for name in outputs},
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            return {name: _merged(gradient) for name, gradient in gradients.items()}

        return outputs, pull, extra

    def scan_blocks(self, body: Body, carry: tuple[Tensor, ...], plan: Tree) -> tuple[tuple[Tensor, ...], Any, Any]:
        size, count, ends = plan["block"], plan["num_rows"], plan["ends"]
        dtype = carry[0].dtype
        blocks = tf.shape(ends["targets"])[0] - 1

        def one(i: Tensor, carry: tuple[Tensor, ...], row: tf.TensorArray, target: tf.TensorArray) -> tuple[Any, ...]:
            start = i * size
            stop = tf.minimum(start + size, count)
            block = {name: value[start:stop] for name, value in plan["rows"].items()}
            for kind, end in ends.items():
                lo, hi = end[i], end[i + 1]
                block |= {f"{kind}/{name}": value[lo:hi] for name, value in plan[kind].items()}
            carry, of_rows, of_targets = body(carry, block)
            return i + 1, carry, row.write(i, of_rows), target.write(i, of_targets)

        arrays = [tf.TensorArray(dtype, size=blocks, infer_shape=False) for _ in range(2)]
        shapes = tuple(tf.TensorShape([None] * value.shape.rank) for value in carry)
        _, carry, row, target = tf.while_loop(
            lambda i, *_: i < blocks,
            one,
            (tf.constant(0), carry, *arrays),
            shape_invariants=(tf.TensorShape([]), shapes, tf.TensorShape(None), tf.TensorShape(None)),
            parallel_iterations=1,
        )
        return carry, row.concat(), target.concat()

    def scan(self, step: Step, state: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        return tf.scan(step, inputs, state)

    def reader(self, function: Callable[[Values, Tree], Any], variables: Values) -> Reader:
        def run(inputs: Tree) -> Any:
            return function({name: _gather(variable, None) for name, variable in variables.items()}, inputs)

        graph = _by_structure(run)
        return lambda inputs, _: graph(inputs)

    def kernel(self, kernel: Kernel) -> Callable[[Values, Tree], Loss]:
        graph = _by_structure(lambda tree: tuple(kernel(tree["at"], tree["task"])))
        return lambda at, packed: Loss(*graph({"at": at, "task": packed}))

    def stepper(self, move: Move, groups: Groups) -> Callable[[Tree, Full], Tensor]:
        def run(inputs: Tree) -> Tensor:
            rows = inputs["rows"]
            taken = {
                name: {part: _gather(variable, rows.get(name)) for part, variable in group.items()}
                for name, group in groups.items()
            }
            loss, moved = move(taken, inputs)
            for name, group in moved.items():
                for part, value in group.items():
                    _scatter(groups[name][part], rows.get(name), value)
            return loss

        graph = _by_structure(run)
        return lambda inputs, _: graph(inputs)

    def padded(self, inputs: Tree, full: Full) -> Tree:
        return inputs

    def read(self, inputs: Tree) -> Tree:
        return inputs


def _by_structure(function: Callable[[Tree], Any]) -> Callable[[Tree], Any]:
    """`function` as a graph, traced once for each structure of its inputs, whatever their lengths."""
    graphs: dict[Any, Callable[[Tree], Any]] = {}

    def run(inputs: Tree) -> Any:
        signature = tf.nest.map_structure(_any_length, inputs)
        key = _key(signature)
        if key not in graphs:
            # A partial, because TensorFlow counts traces by the code traced and would warn of the sixth model's. No
            # autograph, which nothing here needs, and which raises its StagingError in place of ours.
            graphs[key] = tf.function(partial(function), input_signature=[signature], autograph=False)
        return graphs[key](inputs)

    return run


def _key(signature: Any) -> Any:
    """The signature as something that a dict can hold."""
    if isinstance(signature, Mapping):
        return tuple((name, _key(value)) for name, value in sorted(signature.items()))
    return signature


def _any_length(value: Any) -> tf.TensorSpec:
    if isinstance(value, np.ndarray):
        return tf.TensorSpec([None] * value.ndim, tf.as_dtype(value.dtype))
    return tf.TensorSpec([None, *value.shape[1:]] if value.shape.rank else [], value.dtype)


def _gather(variable: Any, rows: Tensor | None) -> Tensor:
    value = variable.value
    return tf.identity(value) if rows is None else tf.gather(value, rows)


def _scatter(variable: Any, rows: Tensor | None, value: Tensor) -> None:
    if rows is None:
        variable.value.assign(value)
    else:
        variable.value.scatter_update(tf.IndexedSlices(value, rows))


def _merged(gradient: Any) -> Tensor:
    """Gradients of gathers come as slices, of which several may be of one row."""
    if isinstance(gradient, tf.IndexedSlices):
        return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, gradient.dense_shape[0])
    return gradient


ENGINE: Engine = TensorFlowEngine()
