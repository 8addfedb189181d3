"""The population stability index: how far what is seen is from what was expected, bin by bin.

    PSI = Σ_b (p_b − q_b) · ln(p_b / q_b)

p, q: the shares of what is seen and of the reference in ten bins, cut at the reference's deciles. A bin that one of
them leaves empty counts as half a value; one that both leave empty is left out. Below 0.1 is taken for steady, above
0.25 for much (Siddiqi 2006, *Credit Risk Scorecards*). Without any drift, PSI ÷ (1/n + 1/m) of n values against a
reference of m is χ² with one degree of freedom less than there are bins (Yurdakul & Naranjo 2020, *J. of Risk Model
Validation* 14:4): below its 95 % point, what is seen may be chance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BINS = 10
SOME, MUCH = 0.1, 0.25
NORMAL_95 = 1.6448536269514722
"""The point that a standard normal is below with a probability of 95 %."""

Verdict = Literal["steady", "some", "much", "too few"]


@dataclass(frozen=True)
class Drift:
    """`psi`, and the `limit` that chance alone exceeds one time in twenty. `mean`: of what is seen; `reference_mean`:
    of what was expected."""

    psi: float
    limit: float
    mean: float
    reference_mean: float

    @property
    def verdict(self) -> Verdict:
        """In words. "too few": not even much drift could be told from chance."""
        if self.limit > MUCH:
            return "too few"
        if self.psi <= max(SOME, self.limit):
            return "steady"
        return "some" if self.psi <= MUCH else "much"


def edges_of(reference: NDArray[np.floating]) -> NDArray[np.float64]:
    """(9,) deciles of the reference, where bins are cut."""
    return np.quantile(reference.astype(np.float64), np.arange(1, BINS) / BINS)


def counts_of(values: NDArray[np.floating], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """(10,) how many values lie in each bin; a value on an edge is in the upper one."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=BINS)


def psi(seen: NDArray[np.integer], expected: NDArray[np.floating], size: int) -> tuple[float, float]:
    """The index, and the limit of chance. `seen` (10,): counts; `expected` (10,): shares in a reference of `size`."""
    n = int(seen.sum())
    p, q = np.maximum(seen, 0.5) / n, np.maximum(expected, 0.5 / size)
    there = (seen > 0) | (expected > 0)
    index = float(((p - q) * np.log(p / q))[there].sum())
    return index, _chi2_95(int(there.sum()) - 1) * (1 / n + 1 / size)


def _chi2_95(freedom: int) -> float:
    """The 95 % point of χ² (Wilson & Hilferty 1931); 0 for no freedom."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + NORMAL_95 * math.sqrt(spread)) ** 3
