"""Filters: top-k among a share of 200k × 64 beside the search without a filter; conditions over a million rows.

    python benchmarks/filters.py [--candidates 200000] [--dim 64] [-k 100] [--rows 1000000] [--rounds 15]

Searches take turns in one process, for a batch of 512 queries and for one alone; what counts is the median of the
rounds' ratios to the search without a filter: at most 1.2, whatever the filter keeps. A condition is evaluated once per
model; here it is asked of a table that nobody has asked before, and should take 50 ms at most.
"""

from __future__ import annotations

import argparse

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ranks import interleaved

from recs_core.index import FilteredIndex
from recs_core.where import Filters, parse

SHARES = (0.9, 0.5, 0.1, 0.001)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--candidates", type=int, default=200_000)
    asked.add_argument("--dim", type=int, default=64)
    asked.add_argument("-k", type=int, default=100)
    asked.add_argument("--rows", type=int, default=1_000_000)
    asked.add_argument("--rounds", type=int, default=15)
    options = asked.parse_args()

    random = np.random.default_rng(0)
    index = FilteredIndex(random.standard_normal((options.candidates, options.dim), np.float32))
    kept = {f"keeps {share:.1%}": np.flatnonzero(random.random(options.candidates) < share) for share in SHARES}
    for number, rounds in ((512, options.rounds), (1, 20 * options.rounds)):
        queries = random.standard_normal((number, options.dim), np.float32)
        searches = {"no filter": lambda queries=queries: index.search(queries, options.k)}
        for name, allow in kept.items():
            searches[name] = lambda queries=queries, allow=allow: index.search(queries, options.k, allow=allow)
        wall, _ = interleaved(searches, rounds)
        rows = {name: [np.median(t) * 1e3, np.median(t / wall["no filter"])] for name, t in wall.items()}
        title = f"{number:,} queries × {options.candidates:,} × {options.dim}, k = {options.k}"
        show(title if number > 1 else title.replace("queries", "query"), ["", "ms", "of no filter's"], rows)
    wall, _ = interleaved(conditions(options.rows, random), options.rounds)
    rows = {name: [np.median(t) * 1e3, t.max() * 1e3] for name, t in wall.items()}
    show(f"Conditions over {options.rows:,} rows", ["", "ms", "slowest, ms"], rows)


def conditions(rows: int, random: np.random.Generator) -> dict[str, object]:
    """Name → the evaluation of a condition, afresh."""
    countries = np.array(["UK", "DE", "FR", "US"])[random.integers(0, 4, rows)]
    table = pa.table({"country": countries, "price": random.random(rows) * 20, "stock": random.integers(0, 100, rows)})
    text = "price < 10 and country = 'UK'"
    asked = {
        '{"country": "UK"}': {"country": "UK"},
        '{"country": ["UK", "DE"]}': {"country": ["UK", "DE"]},
        '{"price": (2, 9), "stock": (10, None)}': {"price": (2, 9), "stock": (10, None)},
        'pc.field("country") == "UK"': pc.field("country") == "UK",
        text: parse(text, table.schema),
        f"not ({text})": parse(f"not ({text})", table.schema),
    }
    return {f"`{name}`": lambda where=where: Filters(table).kept(where) for name, where in asked.items()}


def show(title: str, header: list[str], rows: dict[str, list[float]]) -> None:
    """A Markdown table on the screen."""
    print(f"### {title}\n\n| {' | '.join(header)} |\n|---{'|---:' * (len(header) - 1)}|")
    for name, numbers in rows.items():
        print(f"| {name} | {' | '.join(f'{number:.3g}' for number in numbers)} |")
    print()


if __name__ == "__main__":
    main()
