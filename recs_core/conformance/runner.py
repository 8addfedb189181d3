"""Running checks: each once, in order, what rests on a failure not at all, and a report that needs no pytest."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import recs_core.conformance.checks  # noqa: F401  (registers them)
from recs_core import config
from recs_core.conformance.context import BackendContext, IndexContext
from recs_core.conformance.registry import CHECKS, TIERS, Check, CheckFailed, Subject, checks_of
from recs_core.contract.errors import SpecError, UnsupportedFeature
from recs_core.contract.manifest import BackendInfo, IndexInfo, No
from recs_core.contract.protocols import Backend, Index
from recs_core.plugin import manager

Status: TypeAlias = Literal["passed", "refused", "expected failure", "skipped", "not judged", "failed"]

MEANING_OF_STATUS: dict[Status, str] = {
    "passed": "as the oracle has it",
    "refused": "the manifest declines it with a reason, and the call raises UnsupportedFeature with that reason",
    "expected failure": "it fails, and was listed as failing, with a reason",
    "skipped": "it does not apply to this manifest",
    "not judged": "something that it rests on failed",
    "failed": "it is wrong",
}
RED: tuple[Status, ...] = ("failed", "not judged")
VARIABLES = ("RECS_", "KERAS_", "TF_", "JAX_", "XLA_", "OMP_", "MKL_")


@dataclass(frozen=True)
class Outcome:
    """What came of a check. `message` says why it did not pass; `cause` names the failure that it rests on; `measured`
    has what a check that passed has measured, by name."""

    check: str
    tier: str
    status: Status
    message: str = ""
    seconds: float = 0.0
    cause: str | None = None
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What a line about it says besides its status; a failure is told in full elsewhere."""
        if self.status == "passed":
            return ", ".join(f"{name}: {number:g}" for name, number in self.measured.items())
        return "" if self.status == "failed" else self.message.partition("\n")[0]


