"""What golden queries catch without digests: flipped bits, noise, and mistakes that a loader or a backend could make.

    python benchmarks/golden.py BUNDLE [--samples 1000] [--json out.json]

Each sample changes the weights in memory as named and asks the golden queries, by NumPy. Digests, which find every
flipped bit of a file, are not looked at. Samples come from seed 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ranks import report

from recs_core.bundle import Stored, Towers, golden, read
from recs_core.contract.errors import BundleError
from recs_core.contract.plans import TowerPlan
from recs_core.contract.towers import SIDES
from recs_core.runtime import NumpyTower

Weights = dict[str, NDArray[Any]]
Change = Callable[[NDArray[Any], np.random.Generator], NDArray[Any]]


def main() -> None:
    """Measure a bundle."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("bundle", type=Path)
    asked.add_argument("--samples", type=int, default=1000)
    asked.add_argument("--json", type=Path)
    options = asked.parse_args()
    stored = read(options.bundle)
    random = np.random.default_rng(0)
    rows = {}
    for name, (change, samples) in {
        "one bit flipped": (flipped_bit, options.samples),
        "its sign or exponent": (flipped_exponent, options.samples),
        "noise of 1 % in one weight array": (noise, 100),
        "noise of 0.1 % in one weight array": (slight_noise, 100),
        "one array shifted by a row": (shifted, 100),
        "one array of zeros": (zeros, 100),
        "one array transposed or reversed": (transposed, 100),
    }.items():
        rows[name] = [share(stored, change, samples, random) * 100, samples]
    report(f"Golden queries of {options.bundle.name}", ["change", "caught, %", "samples"], rows, options.json)


def share(stored: Stored, change: Change, samples: int, random: np.random.Generator) -> float:
    """Of so many weights changed, those that are noticed. An array is drawn by its size, as a failing disk would."""
    weights = stored.fitted.weights
    names = [name for name, value in weights.items() if value.size]
    sizes = np.array([weights[name].size if change in (flipped_bit, flipped_exponent) else 1 for name in names])
    caught = 0
    for _ in range(samples):
        name = names[random.choice(len(names), p=sizes / sizes.sum())]
        caught += noticed(stored, {**weights, name: change(weights[name], random)})
    return caught / samples


def noticed(stored: Stored, weights: Weights) -> bool:
    """Whether the golden queries are answered otherwise."""
    declared, fitted = stored.fitted.declared, replace(stored.fitted, weights=weights)
    towers = Towers(*(NumpyTower(TowerPlan.of(side, getattr(declared, side)), weights) for side in SIDES))
    try:
        with np.errstate(all="ignore"):
            golden.replay(stored.golden, fitted, towers, stored.golden_file, "NumPy")
    except BundleError:
        return True
    return False


def flipped_bit(value: NDArray[Any], random: np.random.Generator, lowest: int = 0) -> NDArray[Any]:
    """Bits of float32 are counted from the last of the fraction; the exponent begins at 23."""
    bits = np.array(value).view(np.uint32)
    bits.reshape(-1)[random.integers(bits.size)] ^= np.uint32(1 << int(random.integers(lowest, 32)))
    return bits.view(value.dtype)


def flipped_exponent(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    return flipped_bit(value, random, lowest=23)


def noise(value: NDArray[Any], random: np.random.Generator, size: float = 0.01) -> NDArray[Any]:
    """Relative to the root mean square of the array."""
    scale = np.sqrt(np.mean(np.square(value, dtype=np.float64)))
    return value + (size * scale * random.standard_normal(value.shape)).astype(value.dtype)


def slight_noise(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    return noise(value, random, 0.001)


def shifted(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    return np.roll(value, 1, axis=0) if value.ndim else value + 1


def zeros(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    return np.zeros_like(value)


def transposed(value: NDArray[Any], random: np.random.Generator) -> NDArray[Any]:
    square = value.ndim == 2 and value.shape[0] == value.shape[1]
    return value.T.copy() if square else value[::-1].copy() if value.ndim else -value


if __name__ == "__main__":
    main()
