"""How checks compare: every failure shows what was expected, what came, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recs_core.conformance.registry import CheckFailed

# Parity tiers: P1 is float64, P2 one step in float32, P4 the vectors of given weights in float32.
LOSS = {"float64": 1e-9, "float32": 1e-6}
"""Relative to the loss, or to 1 where it is smaller: what is left of 16 or 7 digits after some hundred terms."""
LOSS_BF16 = 2e-2
"""The same of some tens of steps with `precision="bf16"`: 8 bits of every product in a tower."""
LOSS_WORKERS = {"float64": 1e-12, "float32": 1e-5}
"""P6: several workers against one process of the same backend, after as many as 100 steps. Sums in another order."""
WEIGHT_WORKERS = {"float64": 1e-10, "float32": 1e-5}
"""The same, absolute, on weights of size 1."""
GRADIENT = {"float64": 1e-9, "float32": 1e-5}
"""Relative to the norm of each row, plus a tenth of it relative to the largest row, for rows where terms cancel."""
WEIGHT = {"float64": 1e-7, "float32": 2e-6}
"""Absolute, on weights of size 1: one rounding of the weight, and a step's relative error times the step."""
VECTOR = {"float64": 1e-10, "float32": 1e-6}
"""Absolute, on tower outputs of size 1."""


def fail(what: str, expected: Any, got: Any) -> NoReturn:
    """Raise `CheckFailed` in the one form that all failures have."""
    raise CheckFailed(f"{what}\n  expected  {_shown(expected)}\n  got       {_shown(got)}")


@contextmanager
def about(what: str) -> Iterator[None]:
    """A failure within says `what` it is about, where a check judges several things."""
    try:
        yield
    except CheckFailed as failed:
        raise CheckFailed(f"{what}: {failed}") from None


def true(condition: bool, what: str, expected: Any, got: Any) -> None:
    """Fail unless `condition`."""
    if not condition:
        fail(what, expected, got)


def same(what: str, got: Any, expected: Any) -> None:
    """Fail unless both are equal, element by element and in shape."""
    true(np.array_equal(np.asarray(got), np.asarray(expected)), what, expected, got)


def close(what: str, got: ArrayLike, expected: ArrayLike, tolerance: float) -> None:
    """Fail unless finite, equal in shape and everywhere within `tolerance` · max(1, |expected|)."""
    g, e = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    true(g.shape == e.shape, f"{what}: the shape", e.shape, g.shape)
    distance = np.abs(g - e) / np.maximum(1, np.abs(e))
    if not (distance <= tolerance).all():  # NaN is not ≤
        at = np.unravel_index(int(np.argmax(np.where(np.isnan(distance), np.inf, distance))), e.shape)
        where = f" at {tuple(int(i) for i in at)}" if e.shape else ""
        fail(f"{what}{where}: {distance[at]:.1e} apart, {tolerance:.0e} is allowed", _around(e, at), _around(g, at))


def rows_close(what: str, got: ArrayLike, expected: ArrayLike, tolerance: float) -> None:
    """Fail unless every row is within `tolerance` of its norm, and a tenth of that of the largest row's."""
    g, e = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    true(g.shape == e.shape, f"{what}: the shape", e.shape, g.shape)
    flat_g, flat_e = (a.reshape(-1, a.shape[-1]) if a.ndim > 1 else a.reshape(-1, 1) for a in (g, e))
    norm = np.linalg.norm(flat_e, axis=1)
    allowed = tolerance * norm + tolerance / 10 * max(float(norm.max(initial=0)), 1e-3)
    apart = np.linalg.norm(flat_g - flat_e, axis=1)
    if not (apart <= allowed).all():
        row = int(np.argmax(np.where(np.isnan(apart), np.inf, apart / allowed)))
        fail(
            f"{what}, row {row}: {apart[row]:.1e} apart, {allowed[row]:.1e} is allowed (norm {norm[row]:.3g})",
            flat_e[row],
            flat_g[row],
        )


def all_close(what: str, got: Mapping[str, Any], expected: Mapping[str, Any], tolerance: float) -> None:
    """`close` for arrays by name; the names must be the same."""
    true(set(got) == set(expected), f"{what}: the names", sorted(expected), sorted(got))
    for name, value in expected.items():
        close(f"{what} of {name}", got[name], value, tolerance)


def raises(what: str, error: type[Exception], call: Callable[[], Any], *, says: str = "") -> None:
    """Fail unless `call()` raises `error` with `says` in its message."""
    expected = error.__name__ + (f" with {says!r}" if says else "")
    try:
        returned = call()
    except error as raised:
        true(says in str(raised), f"{what}: the message", expected, str(raised))
    except Exception as raised:
        fail(what, expected, f"{type(raised).__name__}: {raised}")
    else:
        fail(what, expected, f"no error, but {type(returned).__name__}")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, np.ndarray):
        return np.array2string(value, precision=8, threshold=12, separator=", ").replace("\n", "")
    return str(value)


def _around(array: NDArray[np.float64], at: Any) -> Any:
    """The row that a place is in."""
    return array[at[:-1]] if array.ndim > 1 else (array if array.ndim and array.size <= 12 else float(array[at]))
