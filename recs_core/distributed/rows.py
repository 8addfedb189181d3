"""Which weights lie on workers by their rows, and which rows are whose: row k of N workers' is on worker k mod N."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recs_core.contract.errors import DataError
from recs_core.contract.protocols import Model, Trainer
from recs_core.contract.rows import Rows
from recs_core.contract.weights import Weights


def lies_in_rows(name: str) -> bool:
    """Whether the rows of a weight, or of a slot, by its canonical name, lie on different workers; every other array is
    on each."""
    return name.startswith(("table/", "task/bias"))


def own_rows(weight: NDArray[Any], rank: int, size: int) -> NDArray[Any]:
    """The rows of a weight (n, …) that lie on worker `rank` of `size`, in their order; a view where it is an array."""
    return weight[rank::size]


def own_places(rows: NDArray[np.integer], rank: int, size: int) -> NDArray[np.integer]:
    """Of the rows (n,) those that lie on worker `rank`, as places among its own, in the order given."""
    return rows[rows % size == rank] // size


def own_weights(model: Model) -> Weights:
    """A model's weights; on several workers, where it keeps them apart, with `Rows` that hold this worker's alone."""
    given: Weights = getattr(model, "own_weights", model.weights)()
    return given


def own_state(trainer: Trainer) -> Mapping[str, NDArray[Any]]:
    """An optimizer's state, as `own_weights`."""
    given: Mapping[str, NDArray[Any]] = getattr(trainer, "own_state", trainer.state)()
    return given


def share_of(arrays: Mapping[str, NDArray[Any]], rank: int, size: int) -> dict[str, NDArray[Any]]:
    """What worker `rank` of `size` keeps of a model's arrays: its own rows, and worker 0 also all that lies whole."""
    out = {name: own_rows(array, rank, size) for name, array in arrays.items() if lies_in_rows(name)}
    whole = {name: array for name, array in arrays.items() if name not in out}
    return out if rank else out | whole


def joined(shares: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, Any]:
    """Arrays by name from what all workers keep: `Rows` where several have one. The opposite of `share_of`.

    Raises `DataError` for shares that are not of one model.
    """
    first, *others = shares
    spread = {name for name in first if lies_in_rows(name)} if others else set()
    for rank, share in enumerate(others, 1):
        for name in sorted(spread ^ set(share)):
            raise DataError(f"{name!r} is {'not in' if name in spread else 'only in'} part {rank} of {len(shares)}")
    return {name: Rows([share[name] for share in shares]) if name in spread else array for name, array in first.items()}
