"""What a training step computes, as functions of arrays that are equal for equal plans.

towers.vectors  weights of the rows → what the kernel reads
kernel          → the loss, and its gradients by that
towers.finish   → gradients of the weights → weights and slots after the step
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from keras import ops

from recs_core.contract.plans import UpdatePlan
from recs_core.keras_backend import optimizers
from recs_core.keras_backend.engines import Engine, Groups, Tensor, Tree, Values
from recs_core.keras_backend.kernel import Kernel, Loss, take


@dataclass(frozen=True)
class Towers:
    """Both towers and how they are moved. `query`, `candidate`: their `forward`; `trained`: the weights they read."""

    engine: Engine
    query: Callable[[Values, Tree], tuple[Tensor, Values]]
    candidate: Callable[[Values, Tree], tuple[Tensor, Values]]
    plan: UpdatePlan
    trained: tuple[str, ...]

    @property
    def encoders(self) -> bool:
        """Whether one of them has an encoder."""
        plans = (getattr(tower, "plan", None) for tower in (self.query, self.candidate))
        return any(plan is not None and plan.encoders for plan in plans)

    def vectors(self, values: Values, inputs: Tree) -> tuple[Values, Values]:
        """`query`, `candidate`, and of a model that has it the columns' `bias`; and new values of buffers."""
        query, of_query = self.query(values, inputs["query"])
        candidate, of_candidate = self.candidate(values, inputs["candidate"])
        out = {"query": query, "candidate": candidate}
        if "bias_codes" in inputs:
            out["bias"] = take(values["task/bias"], inputs["bias_codes"])
        return out, {**of_query, **of_candidate}

    def run(self, groups: Groups, inputs: Tree) -> tuple[Values, Callable[[Loss], Groups]]:
        """What the kernel reads, and `finish`: from its answer to the new groups."""
        values = {name: group["value"] for name, group in groups.items()}

        def vectors(leaves: Values) -> tuple[Values, Values]:
            return self.vectors({**values, **leaves}, inputs)

        out, pull, buffers = self.engine.vjp(vectors, {name: values[name] for name in self.trained})

        def finish(loss: Loss) -> Groups:
            gradients = dict(pull({"query": loss.query, "candidate": loss.candidate, "bias": loss.bias}))
            if "task/log_temperature" in groups:
                gradients["task/log_temperature"] = loss.log_temperature
            clipped = optimizers.clip(gradients, self.plan.clip_norm)
            moved = {n: optimizers.update(self.plan, n, groups[n], g, inputs["now"]) for n, g in clipped.items()}
            return {**moved, **{name: {"value": value} for name, value in buffers.items()}}

        return out, finish


@dataclass(frozen=True)
class Move:
    """A whole step, of the rows that a batch touches."""

    towers: Towers
    kernel: Kernel

    def __call__(self, groups: Groups, inputs: Tree) -> tuple[Tensor, Groups]:
        """The loss, and every weight and slot after the step."""
        out, finish = self.towers.run(groups, inputs)
        values = {name: group["value"] for name, group in groups.items()}
        loss = self.kernel(with_temperature(out, values), inputs["task"])
        return loss.value, finish(loss)


def with_temperature(out: Values, values: Values) -> Values:
    """What the kernel reads, of a model that learns its temperature."""
    learnt = values.get("task/log_temperature")
    return out if learnt is None else {**out, "inverse_temperature": ops.exp(-learnt)}
