"""The comparison: which processes run, in which order, and what they are asked."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recs_core.compare.job import Job, Purpose
from recs_core.compare.machine import usable_cpus
from recs_core.compare.planning import Plan
from recs_core.compare.processes import Answer, Workers
from recs_core.compare.progress import Board
from recs_core.compare.report import report
from recs_core.reference.backend import ORACLE

LISTS = 10


def compare(
    plan: Plan,
    backends: Sequence[str],
    *,
    logs: Path,
    command: str,
    live: bool = False,
    skipped: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Train on every backend in a process of its own, twice, and the oracle; the report as JSON data.

    Timed runs go one at a time; the oracle and the second runs, which nothing is timed of, side by side after them.
    `logs`: a folder for what failed processes printed. `skipped`: installed backends that are left out, and why. A
    backend that fails is a row with its `problem`.
    """
    with tempfile.TemporaryDirectory(prefix="recs-compare-") as folder, Board(plan.steps, live=live) as board:

        def jobs(names: Sequence[str], purpose: Purpose, stop_after: int) -> list[Job]:
            return [_job(plan, name, purpose, stop_after, Path(folder), logs) for name in names]

        logs.mkdir(parents=True, exist_ok=True)
        first = jobs(backends, "measure", plan.repeated_steps)
        oracle = jobs([ORACLE], "oracle", plan.oracle_steps)
        again = jobs(backends, "repeat", plan.repeated_steps)
        board.expect([*first, *oracle, *again])
        with Workers(board.hear) as workers:
            measured = workers.run(first)
            worth = [job for job, answer in zip(again, measured, strict=True) if answer.problem is None]
            reference, *repeated = workers.run([*oracle, *worth], at_once=min(2, usable_cpus()))
        _drop_logs([*measured, reference, *repeated], logs)
        return report(plan, measured, reference, repeated, command, dict(skipped or {}))


def _job(plan: Plan, name: str, purpose: Purpose, stop_after: int, folder: Path, logs: Path) -> Job:
    place = folder / purpose / name
    place.mkdir(parents=True)
    return Job(
        backend=name,
        purpose=purpose,
        experiment=plan.experiment.to_json(),
        queries=plan.queries if purpose != "repeat" else [],
        k=max(LISTS, plan.options.k),
        threads=plan.threads,
        folder=str(place),
        log=str(logs / f"{name}-{purpose}.log"),
        stop_after=stop_after,
    )


def _drop_logs(answers: Sequence[Answer], logs: Path) -> None:
    """Keep only what failed processes printed."""
    for answer in answers:
        if answer.problem is None:
            Path(answer.job.log).unlink(missing_ok=True)
    if not any(logs.iterdir()):
        logs.rmdir()
