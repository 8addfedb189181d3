"""Judging a mutant: the suite on it in a forked process, up to the first red check."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recs_core.conformance.registry import CHECKS, Check
from recs_core.conformance.runner import RED, Session

from . import effects
from .making import Mutant, observable
from .subjects import SUBJECTS, Kind

MEMORY = 6 * 2**30
WAIT = 5
"""Times the limit on processor seconds that a mutant may take by the clock, as on a machine that is busy."""
Function = tuple[str, str, str]
"""Subject, module and name."""


@dataclass(frozen=True)
class Verdict:
    """`status`: "required" or "optional", the tier that killed it; "survived"; or "void", where it changes nothing."""

    mutant: str
    subject: Kind
    rule: str
    status: str
    by: str  # the check, or what ended it
    seconds: float


class Coverage:
    """Of subjects as they are: the checks that call each function, and how long each check took."""

    def __init__(self) -> None:
        self.calling: dict[Function, set[str]] = {}
        self.seconds: dict[str, float] = {}

    def watch(self, session: Session) -> None:
        """Run the checks on what notes its calls."""
        for check in session.checks:
            effects.CALLED.clear()
            self.seconds[check.name] = session.outcome(check.name).seconds
            for function in effects.CALLED:
                self.calling.setdefault(function, set()).add(check.name)

    def in_order(self, session: Session, mutant: Mutant) -> Iterator[tuple[str, list[Check]]]:
        """A mutant's checks in the order of running, the quickest of each tier first: ("required", …), which has the
        manifest tier in it, then ("optional", …). Those that call what it changes come first, of both tiers, as no
        other should see it; all others follow, so that nothing survives for want of being looked at."""
        subject, _, where = mutant.where.partition("/")
        module, _, function = where.partition(".py:")
        calling = self.calling.get((subject, module, function)) if mutant.edit is not None else None
        checks = sorted(session.checks, key=lambda check: self.seconds.get(check.name, 0.0))
        for first in (True, False):
            for tier in ("required", "optional"):
                yield (
                    tier,
                    [
                        c
                        for c in checks
                        if (c.tier == "optional") == (tier == "optional")
                        and (calling is None or c.name in calling) == first
                    ],
                )


COVERAGE = Coverage()


def judged(mutant: Mutant) -> tuple[str, str]:
    """The status of a mutant, and what killed it. Runs here: call it in a process of its own."""
    try:
        session = mutant.session()
    except Exception as error:
        return "required", f"it does not load: {type(error).__name__}"
    for tier, checks in COVERAGE.in_order(session, mutant):
        for check in checks:
            outcome = session.outcome(check.name)
            if outcome.status in RED:
                cause = CHECKS[outcome.cause or check.name]
                if tier == "required" and cause.tier == "optional":
                    continue  # it is judged in its own tier, after those that need no optional check
                return tier, cause.name
    return ("void" if mutant.effect and not effects.touched else "survived"), ""


def verdict(mutant: Mutant, limit: float) -> Verdict:
    """`judged` in a fork. What crashes or takes `limit` seconds of the processor is killed by the required tier."""
    start = time.perf_counter()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which are idle here
        child = os.fork()
    if child == 0:
        _be_judged(mutant, limit, reading, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], WAIT * limit)
        said = pipe.read() if ready else b""
    if not ready:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    status, by = json.loads(said) if said else ("required", "a crash, or time" if ready else "time")
    return Verdict(mutant.name, mutant.subject.kind, mutant.rule, status, by, round(time.perf_counter() - start, 2))


def warmed(kind: Kind) -> dict[tuple[str, str, str], set[str]]:
    """What functions return, seen on subjects that must be green. The oracle's own results stay in caches."""
    for subject in SUBJECTS.values():
        if subject.kind == kind:
            session = subject.session(observable(subject))
            COVERAGE.watch(session)
            report = session.report()
            if not report.green:
                raise SystemExit(f"{subject.name} is not green as it stands\n{report.table()}")
    return effects.SEEN


def _be_judged(mutant: Mutant, limit: float, reading: int, writing: int) -> None:
    """The forked child: it says its verdict and ends, whatever happens."""
    said: Any = ("required", "a crash")
    try:
        os.close(reading)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
        said = judged(mutant)
    finally:
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
