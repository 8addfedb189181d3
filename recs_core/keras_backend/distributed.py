"""keras[jax] on several workers: the step as it stands, on arrays that lie on the devices of all of them.

Tables, `task/bias` and their slots are cut by rows; all other weights are on each device. So is the batch, of which the
towers' inputs are cut. XLA moves what is needed between devices: a step gathers the rows that its batch touches, and
every device puts back its own. Blocks of scores are shared out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax.sharding import PartitionSpec
from numpy.typing import NDArray

from recs_core.contract.errors import UnsupportedFeature
from recs_core.contract.guard import Guard
from recs_core.contract.towers import SIDES
from recs_core.distributed.rows import lies_in_rows
from recs_core.keras_backend.engines import Full, Groups, Tensor, Tree
from recs_core.keras_backend.engines.jax import JaxEngine
from recs_core.keras_backend.group import AXIS, Group, local
from recs_core.keras_backend.move import Move
from recs_core.keras_backend.placement import Placement, Variables


class SpreadEngine(JaxEngine):
    """See `Engine`. Its steps are called by all workers of a group, on the same batch."""

    def __init__(self, group: Group) -> None:
        self.group = group

    def scanned(self, one: Callable[..., Any], carry: Any, blocks: Any) -> tuple[Any, Any]:
        """Each device runs its own blocks, from zeros, and what they carry is added up."""
        number = len(jax.tree.leaves(blocks)[0])
        more, zeros = -number % self.group.mesh.size, jax.tree.map(jnp.zeros_like, carry)

        def share(own: Any) -> tuple[Any, Any]:
            added, parts = jax.lax.scan(one, zeros, own)
            return jax.lax.psum(added, AXIS), parts

        run = jax.shard_map(
            share,
            mesh=self.group.mesh,
            in_specs=PartitionSpec(AXIS),
            out_specs=(PartitionSpec(), PartitionSpec(AXIS)),
            check_vma=False,
        )
        added, parts = run(jax.tree.map(lambda x: jnp.pad(x, [(0, more), *[(0, 0)] * (x.ndim - 1)]), blocks))
        return jax.tree.map(jnp.add, carry, added), jax.tree.map(lambda x: x[:number], parts)

    def placed(self, inputs: Tree) -> dict[str, Any]:
        """The towers' inputs cut by rows, each device a part, where those divide; all else whole."""
        towers = {side: jax.tree.map(self._part, inputs[side]) for side in SIDES}
        return {**self.group.shared({name: tree for name, tree in inputs.items() if name not in SIDES}), **towers}

    def _part(self, array: NDArray[Any]) -> jax.Array:
        even = array.ndim and len(array) % self.group.mesh.size == 0
        laid: jax.Array = self.group.cut(array) if even else self.group.shared(array)
        return laid

    def kept(self, weight: str, value: Tensor) -> Tensor:
        where = self.group.rows if _is_cut(self.group, weight, value.shape) else self.group.whole
        return jax.lax.with_sharding_constraint(value, where)

    def stepper(self, move: Move, groups: Groups) -> Callable[[Tree, Full], Tensor]:
        run = super().stepper(move, groups)
        parts = [(weight, variable) for weight, group in groups.items() for variable in group.values()]

        def step(inputs: Tree, full: Full) -> NDArray[Any]:
            for weight, variable in parts:
                if variable.value.is_fully_addressable:  # new, or of a module that a model on one worker has set
                    variable.assign(_laid(self.group, weight, np.asarray(variable.value)))
            loss = run(inputs, full)
            jax.block_until_ready([variable.value for _, variable in parts])
            return local(loss)

        return lambda inputs, full: self.group.done(lambda: step(inputs, full), "a step")


class Spread(Placement):
    """On the devices of a group: tables have rows of zeros more, so that each device has as many."""

    def __init__(self, group: Group) -> None:
        self._group, self._version = group, 0

    def padded(self, weight: str, value: NDArray[Any], fill: float = 0.0) -> NDArray[Any]:
        if not lies_in_rows(weight):
            return value
        out = np.full((len(value) + -len(value) % self._group.mesh.size, *value.shape[1:]), fill, value.dtype)
        out[: len(value)] = value
        return out

    def write(self, weight: str, variable: keras.Variable, value: NDArray[Any]) -> None:
        variable.assign(_laid(self._group, weight, np.array(value, variable.dtype)))

    def read(self, variables: Variables) -> dict[str, NDArray[Any]]:
        values = {name: variable.value for name, variable in variables.items()}
        here = {name: np.array(value) for name, value in values.items() if value.is_fully_addressable}
        return here | self._group.gathered({name: value for name, value in values.items() if name not in here})

    def version(self, variables: Variables) -> int:
        """A count: all workers write together, and no worker has all that another may have written."""
        return self._version

    def moved(self) -> None:
        self._version += 1

    def asked(self, guard: Guard) -> Guard:
        return _Refusal("jax", "keras[jax]")


class _Refusal(Guard):
    """A guard that lets nobody in."""

    def __enter__(self) -> NoReturn:
        raise UnsupportedFeature(
            "its tables lie on several workers, so that it answers nothing alone; ask a model of its weights, "
            "TwoTower.gathered()"
        )


def _laid(group: Group, weight: str, array: NDArray[Any]) -> jax.Array:
    """An array of a weight, its value or a slot, on the devices of all."""
    laid: jax.Array = group.cut(array) if _is_cut(group, weight, array.shape) else group.shared(array)
    return laid


def _is_cut(group: Group, weight: str, shape: tuple[int, ...]) -> bool:
    return lies_in_rows(weight) and bool(shape) and shape[0] % group.mesh.size == 0
