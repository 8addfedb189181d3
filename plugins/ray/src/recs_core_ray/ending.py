"""How a training on Ray ends that fails: which errors end it at once, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.train import ControllerError, TrainingFailedError, UserCallback, WorkerGroupError

from recs_core.contract.errors import RecsError, TrainingError, WorkerLost
from recs_core.contract.messages import one_line


class AtOnce(UserCallback):  # type: ignore[misc]
    """Ends a training whose workers raise an error of ours: started anew they would raise it again. A worker that only
    lost another is no reason."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Ray calls it where the training is watched; what it raises is not tried again."""
        by_rank = (error for _, error in sorted(worker_exceptions.items()))
        for error in by_rank:
            if isinstance(error, RecsError) and not isinstance(error, WorkerLost):
                raise error


def in_our_words(failed: TrainingFailedError, out: Path, max_failures: int) -> RecsError:
    """What ended the training in `out`: the error that a worker raised, or which worker was lost."""
    if isinstance(failed, ControllerError) and isinstance(failed.controller_failure, RecsError):
        return failed.controller_failure
    if not isinstance(failed, WorkerGroupError):
        return TrainingError(f"recs_core_ray.fit: Ray ended the training: {one_line(failed)}")
    rank, why = _first_lost(failed.worker_failures)
    return WorkerLost(
        f"recs_core_ray.fit(max_failures={max_failures}): worker {rank} was lost, {why}; finish the run with "
        f"fit(out={str(out)!r}, resume=True), or on one machine with recs train --resume --out {out}"
    )


def _first_lost(failures: Mapping[int, Exception]) -> tuple[int, str]:
    """The first worker that did not only lose another, and in words how; the first of all where there is none."""
    rank, error = min(failures.items(), key=lambda failure: (isinstance(failure[1], WorkerLost), failure[0]))
    health = getattr(error, "health_check_failure", None)
    return rank, one_line(error) if health is None else f"its process died ({type(health).__name__})"
