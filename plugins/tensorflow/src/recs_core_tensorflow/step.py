"""What a training step computes: gather the rows a batch names, differentiate with respect to them, update them, and
scatter them back.

A trace is dear, and knows no weight: it takes them as arguments. So models of equal plans share one, and a model that
is fitted anew, of other data too, does not wait for another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from numpy.typing import NDArray

from recs_core.contract.plans import TowerPlan, UpdatePlan
from recs_core.contract.retrieval import RetrievalSpec
from recs_core_tensorflow import optimizers
from recs_core_tensorflow.adopted import AdoptedTower
from recs_core_tensorflow.data import joined
from recs_core_tensorflow.environment import tf
from recs_core_tensorflow.kernel import loss_and_gradients, scored
from recs_core_tensorflow.towers import output

Given = dict[str, dict[str, NDArray[Any]]]
Tensors = Mapping[str, Any]
Slots = Mapping[str, Mapping[str, Any]]

KEPT = 32
"""Traces that are kept when no trainer has them any more: a megabyte each, or so."""


@dataclass(frozen=True)
class Step:
    """One step, of whatever weights and slots; equal ones compute the same.

    `retrieval`: what `of` keeps of it; the rest is in the arrays of a batch. `whole`: the tables of which a batch names
    every row, in order.
    """

    query: TowerPlan | AdoptedTower
    candidate: TowerPlan | AdoptedTower
    retrieval: RetrievalSpec
    update: UpdatePlan
    whole: frozenset[str]

    @classmethod
    def of(
        cls,
        query: TowerPlan | AdoptedTower,
        candidate: TowerPlan | AdoptedTower,
        retrieval: RetrievalSpec,
        update: UpdatePlan,
        whole: frozenset[str],
    ) -> Step:
        """The step of a model, on batches that name these tables `whole`."""
        read = RetrievalSpec(
            scoring=retrieval.scoring, temperature=retrieval.temperature, hard_negatives=retrieval.hard_negatives
        )
        return cls(query, candidate, read, update, whole)

    def traced(self, variables: Tensors, slots: Slots, given: Given) -> Callable[[Given], Any]:
        """The step on these variables, for batches that hold arrays as `given`, whatever their sizes."""
        signature = tf.nest.map_structure(lambda array: tf.TensorSpec([None] * array.ndim, array.dtype), given)
        if not self._is_shared:
            own: Callable[[Given], Any] = tf.function(
                partial(self, variables, slots), input_signature=[signature], autograph=False
            )
            return own
        specs = tf.nest.map_structure(_of_any_rows, (dict(variables), dict(slots)))
        where = next(iter(variables.values())).device
        shared = _shared(self, _Structure(specs), _Structure(signature), where)

        def step(given: Given) -> Any:
            if tf.config.functions_run_eagerly():
                return self(variables, slots, given)
            return shared(variables, slots, given)

        return step

    @property
    def _is_shared(self) -> bool:
        """Whether a trace is of more than one model: a module has its variables within, and an optimizer of the user's
        own may be no key."""
        modules = not all(isinstance(tower, TowerPlan) for tower in (self.query, self.candidate))
        return not modules and _is_key(self.update)

    def __call__(self, variables: Tensors, slots: Slots, given: Mapping[str, Tensors]) -> Any:
        """The loss before the update, a scalar; weights and slots are moved."""
        plan, rows = given["plan"], given["rows"]
        gathered = {
            name: tf.convert_to_tensor(variables[name]) if name in self.whole else tf.gather(variables[name], index)
            for name, index in rows.items()
        }
        sources = {name: gathered.get(name, variables[name]) for name in slots}
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(list(sources.values()))
            weights = {**variables, **gathered}
            query = _output(self.query, given["query"], weights)
            candidate = _output(self.candidate, given["candidate"], weights)
            bias = tf.gather(gathered["task/bias"], given["bias"]["codes"]) if given["bias"] else None
            parts = scored(self.retrieval, plan, query, candidate, bias, variables.get("task/log_temperature"))
        loss, pull = _loss(self.retrieval.hard_negatives, _Structure(_of_any_size((dict(plan), parts))))(plan, parts)
        slopes = tape.gradient(
            parts, list(sources.values()), output_gradients=pull, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = {name: tf.convert_to_tensor(slope) for name, slope in zip(sources, slopes, strict=True)}
        for name, gradient in optimizers.clip(gradients, self.update.clip_norm).items():
            index = None if name in self.whole else rows.get(name)
            self._move(name, variables[name], slots[name], gradient, index, gathered.get(name), given["now"])
        return loss

    def _move(
        self, name: str, variable: Any, slots: Tensors, gradient: Any, rows: Any, value: Any, now: Tensors
    ) -> None:
        """Move a weight and its slots: the `rows` named, of which `value` and `gradient` are, or all of it (None)."""
        if rows is not None and self.update.moves_all_rows:
            gradient = tf.math.unsorted_segment_sum(gradient, rows, tf.shape(variable)[0])
            rows = value = None
        before = tf.convert_to_tensor(variable) if value is None else value
        old = {slot: tf.convert_to_tensor(v) if rows is None else tf.gather(v, rows) for slot, v in slots.items()}
        after, new = optimizers.update(self.update, name, before, old, gradient, now)
        _store(variable, rows, after)
        for slot, moved in new.items():
            _store(slots[slot], rows, moved)


class _Structure:
    """Specs of arguments as a key: of equal ones, one trace."""

    def __init__(self, nest: Any) -> None:
        self.nest, self._key = nest, repr(nest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=KEPT)
def _shared(step: Step, variables: _Structure, given: _Structure, where: str) -> Any:
    """The trace of a step; `where`: the device that it is placed on."""
    return tf.function(step.__call__, autograph=False).get_concrete_function(*variables.nest, given.nest)


@lru_cache(maxsize=KEPT)
def _loss(hard_negatives: int | None, given: _Structure) -> Any:
    """The trace of the loss and its gradients, half of that of a step, which steps of other towers share."""
    spec = RetrievalSpec(hard_negatives=hard_negatives)
    traced = tf.function(lambda plan, parts: loss_and_gradients(spec, plan, *parts), autograph=False)
    return traced.get_concrete_function(*given.nest)


def _is_key(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _of_any_size(nest: Any) -> Any:
    """The specs of tensors, sizes left open."""
    return tf.nest.map_structure(lambda x: tf.TensorSpec([None] * x.shape.rank, x.dtype), nest)


def _of_any_rows(variable: Any) -> Any:
    """The spec of a variable as an argument, of a table of any number of rows."""
    spec = tf.type_spec_from_value(variable)
    return type(spec)([None, *spec.shape[1:]] if spec.shape.rank else [], spec.dtype, spec.trainable)


def _output(tower: TowerPlan | AdoptedTower, given: Tensors, weights: Tensors) -> Any:
    """(n, output_dim) of one side, in training."""
    inputs = joined(given)
    if isinstance(tower, TowerPlan):
        return output(tower, inputs, weights)
    return tower.forward(inputs, training=True)


def _store(variable: Any, rows: Any, value: Any) -> None:
    """Write in place: the cost is that of the rows."""
    if rows is None:
        variable.assign(value)
    else:
        variable.scatter_update(tf.IndexedSlices(value, rows))
