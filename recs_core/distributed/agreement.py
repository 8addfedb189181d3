"""What every worker must have been given alike, held to worker 0's before the first step."""

from __future__ import annotations

from collections.abc import Mapping

from recs_core.contract.errors import ConfigError
from recs_core.contract.workers import Group

LONGEST = 80
"""Letters of a value in the message."""


def check_agreement(group: Group, facts: Mapping[str, str]) -> None:
    """Raise `ConfigError`, on every worker, with the first worker whose `facts` (name → in words) differ from worker
    0's, the first fact that does, and both of its values. Raises `WorkerLost` if a worker gives none."""
    said = disagreement(dict(enumerate(group.all(dict(facts), "what they are to train"))))
    if said is not None:
        raise ConfigError(said)


def disagreement(each: Mapping[int, Mapping[str, str]]) -> str | None:
    """Of the facts of each worker, by rank: who first differs from worker 0, and in what; None where none does."""
    for rank, given in each.items():
        for name, value in each[0].items():
            if given.get(name) != value:
                mine, theirs = (_short(one) for one in _apart(value, str(given.get(name))))
                return (
                    f"worker {rank} and worker 0 disagree on {name}: {theirs} and {mine}; start all workers with the "
                    "same command, on the same data, in the same environment"
                )
    return None


def _apart(mine: str, theirs: str) -> tuple[str, str]:
    """Both from shortly before where they differ."""
    same = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
    start = max(0, same - LONGEST // 2) if max(len(mine), len(theirs)) > LONGEST else 0
    return mine[start:], theirs[start:]


def _short(value: str) -> str:
    return value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"
