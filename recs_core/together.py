"""A bundle that all workers of a model write together: each its own rows, so that nobody ever holds the whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from recs_core.bundle import save
from recs_core.bundle.shares import Share, make_ready, weights_of, write_share
from recs_core.config import group_of
from recs_core.contract.errors import RecsError, TrainingError
from recs_core.contract.messages import one_line
from recs_core.contract.workers import Group, is_first
from recs_core.spread import answering
from recs_core.storage.commit import take_back

if TYPE_CHECKING:
    from recs_core.two_tower import TwoTower

T = TypeVar("T")


def saving(model: TwoTower, checkpoint: Path | None) -> Callable[[], object] | None:
    """What saves the model as a bundle; None where it is saved nowhere."""
    if checkpoint is None:
        return None
    group = group_of(model.backend)
    return partial(model.save, checkpoint) if group is None else partial(_saved_together, model, group, checkpoint)


def _saved_together(model: TwoTower, group: Group, folder: Path) -> None:
    """Save the model as one bundle, to which each worker writes its own rows: nobody holds the whole. Where one fails
    worker 0 takes back what all have written."""
    try:
        _written_together(model, group, folder)
    except RecsError:
        if is_first(group.workers):
            take_back(folder)
        raise


def _written_together(model: TwoTower, group: Group, folder: Path) -> None:
    what, rank = f"the save to {folder}", group.workers.rank
    group.told(lambda: make_ready(folder), what)
    fitted = model.fitted(whole=False)
    wrote = _all_or_none(group, lambda: asdict(write_share(folder, fitted, rank, group.workers.size)), what)
    shares = [Share(**share) for share in wrote]

    def finish() -> None:
        whole = replace(fitted, weights=weights_of(folder, shares))
        save(whole, folder, towers=answering(model, whole), shares=shares)

    group.told(finish, what)


def _all_or_none(group: Group, make: Callable[[], T], what: str) -> list[T]:
    """What every worker makes, by rank. Raises what `make` raises, and `TrainingError` where another's failed."""
    made, failed = None, None
    try:
        made = make()
    except RecsError as error:
        failed = error
    said = group.all([made, None if failed is None else one_line(failed)], what)
    if failed is not None:
        raise failed
    for rank, (_, why) in enumerate(said):
        if why is not None:
            raise TrainingError(f"worker {rank} failed in {what}: {why}")
    return [value for value, _ in said]
