"""What declarations check their fields with."""

from __future__ import annotations

import math

from recs_core.contract.errors import SpecError


def require(condition: bool, where: object, message: str) -> None:
    """Raise `SpecError`, which names the class of `where`, unless the condition holds."""
    if not condition:
        raise SpecError(f"{type(where).__name__}: {message}")


def is_whole(value: object, least: int) -> bool:
    """Whether this is a whole number ≥ `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_finite(value: object) -> bool:
    """Whether this is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
