"""What a check is, and the list of all of them.

A check is a plain function that takes a context and raises `CheckFailed`; it may return what it measured. Its name is
stable: others write it into their lists of expected failures. Its docstring says what to look at when it fails.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from recs_core.contract.errors import SpecError

Tier: TypeAlias = Literal["manifest", "required", "optional"]
Subject: TypeAlias = Literal["backend", "index"]

TIERS: dict[Tier, str] = {
    "manifest": "what the plugin says of itself; nothing is computed",
    "required": "what makes it the same model; none of it may be declined",
    "optional": "what a manifest may decline with a reason; the refusal is then checked instead",
}


Function: TypeAlias = "Callable[[Any], Mapping[str, float] | None]"


class CheckFailed(AssertionError):
    """What a check raises: what is wrong, what was expected and what came."""


@dataclass(frozen=True)
class Check:
    """A check and what is said of it.

    `needs`: capabilities; where a manifest declines one, the refusal is checked instead, unless not `refusable`: what
    a step costs, say, is no call that could raise. `rests_on`: checks that must pass first; where one fails, this one
    is not judged, so that one mistake makes one failure. `applies_to`: a condition on the manifest and what to say
    where it does not hold.
    """

    name: str
    subject: Subject
    tier: Tier
    function: Function
    needs: tuple[str, ...]
    rests_on: tuple[str, ...]
    formula: str
    applies_to: tuple[Callable[[Any], bool], str] | None
    refusable: bool

    @property
    def meaning(self) -> str:
        """The first paragraph of the docstring: what is checked."""
        return self._paragraphs[0]

    @property
    def advice(self) -> str:
        """The rest of the docstring: what to look at when it fails."""
        return " ".join(self._paragraphs[1:])

    @property
    def _paragraphs(self) -> list[str]:
        return [" ".join(part.split()) for part in (inspect.getdoc(self.function) or "").split("\n\n")]


CHECKS: dict[str, Check] = {}
"""Every check by its name, in the order in which they are run."""


def check(
    name: str,
    *,
    subject: Subject = "backend",
    tier: Tier = "required",
    needs: tuple[str, ...] = (),
    rests_on: tuple[str, ...] = (),
    formula: str = "",
    applies_to: tuple[Callable[[Any], bool], str] | None = None,
    refusable: bool = True,
) -> Callable[[Function], Function]:
    """Register the function below as the check `name`. It must have a docstring of a meaning and some advice."""

    def register(function: Function) -> Function:
        made = Check(name, subject, tier, function, needs, rests_on, formula, applies_to, refusable)
        if name in CHECKS:
            raise SpecError(f"there are two checks named {name!r}")
        missing = [other for other in rests_on if other not in CHECKS]
        if missing:
            raise SpecError(f"check {name!r} rests on {missing[0]!r}, which must be registered before it")
        if not (made.meaning and made.advice):
            raise SpecError(f"check {name!r} needs a docstring: its meaning, then what to look at when it fails")
        CHECKS[name] = made
        return function

    return register


def checks_of(subject: Subject, tiers: tuple[str, ...] | None = None) -> list[Check]:
    """The checks of backends or of indexes, of these tiers (None: all)."""
    return [c for c in CHECKS.values() if c.subject == subject and (tiers is None or c.tier in tiers)]
