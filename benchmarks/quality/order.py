"""Whether the order of candidates says what comes next, on each set that has times.

    python benchmarks/quality/order.py [ml-1m-sequences --data DIR]

Prints the hit rates of `recs_core.recipes.order` and what they lead to, for docs/recipes.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sets import SETS, load

from recs_core import datasets
from recs_core.recipes.order import order


def main() -> None:
    """Measure one set, or those that need no files."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("set", nargs="?", choices=SETS)
    asked.add_argument("--data", type=Path)
    options = asked.parse_args()
    if options.set:
        train = {options.set: load(options.set, options.data).train}
    else:
        train = {"online-retail": load("online-retail", None).train, "synthetic": datasets.load("synthetic")}
    for name, rows in train.items():
        found = order(rows)
        guess = "sequence" if found.matters else "history"
        print(f"| {name} | {found.by_order:.3f} | {found.regardless:.3f} | `{guess}` |")


if __name__ == "__main__":
    main()
