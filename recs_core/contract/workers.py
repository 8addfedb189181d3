"""Several processes that train one model: who they are, and what they can tell one another."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from recs_core.contract.errors import ConfigError

T = TypeVar("T")

TIMEOUT = 300.0
"""Seconds that a worker waits for the others unless it is told otherwise."""


@dataclass(frozen=True)
class Workers:
    """The workers of one training, and which of them this process is: number `rank` of `size`, from 0.

    `address` and `port`: where what they tell one another is kept; `hosts`: whether this process keeps it. `local`: the
    number of this worker on its machine. `attempt`: how many times they were started anew, so that what an earlier
    attempt told is not taken for this one's. `timeout`: seconds to wait for another worker.

    Raises `ConfigError` for a rank that is none of them, and a timeout that is no finite number above 0.
    """

    rank: int
    size: int
    address: str = "127.0.0.1"
    port: int = 29500
    hosts: bool = False
    local: int = 0
    attempt: int = 0
    timeout: float = TIMEOUT

    @property
    def meeting(self) -> tuple[str, int]:
        """Where worker 0 meets the others before they train, and a framework may keep meeting them: the port after the
        one that is named, which may be a launcher's own."""
        return self.address, self.port + 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ConfigError(f"workers: rank is one of 0 … size − 1, got rank {self.rank} of {self.size}")
        if not 0 < self.timeout < math.inf:
            raise ConfigError(f"workers: timeout is a finite number of seconds above 0, got {self.timeout!r}")


def is_first(workers: Workers | None) -> bool:
    """Whether this is the process that says and writes: worker 0, or one that trains alone."""
    return workers is None or workers.rank == 0


class Group(Protocol):
    """Workers that have found one another. All call the same methods in the same order."""

    @property
    def workers(self) -> Workers:
        """Who they are."""
        ...

    def all(self, value: Any, what: str) -> list[Any]:
        """The values of all workers, by rank, as JSON keeps them. `what` they are: for the error of one that is lost.

        Raises `WorkerLost` if one gives none within the timeout.
        """
        ...

    def told(self, make: Callable[[], T], what: str) -> T:
        """What `make` returns on worker 0, on every worker, as JSON keeps it; the others wait as long as it works.

        Raises what `make` raises on worker 0, `TrainingError` with its message on the others, and `WorkerLost` if
        worker 0 is gone.
        """
        ...
