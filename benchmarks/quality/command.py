"""What the commands of this folder share: their options, and data that may not be there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from sets import QualitySet, load

RESULTS = Path(__file__).parent / "results"


def parser(description: str | None, sets: Iterable[str]) -> argparse.ArgumentParser:
    """Which set, where its files are, on which backend, from which seeds, and where the JSON goes."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("set", choices=list(sets))
    made.add_argument("--data", type=Path, help="the folder of the set's files")
    made.add_argument("--backend", default="torch")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    made.add_argument("--out", type=Path, default=RESULTS)
    return made


def loaded(options: argparse.Namespace) -> QualitySet:
    """The set asked for. Where its files are not there, says so and ends the command, which is no failure."""
    try:
        data = load(options.set, options.data)
    except FileNotFoundError as error:
        print(f"{options.set} skipped: {error}", file=sys.stderr)
        sys.exit(0)
    options.out.mkdir(exist_ok=True)
    return data