@dataclass(frozen=True)
class Report:
    """All outcomes, and what was run where."""

    subject: Subject
    name: str
    environment: dict[str, str]
    outcomes: list[Outcome]

    @property
    def green(self) -> bool:
        """Whether something was judged and nothing was red."""
        judged = [o for o in self.outcomes if o.status != "skipped"]
        return bool(judged) and not any(o.status in RED for o in judged)

    def count(self, status: Status) -> int:
        """How many checks came out so."""
        return sum(o.status == status for o in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON data."""
        outcomes = [dataclasses.asdict(o) for o in self.outcomes]
        return {
            "subject": self.subject,
            "name": self.name,
            "green": self.green,
            "environment": self.environment,
            "outcomes": outcomes,
        }

    def table(self) -> str:
        """The report for a terminal: a line per check, failures in full, a last line that counts."""
        width = max((len(o.check) for o in self.outcomes), default=0)
        lines = [f"{self.subject} {self.name}", *(f"  {k:<12} {v}" for k, v in self.environment.items()), ""]
        for o in self.outcomes:
            lines.append(f"{o.check:<{width}}  {o.tier:<8}  {o.status}  {o.note}".rstrip())
        for o in self.outcomes:
            if o.status == "failed":
                lines += ["", f"{o.check} failed", *(f"  {line}" for line in o.message.splitlines())]
        counts = ", ".join(f"{n} {status}" for status in MEANING_OF_STATUS if (n := self.count(status)))
        return "\n".join([*lines, "", f"{'green' if self.green else 'RED'}: {counts or 'no check was run'}"])


class Session:
    """The checks of one backend or index. Every check is run at most once, when its outcome is first asked for."""

    def __init__(
        self,
        context: BackendContext | IndexContext,
        *,
        tiers: Iterable[str] = tuple(TIERS),
        expected_failures: Mapping[str, str] | None = None,
    ) -> None:
        self.context = context
        self.subject: Subject = "index" if isinstance(context, IndexContext) else "backend"
        self.checks = checks_of(self.subject, _tiers(tiers))
        self.expected = dict(expected_failures or {})
        known = {c.name for c in checks_of(self.subject)}
        for name, reason in self.expected.items():
            if name not in known:
                raise SpecError(
                    f"expected failure {name!r} is no check of a {self.subject}; docs/conformance.md lists them"
                )
            if not reason:
                raise SpecError(f"expected failure {name!r} needs a reason")
        self._outcomes: dict[str, Outcome] = {}

    def outcome(self, name: str) -> Outcome:
        """What comes of a check."""
        if name not in self._outcomes:
            start = time.perf_counter()
            outcome = self._as_expected(self._run(CHECKS[name]))
            self._outcomes[name] = dataclasses.replace(outcome, seconds=time.perf_counter() - start)
        return self._outcomes[name]

    def _run(self, check: Check) -> Outcome:
        info = self.context.info
        if check.applies_to is not None and not check.applies_to[0](info):
            return Outcome(check.name, check.tier, "skipped", check.applies_to[1])
        declined = {name: no for name in check.needs if isinstance(no := info.capabilities.get(name, True), No)}
        if declined:
            return self._refusal(check, declined)
        for other in check.rests_on:
            below = self.outcome(other)
            if below.status in RED:
                cause = below.cause or below.check
                return Outcome(check.name, check.tier, "not judged", f"{cause} failed", cause=cause)
        try:
            measured = check.function(self.context)
        except CheckFailed as failed:
            return Outcome(check.name, check.tier, "failed", _explained(check, str(failed)))
        except Exception as error:
            return Outcome(check.name, check.tier, "failed", _explained(check, _line(error)))
        return Outcome(check.name, check.tier, "passed", measured=measured or {})

    def _refusal(self, check: Check, declined: Mapping[str, No]) -> Outcome:
        """A declared No: the same calls must raise `UnsupportedFeature` with the reason declared."""
        said = ", ".join(f"{name}: {no.reason}" for name, no in declined.items())
        if check.tier == "required":
            message = f"the manifest declines {said}; nothing that the required tier needs may be declined"
            return Outcome(check.name, check.tier, "failed", message)
        if not check.refusable:
            return Outcome(check.name, check.tier, "skipped", f"the manifest declines {said}")
        expected = f"UnsupportedFeature with the reason declared ({said})"
        try:
            check.function(self.context)
        except UnsupportedFeature as refusal:
            if any(no.reason in str(refusal) for no in declined.values()):
                return Outcome(check.name, check.tier, "refused", said)
            got = f"UnsupportedFeature: {refusal}"
        except Exception as error:
            got = _line(error)
        else:
            got = "no error: it works, so declare it"
        message = f"a call that the manifest declines\n  expected  {expected}\n  got       {got}"
        return Outcome(check.name, check.tier, "failed", message)

    def _as_expected(self, outcome: Outcome) -> Outcome:
        """A listed failure is none; a listed failure that does not fail is one."""
        reason = self.expected.get(outcome.check)
        if reason is None or outcome.status == "not judged":
            return outcome
        if outcome.status == "failed":
            return dataclasses.replace(outcome, status="expected failure", message=reason)
        message = f"it is listed as failing ({reason}) but is {outcome.status}: take it off the list"
        return dataclasses.replace(outcome, status="failed", message=message)

    def report(self, progress: Callable[[Outcome], None] | None = None) -> Report:
        """Run everything; `progress` is told of each outcome."""
        outcomes = []
        for check in self.checks:
            outcomes.append(self.outcome(check.name))
            if progress is not None:
                progress(outcomes[-1])
        return Report(self.subject, self.context.info.name, environment(self.context.info), outcomes)


def run(
    backend: str | Backend | None = None,
    *,
    index: str | Callable[[], Index] | None = None,
    workers: int = 2,
    tiers: Iterable[str] = tuple(TIERS),
    expected_failures: Mapping[str, str] | None = None,
    progress: Callable[[Outcome], None] | None = None,
) -> Report:
    """Run the suite on a backend or on an index.

    `backend`: a name as in "torch" or "keras[jax]", or a `Backend`. `index`: a name, or what makes an empty `Index`.
    `workers`: how many train together in the checks of several. `expected_failures`: check → reason. Raises `SpecError`
    for an unknown check or tier, and as `recs.backend` does.
    """
    return session(backend, index=index, workers=workers, tiers=tiers, expected_failures=expected_failures).report(
        progress
    )


def session(
    backend: str | Backend | None = None,
    *,
    index: str | Callable[[], Index] | None = None,
    workers: int = 2,
    **options: Any,
) -> Session:
    """A session, as `run` makes one."""
    if (backend is None) == (index is None):
        raise SpecError("name a backend or an index to check, one of the two")
    if index is not None:
        name = index
        make = index if callable(index) else lambda: manager.load_index(str(name), asked_by="recs check")
        return Session(IndexContext(make), **options)
    return Session(BackendContext(config.backend(backend), workers), **options)


def environment(info: BackendInfo | IndexInfo) -> dict[str, str]:
    """Versions and variables that a result depends on. Imports no framework."""
    providers = packages_distributions()
    modules = ["recs_core", "numpy", *info.requires]
    if isinstance(info, BackendInfo) and os.environ.get("KERAS_BACKEND"):
        modules.append(os.environ["KERAS_BACKEND"])
    distributions = dict.fromkeys(providers.get(module, [module])[0] for module in modules)
    out = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in distributions:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = "not installed as a distribution"
    return out | {name: value for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)}


def _tiers(tiers: Iterable[str]) -> tuple[str, ...]:
    chosen = tuple(tiers)
    for tier in chosen:
        if tier not in TIERS:
            raise SpecError(f"there is no tier {tier!r}; there are {', '.join(TIERS)}")
    return chosen


def _explained(check: Check, what: str) -> str:
    parts = [what]
    if check.formula:
        parts.append(f"  formula   {check.formula}")
    return "\n".join([*parts, f"  meaning   {check.meaning}", f"  hint      {check.advice}"])


def _line(error: Exception) -> str:
    """What was raised and where, in one line."""
    text = str(error).strip()
    *_, (frame, line) = traceback.walk_tb(error.__traceback__)
    where = f"{Path(frame.f_code.co_filename).name}, line {line}, in {frame.f_code.co_name}"
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'without a message'} ({where})"
