"""What declarations check their fields with."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from recs_core.contract.errors import SpecError


def require(condition: bool, where: object, message: str) -> None:
    """Raise `SpecError`, which names the class of `where`, unless the condition holds."""
    if not condition:
        raise SpecError(f"{type(where).__name__}: {message}")


def is_whole(value: object, least: int) -> bool:
    """Whether this is a whole number ≥ `least` that 64 bits hold."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 2**63


def is_finite(value: object) -> bool:
    """Whether this is a finite number; a whole one may be too large for `math.isfinite`."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def is_one_of(value: object, choices: tuple[str, ...]) -> bool:
    """Whether this is one of these words; what has no hash, or compares element by element, is none."""
    return isinstance(value, str) and value in choices


class Declared:
    """The base of all declarations: NumPy's scalars, as a search over settings draws them, become Python's."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            if isinstance(value, np.generic):
                object.__setattr__(self, field.name, value.item())
