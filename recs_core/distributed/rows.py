"""Where the rows of a weight lie: row k of N workers' is on worker k mod N, at place k div N.

In turn, and not in blocks: vocabularies are in order of first appearance, so that the rows most asked for are the first
ones, and one worker would hold them all.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


def own_rows(weight: NDArray[Number], rank: int, size: int) -> NDArray[Number]:
    """The rows of a weight (n, …) that lie on worker `rank` of `size`, in their order; a view."""
    return weight[rank::size]


def held(number: int, rank: int, size: int) -> int:
    """How many of `number` rows lie on worker `rank`."""
    return len(range(rank, number, size))


def own_places(rows: NDArray[np.integer], rank: int, size: int) -> NDArray[np.integer]:
    """Of the rows (n,) those that lie on worker `rank`, as places among its own, in the order given."""
    return rows[rows % size == rank] // size


def lies_in_rows(weight: str) -> bool:
    """Whether the rows of a weight, by its canonical name, lie on different workers; every other weight is on each."""
    return weight.startswith("table/") or weight == "task/bias"
